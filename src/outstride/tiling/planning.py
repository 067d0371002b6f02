"""The tiles of a run, what is known of them beforehand, and how that is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from math import ceil, prod
from typing import Any

import torch

from outstride.errors import ArgumentError
from outstride.models.node import first_few
from outstride.output.tables import html_text
from outstride.tiling.box import Box, elements, shape_of
from outstride.tiling.budget import spelled
from outstride.tiling.costs import clock
from outstride.tiling.costs.memory import NOTHING, Bytes, bytes_of
from outstride.tiling.evaluation import INPUT, Need, Program
from outstride.tiling.outputs import Outputs
from outstride.tiling.passes import wording
from outstride.tiling.passes.walk import NO_PASSES, Schedule
from outstride.tiling.rules import is_called
from outstride.tiling.sizing import Tiles


@dataclass(frozen=True)
class TilePlan:
    """The tiles of a run, and what one takes: printable."""

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    tile: tuple[int, ...]
    """Size of a tile on the last axes of the output."""
    reads: tuple[int, ...]
    """Size of the input that a tile in the middle reads, on the last axes of the input."""
    peak_bytes: int
    """The most that is taken at a time: by a tile or a pass, by what passes keep, and by layers' kernels."""
    whole_bytes: int
    """The same for the whole output at once."""
    recomputed: float
    """Elements that tiles compute for each element that the whole computes."""
    kept: tuple[str, ...]
    """What needs every pixel, layers and operators, made once for all tiles."""
    called: int
    """Convolutions and products that are no layers but called by the model's code: torch rounds otherwise."""
    early: int = 0
    """Layers that start with a cell of their short algorithm, before what a tile needs of them."""
    early_by: int = 0
    """By how many elements along an axis, at most."""
    schedule: Schedule = NO_PASSES
    """The passes before the tiles."""
    tile_seconds: float = 0.0
    """What one tile is predicted to take, beside reading its source and storing its result."""
    inputs_read: int = 0
    """Elements of the inputs that a tile in the middle reads."""
    tile_reading: float = 0.0
    """Seconds that this takes, where it was tried."""
    threads: int = 1
    """By how many threads."""
    taken: Bytes = NOTHING
    """What one tile takes."""
    inputs: tuple[tuple[int, ...], ...] = ()
    """Shapes of all that the model is called with, of several."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each of the last axes."""
        nd = len(self.tile)
        return tuple(ceil(n / t) for n, t in zip(self.output_shape[-nd:], self.tile, strict=True))

    def __len__(self) -> int:
        return prod(self.counts) * prod(self._images)

    @property
    def seconds(self) -> float:
        """What passes and tiles are predicted to take together, beside storing the result."""
        return self.schedule.seconds + (self.tile_seconds + self.tile_reading) * self._full_tiles

    @property
    def reading_seconds(self) -> float:
        """What reading is of it, where sources are files."""
        walks = sum(walk.reading_seconds for walk in self.schedule.walks)
        return walks + self.tile_reading * self._full_tiles

    @property
    def _full_tiles(self) -> float:
        """How many tiles of full size have as many elements as all."""
        share = prod(n / t for n, t in zip(self.output_shape[-len(self.tile) :], self.tile, strict=True))
        return share * prod(self._images)

    def with_reading(self, rate: float) -> TilePlan:
        """The same where reading an element of an input takes so many seconds."""
        return replace(self, tile_reading=rate * self.inputs_read, schedule=self.schedule.with_reading(rate))

    @property
    def _images(self) -> tuple[int, ...]:
        """Leading axes that are run one by one."""
        return self.output_shape[:1] if len(self.output_shape) > len(self.tile) + 1 else ()

    def boxes(self) -> Iterator[Box]:
        """The tiles, image by image."""
        nd = len(self.tile)
        leading = [[(i, i + 1) for i in range(n)] for n in self._images]
        middle = [[(0, n)] for n in self.output_shape[len(leading) : -nd]]
        last = [
            [(a, min(a + t, n)) for a in range(0, n, t)]
            for n, t in zip(self.output_shape[-nd:], self.tile, strict=True)
        ]
        yield from product(*leading, *middle, *last)

    def to_dict(self) -> dict[str, object]:
        """The figures, for a program to read."""
        return {
            "input_shape": list(self.input_shape), "output_shape": list(self.output_shape),
            "inputs": list(map(list, self.inputs or [self.input_shape])), "tile": list(self.tile),
            "tiles": len(self), "reads": list(self.reads),
            "peak_bytes": self.peak_bytes, "whole_bytes": self.whole_bytes,
            "recomputed": self.recomputed, "kept": list(self.kept), "called": self.called,
            "predicted_seconds": self.seconds, "reading_seconds": self.reading_seconds,
            "threads": self.threads, "kernel_bytes": self.taken.kept,
            "early": self.early, "early_by": self.early_by,
            "passes": [walk.to_dict() for walk in self.schedule.walks],
            "file_bytes": self.schedule.file_bytes,
        }  # fmt: skip

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        def by(sizes: Sequence[int]) -> str:
            return " x ".join(map(str, sizes))

        read = f"{by(self.reads)} of the input" if any(self.reads) else "what passes keep"
        inputs = " and ".join(map(by, self.inputs or [self.input_shape]))
        tiles = "tile" if len(self) == 1 else "tiles"
        lines = [
            f"{inputs} to {by(self.output_shape)} in {len(self)} {tiles} of {by(self.tile)}",
            f"  a tile reads  {read}",
            f"  memory        {spelled(self.peak_bytes)}; the whole would take {spelled(self.whole_bytes)}",
            f"  computed      {self.recomputed:.2f} times what the whole computes",
            f"  time          about {clock.spelled(self.seconds)} on {self._by()}",
        ]
        if self.early:
            lines.append(
                f"  starts        up to {self.early_by} before what is needed in {self.early} layers, where "
                "cells of short algorithms do"
            )
        lines += wording.lines(self.schedule)
        if self.kept:
            lines.append(f"  made once     {first_few(self.kept)}, as every pixel is needed")
        if self.called:
            lines.append(
                f"  not layers    {self.called} convolutions and products of its code, rounded as layers are"
            )
        return "\n".join(lines)

    def _by(self) -> str:
        """How many threads, and what reading is of the time, where it is worth a word."""
        reading, threads = self.reading_seconds, f"{self.threads} thread{'s' * (self.threads > 1)}"
        is_long = reading >= clock.NAMED * self.seconds > 0
        return f"{threads}, {clock.spelled(reading)} of it reading" if is_long else threads


def plan_tiles(
    program: Program, outputs: Outputs, schedule: Schedule, tile: int | Sequence[int] | None, budget: int,
    multiples: Sequence[int] | None = None, main: int = INPUT, shapes: Sequence[tuple[int, ...]] = (),
) -> TilePlan:  # fmt: skip
    """Tiles of the caller's size, or good ones within a budget.

    ``schedule``: the passes before the tiles. ``multiples``: sizes that a tile should be a multiple of.
    ``main``: the input that tiles are said to read, ``shapes``: of all that the model is called with.

    Raises:
        ArgumentError: the tile has other than one positive size per axis.
        ShapeError: the passes or the smallest tile take more than the budget.
    """
    nodes, shape, tiled = program.graph.nodes, outputs.shape, outputs.tiled
    sizes = tuple(max(n, 1) for n in shape[-tiled:])
    tiles = Tiles(program, outputs, schedule)
    chosen = tiles.chosen(sizes, multiples, budget) if tile is None else _checked(tile, sizes)
    nothing = tuple((0, 0) for _ in nodes[main].shape)
    need, taken, seconds = tiles.need(chosen), tiles.taken(chosen), tiles.seconds(chosen)
    read = need.boxes.get(main, nothing)
    early = [n for n in (_early(program, need, index) for index in need.parts) if n]
    everything = tiles.everything()
    return TilePlan(
        nodes[main].shape, shape, chosen, shape_of(read)[-tiled:],
        max(schedule.peak_bytes, schedule.held_bytes + taken.peak), bytes_of(program, everything).peak,
        tiles.recomputed_in_all(chosen, everything), tuple(nodes[i].called for i in program.anchors),
        sum(map(is_called, nodes)),
        len(early), max(early, default=0), schedule, seconds,
        sum(elements(box) for _, box in _inputs(program, need)), 0.0, torch.get_num_threads(), taken,
        tuple(shapes) if len(shapes) > 1 else (),
    )  # fmt: skip


def read_by_some(program: Program, outputs: Outputs, plan: TilePlan) -> Iterator[Sequence[tuple[int, Box]]]:
    """The boxes of inputs that some tiles read, or some boxes of the first pass where tiles read none."""
    tiles = (outputs.boxes(tile) for tile in _some(plan.boxes(), len(plan)))
    needs = [program.needs(boxes, given=plan.schedule.given) for boxes in tiles]
    if not any(_inputs(program, need) for need in needs):
        walks = [
            (walk.target, box) for walk in plan.schedule.walks[:1] for box in _some(walk.boxes(), len(walk))
        ]
        needs = [program.needs({target: box}, given=()) for target, box in walks]
    for need in needs:
        yield _inputs(program, need)


def _some(boxes: Iterator[Box], count: int) -> list[Box]:
    """The first, and some further on."""
    wanted = {0, count // 3, count // 2}
    return [box for place, box in enumerate(islice(boxes, count // 2 + 1)) if place in wanted]


def _inputs(program: Program, need: Need) -> list[tuple[int, Box]]:
    """Those that are read."""
    return [(index, box) for index in program.graph.inputs for box in need.pieces.get(index, ())]


def _early(program: Program, need: Need, index: int) -> int:
    """How many elements before the needed ones a tensor is computed from, along the axis with the most."""
    axes = zip(need.boxes[index], program.computed(need, index), strict=True)
    return max((needed - computed for (needed, _), (computed, _) in axes), default=0)


def _checked(tile: int | Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    wanted: tuple[Any, ...] = tuple(tile) if isinstance(tile, (tuple, list)) else (tile,) * len(sizes)
    if len(wanted) != len(sizes) or any(
        isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in wanted
    ):
        raise ArgumentError(
            f"'tile' must have one positive size for each axis of the output that is cut: got {tile!r} "
            f"for {len(sizes)}; legal: 256 or {(256,) * len(sizes)}"
        )
    return tuple(min(n, size) if size else n for n, size in zip(wanted, sizes, strict=True))
