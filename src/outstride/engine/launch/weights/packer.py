"""Packing weights for one plan: into the order in which its microkernel reads them."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.engine.codegen.arguments import POSITION_FIELDS, WEIGHT_GROUP_FIELDS, WEIGHT_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.packing.squares import MOST_ROW_STEP
from outstride.engine.codegen.packing.weights import weights_source
from outstride.engine.launch.argument_block import ArgumentBlock, address, table
from outstride.engine.planner.arguments import GroupArguments, KernelArguments
from outstride.engine.planner.gather_form import AxisPhases, PhaseGroup, sums
from outstride.engine.planner.machine import CHANNEL_BLOCK
from outstride.engine.planner.plan import GatherPlan
from outstride.engine.planner.tables import round_up_line
from outstride.engine.runtime import Module, prefer_large, scratch

_W, _PACKED, _SPOILED, _SCRATCH = (
    WEIGHT_INDEX[n] for n in ("w_at", "packed_at", "spoiled", "scratch_at")
)  # fmt: skip
#: Neighbouring weights that are worth a vector that holds nothing else.
_LEAST_RUN = 4
#: Packed elements from which more than one thread is worth waking.
_PARALLEL = 1 << 16
#: Elements behind the packed weights: a vector of them may be read in advance.
_MARGIN = 64


class Packed(NamedTuple):
    """Packed weights, where they are, and whether all of them are finite."""

    values: Tensor
    pointer: int
    finite: bool


@dataclass(frozen=True)
class WeightStrides:
    """Elements between groups, outputs, channels and kernel positions of a weight as contractions see it."""

    group: int
    output: int
    channel: int
    kernel: tuple[int, int, int]


def weights_module(plan: GatherPlan) -> Module:
    """The module that packs weights for a plan."""
    dtype, short = plan.problem.dtype, plan.recipe.short
    isa = plan.machine.instruction_set
    name = "".join((f"weights_{dtype}", *(f"_{axis.name}" for axis in short)))
    return Module(name, partial(weights_source, dtype, isa, short), isa, authorship())


class Packer:
    """Packs weights for one plan and one set of strides."""

    def __init__(self, plan: GatherPlan, made: KernelArguments, strides: WeightStrides) -> None:
        p = plan.problem
        self.elements = p.groups * made.chunks * made.chunk_weights
        self.dtype = torch.float64 if p.dtype == "float64" else torch.float32
        form = (
            p.operator, p.dtype, p.kernel_size, p.stride, p.groups, p.channels, p.outputs, strides,
            plan.tile_rows, plan.blocking.chunk_outputs,
            [[along.kernel for along in g.of.axes] for g in made.groups], [a.name for a in plan.recipe.short],
        )  # fmt: skip
        self.key = sys.intern(repr(form))
        self._kernel = weights_module(plan).kernel()
        groups = [g for g in _packed(plan, made) if g.taps]
        run = _run(p.kernel_size, strides)
        tables: dict[str, array[int]] = {}
        rows = []
        for i, g in enumerate(groups):
            places = list(g.of.kernel_places(strides.kernel))
            taps = tables[f"taps_{i}"] = array("q", chain.from_iterable(places))
            rows.append(
                {
                    "tiles": g.tiles, "members": g.members, "taps": g.taps, "w_offset": g.w_offset,
                    "taps_at": address(taps), "row_step": _row_step(strides.output, places),
                }
            )  # fmt: skip
        tables["phase_groups_at"] = table(WEIGHT_GROUP_FIELDS, rows)
        # Rows that lie as near to each other as they can need no squares.
        near = run == 1 or prod(p.kernel_size) <= MOST_ROW_STEP
        near = near and all(row["row_step"] for row in rows)
        in_squares = [g for g in groups if run and g.members == 1 and not near]
        if in_squares:
            tables["positions_at"] = _positions(in_squares, p.kernel_size, strides)
        scalars = {
            "tasks": p.groups * made.chunks, "chunks": made.chunks,
            "chunk_outputs": plan.blocking.chunk_outputs,
            "outputs": p.outputs, "channels": p.channels, "width": plan.tile_rows,
            "w_stride_g": strides.group, "w_stride_m": strides.output, "w_stride_c": strides.channel,
            "packed_stride_g": made.chunks * made.chunk_weights, "packed_stride_chunk": made.chunk_weights,
            "phase_groups": len(rows), "kernel": prod(p.kernel_size), "run": run,
            "square_tiles": in_squares[0].tiles if in_squares else 0,
            "product_pitch": made.groups[0].tiles * plan.tile_rows * p.channels,
        }  # fmt: skip
        # Of short algorithms a block of channels as it lies, which products are summed from.
        terms = CHANNEL_BLOCK * plan.tile_rows + _MARGIN if p.short else 0
        panel_bytes = round_up_line(prod(p.kernel_size) * terms * self.dtype.itemsize)
        starts_bytes = round_up_line(8 * prod(p.kernel_size)) if in_squares else 0
        self._scratch_bytes = panel_bytes + starts_bytes
        scalars |= {"starts_bytes_offset": panel_bytes, "scratch_bytes": self._scratch_bytes}
        self._block = ArgumentBlock.of(WEIGHT_INDEX, scalars, tables)

    def pack(self, pointer: int, threads: int, buffer: Tensor | None = None) -> Packed:
        """The weight at an address in the order of the microkernel, in the buffer if one is given."""
        if buffer is None:
            buffer = torch.empty(self.elements + _MARGIN, dtype=self.dtype)
            prefer_large(buffer.data_ptr(), buffer.nbytes)
        packed_at = buffer.data_ptr()
        block = self._block.fresh()
        block[_W], block[_PACKED] = pointer, packed_at
        workers = threads if self.elements > _PARALLEL else 1
        if self._scratch_bytes:
            block[_SCRATCH] = scratch(self._scratch_bytes * workers)
        self._kernel.launch(address(block), workers)
        return Packed(buffer, packed_at, not block[_SPOILED])


def _packed(plan: GatherPlan, made: KernelArguments) -> Sequence[GroupArguments]:
    """The phase groups whose taps are packed; of short axes the kernel as it is, for all products."""
    if not plan.problem.short:
        return made.groups
    kernel = plan.problem.kernel_size
    axes = tuple(AxisPhases((0,), tuple(range(n)), (tuple(range(n)),)) for n in kernel)
    return [replace(made.groups[0], taps=prod(kernel), of=PhaseGroup(axes))]


def _run(kernel_size: Sequence[int], strides: WeightStrides) -> int:
    """The kernel positions of a row that are read in one go: all; one where channels lie side by side; none.

    The weights of a few positions alone fill no vector: those of a channel are followed by the next one's.
    """
    _, height, width = kernel_size
    positions, order = prod(kernel_size), (height * width, width, 1)
    in_order = all(n == 1 or s == o for n, s, o in zip(kernel_size, strides.kernel, order, strict=True))
    if in_order and (positions >= _LEAST_RUN or strides.channel == positions):
        return positions
    return int(strides.channel == 1)


def _row_step(output: int, places: Sequence[Sequence[int]]) -> int:
    """Elements from row to row, which are the members of each output; 0 if they are many or not the same."""
    step, rest = divmod(output, len(places))
    same = all(
        n == first + i * step for i, row in enumerate(places) for n, first in zip(row, places[0], strict=True)
    )
    return step if same and not rest and 1 <= step <= MOST_ROW_STEP else 0


def _positions(
    groups: Sequence[GroupArguments], kernel_size: Sequence[int], strides: WeightStrides
) -> array[int]:  # fmt: skip
    """The table of kernel positions, of groups of one phase."""
    _, height, width = kernel_size
    offsets = sums([[i * s for i in range(n)] for n, s in zip(kernel_size, strides.kernel, strict=True)])
    rows = [{"offset": offset, "place": 0, "taps": 0, "tap": -1} for offset in offsets]
    for g in groups:
        for tap, position in enumerate(next(g.of.kernel_places((height * width, width, 1)))):
            rows[position] |= {"place": g.w_offset, "taps": g.taps, "tap": tap}
    return table(POSITION_FIELDS, rows)
