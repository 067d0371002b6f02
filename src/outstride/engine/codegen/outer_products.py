"""The microkernel of most dataflows: a register tile, one outer product per term, in the order of law 4.

    for block in channel blocks:              # `full` long, the last one `rest` long
        for first, last in runs of taps:      # but for those outside the input for the whole box
            for k in taps x channels of run:  # offsets come from a table, weights stream in this very order
                acc[i][j] = fma(broadcast_i, vector_j, acc[i][j])

Which operand lies in vectors and which is broadcast is the dataflow's to say (`OuterProduct`). Either way an
output element sees the same chain of fused multiply-adds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.codegen.registers import Sums, read_row, write_row, zero_sums
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.machine import LINE_BYTES


class Parameters(NamedTuple):
    """The parameters of the microkernel."""

    #: The first input of the tile in the strip; of pixels by list the strip itself.
    x: Value
    #: Of pixels by list: their offsets in the strip, i32.
    pixels: Value
    #: Packed weights of the tile.
    w: Value
    #: Where its results go, a row for each output channel, and elements from row to row.
    results: Value
    results_pitch: Value
    #: Full channel blocks: how many, the offsets of the terms of one (i32), and its channels.
    full_blocks: Value
    full: Value
    full_channels: Value
    taps: Value
    #: Pairs of taps [first, last), i64, and how many.
    runs: Value
    run_count: Value
    #: Strip elements from one channel block to the next.
    block_pitch: Value
    #: The last channel block if it is partial: the offsets of its terms, and its channels or 0.
    rest: Value
    rest_channels: Value
    #: 0: start from +0; 1: go on from the results.
    resume: Value
    #: What the epilogue adds to every row in the end, if the tile applies it; null: nothing.
    bias: Value
    #: Of tiles that prefetch weights: the first line that is asked for, and bytes from term to term.
    later: Value
    later_step: Value


_POINTERS = ("x", "pixels", "w", "results", "full", "runs", "rest", "bias", "later")
_PARAMETERS = [(name, PTR if name in _POINTERS else I64) for name in Parameters._fields]


class TileResults(ABC):
    """Where a tile's results lie in memory, and the way between there and the registers."""

    @abstractmethod
    def read(self, sums: Sums) -> None:
        """Set the sums to the results so far."""

    @abstractmethod
    def write(self, sums: Sums) -> None:
        """Write the sums."""


@dataclass(frozen=True)
class ResultRows(TileResults):
    """Results of which each row of sums lies side by side, wherever rows begin."""

    k: Vectors
    tile: Tile
    p: Parameters

    @abstractmethod
    def start(self, row: int) -> Value:
        """Where a row begins."""

    def read(self, sums: Sums) -> None:
        """Set the sums to the results so far."""
        for i, row in enumerate(sums):
            read_row(self.k, self.start(i), row)

    def write(self, sums: Sums) -> None:
        """Write the sums."""
        for i, row in enumerate(sums):
            write_row(self.k, self.start(i), row)


class OuterProduct(ABC):
    """What a dataflow decides of the microkernel."""

    @abstractmethod
    def results(self, k: Vectors, tile: Tile, p: Parameters) -> TileResults:
        """Where the results lie."""

    @abstractmethod
    def inputs(self, k: Vectors, tile: Tile, p: Parameters) -> list[Value]:
        """Where the inputs of the first term lie: of the tile, or of each of its pixels."""

    @abstractmethod
    def width(self, tile: Tile, lanes: int) -> int:
        """Packed weights of a term."""

    @abstractmethod
    def term(
        self, k: Vectors, tile: Tile, sums: Sums, weights: Value, inputs: list[Value], offset: Value
    ) -> None:  # fmt: skip
        """Add a term to every sum: inputs at an offset, and weights."""

    def finish(self, k: Vectors, tile: Tile, p: Parameters, sums: Sums) -> None:
        """What is done to the sums before they are written: nothing, where results wait in scratch."""
        del k, tile, p, sums

    def microkernel(self, tile: Tile, e: Element, lanes: int) -> Function:
        """The function that computes a tile."""
        f = Function(tile.name, _PARAMETERS)
        k, p = Vectors(f, e, lanes), Parameters(*f.parameters)
        sums = zero_sums(k, tile.rows, tile.vectors)
        results = self.results(k, tile, p)
        with f.when(f.compare("ne", p.resume, 0)):
            results.read(sums)
        bases = self.inputs(k, tile, p)
        weight = f.variable(PTR)
        width = self.width(tile, lanes)
        later = f.variable(PTR, p.later) if tile.prefetches else None
        block_weights = f.mul(f.mul(p.full_channels, p.taps), width)
        blocks = f.add(p.full_blocks, f.word(f.compare("ne", p.rest_channels, 0)))
        with f.loop(0, blocks) as block:
            whole = f.compare("slt", block, p.full_blocks)
            table = f.select(whole, p.full, p.rest)
            channels = f.select(whole, p.full_channels, p.rest_channels)
            start = f.mul(block, p.block_pitch)
            here = [f.at(b, start, e.accumulator) for b in bases]
            panel = f.at(p.w, f.mul(block, block_weights), e.accumulator)
            with f.loop(0, p.run_count) as run:
                first, last = (_tap(f, p, run, i, channels) for i in range(2))
                f.set(weight, f.at(panel, f.mul(first, width), e.accumulator))
                # Counted up to zero, a loop needs no register for its end.
                end = f.at(table, last, "i32")
                with f.loop(f.sub(first, last), 0) as term:
                    if later is not None:
                        place = f.get(later, PTR)
                        for line in range(0, width * e.accumulator_bytes, LINE_BYTES):
                            f.prefetch(f.at(place, line, "i8"))
                        f.set(later, f.at(place, p.later_step, "i8"))
                    offset = f.load_i32(end, term)
                    now = f.get(weight, PTR)
                    self.term(k, tile, sums, now, here, offset)
                    f.set(weight, f.at(now, width, e.accumulator))
        self.finish(k, tile, p, sums)
        results.write(sums)
        return f


def _tap(f: Function, p: Parameters, run: Value, which: int, channels: Value) -> Operand:
    """The first term of a run of taps, or the one behind its last."""
    return f.mul(f.load_i64(p.runs, f.add(f.mul(run, 2), which)), channels)
