"""The loops over register tiles: what all of them share. Each dataflow writes its own.

Which of them runs is an argument; a kernel holds those that its sizes may ask for.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen.box import Box, Region
from outstride.engine.codegen.context import Context
from outstride.engine.codegen.ir import I64, PTR, Operand, Value
from outstride.engine.codegen.packing.prefetch import prefetch
from outstride.engine.codegen.taps import Taps
from outstride.engine.planner.dataflow import LOOPS
from outstride.engine.planner.machine import CHANNEL_BLOCK


@dataclass(frozen=True)
class Pass:
    """What every tile of a pass over channels is told: channel blocks, whether to resume, and its taps."""

    full_blocks: Operand
    rest_channels: Operand
    block_pitch: Operand
    resume: Operand
    taps: Taps
    #: Whether tiles look for runs of taps of their own.
    searched: Value
    #: The table of what is prefetched before each tile.
    prefetch_table: Value


@dataclass(frozen=True)
class Outputs:
    """Outputs of a tile: channel 0 of the first image, the first, how many; the group's first channel."""

    target: Value
    first: Operand
    count: Operand
    first_channel: Value


@dataclass(frozen=True)
class TileLoop:
    """What the loops over the tiles of some outputs of a phase group walk over: a box of the packed input.

    `row` is where the results go in scratch, `room` where a tile's may go for a moment; `g` are the numbers
    of the group, which lie at `group`.
    """

    k: Context
    group: Value
    g: dict[str, Value]
    box: Box
    strip: Value
    w: Value
    row: Value
    room: Value
    run: Pass
    outputs: Outputs

    def times(self, loop: str, count: Operand) -> Operand:
        """How often a loop runs: not at all where the plan has chosen another."""
        f = self.k.f
        return f.select(f.compare("eq", self.k.a["loop"], LOOPS.index(loop)), count, 0)

    def all_taps(self, region: Operand = 0) -> tuple[Value, Value]:
        """The runs of taps of a region."""
        return self.run.taps.of(self.k, self.g, region)

    def own_taps(
        self, region: Region, box: Box, first: Operand, length: Operand, runs: tuple[Value, Value]
    ) -> tuple[Value, Value]:
        """The runs of taps of a tile over `length` results of a region: its own, or the region's."""
        f, taps = self.k.f, self.run.taps
        last = f.sub(f.add(first, length), 1)
        found = f.variable(I64, Value("-1", I64))
        f.set(found, Value("-1", I64))
        with f.when(self.run.searched):
            f.run(
                "tile_runs", self.k.block, self.group, taps.tile_room, region.pointer, *box.numbers, first,
                last,
            )  # fmt: skip
            f.set(found, f.load_i64(taps.tile_room, 0))
        count = f.get(found, I64)
        own = f.compare("sge", count, 0)
        return f.select(own, f.at(taps.tile_room, 1, I64), runs[0]), f.i64(f.select(own, count, runs[1]))

    def prefetch(self) -> None:
        """Prefetch some of the input that is packed next: before each tile."""
        prefetch(self.k, self.run.prefetch_table)

    def call(self, *arguments: Operand) -> None:
        """Call the tile's microkernel."""
        self.k.f.run(self.k.a["tile_at"], *arguments)

    @property
    def channels(self) -> Operand:
        """The channels of the pass."""
        f, run = self.k.f, self.run
        return f.add(f.mul(run.full_blocks, CHANNEL_BLOCK), run.rest_channels)

    @property
    def blocks(self) -> tuple[Operand, ...]:
        """The full channel blocks: how many, the table of the terms of one, its channels."""
        return self.run.full_blocks, self.g["full_at"], CHANNEL_BLOCK

    @property
    def rest(self) -> tuple[Operand, ...]:
        """From block to block, the last block's table and channels, and whether sums go on from results."""
        run = self.run
        return run.block_pitch, self.g["rest_at"], run.rest_channels, run.resume


#: What the microkernel is told of a tile that asks for no weights.
NO_LATER: tuple[Operand, ...] = (Value("null", PTR), 0)


@dataclass(frozen=True)
class Later:
    """What each of some tiles, which read the same weights, asks for of the next outputs' weights: a share.

    The last one alone would ask for more in its time than memory delivers.
    """

    loop: TileLoop
    #: A variable for where the tile's share begins, bytes of it with each term, and in all.
    place: Value
    step: Operand
    share: Operand

    @classmethod
    def of(cls, loop: TileLoop, tiles: Operand) -> Later:
        """Before the first of so many tiles."""
        f, e = loop.k.f, loop.k.e
        step = f.ceil_div(f.mul(loop.k.a["tile_outputs"], e.accumulator_bytes), f.maximum(tiles, 1))
        place = f.variable(PTR)
        f.set(place, f.at(loop.w, loop.g["w_tile_stride"], e.accumulator))
        return cls(loop, place, step, f.mul(step, f.mul(loop.channels, loop.g["taps"])))

    def arguments(self) -> tuple[Operand, Operand]:
        """What a tile's microkernel is told."""
        return self.loop.k.f.get(self.place, PTR), self.step

    def go_on(self) -> None:
        """After a tile."""
        f = self.loop.k.f
        f.set(self.place, f.at(f.get(self.place, PTR), self.share, "i8"))
