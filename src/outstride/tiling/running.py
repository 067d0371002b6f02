"""A model made ready for an input of any size: its plan, and its tiles with the bits of the whole."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from outstride.errors import ArgumentError
from outstride.models.graph import Input
from outstride.models.isolation import undisturbed
from outstride.models.node import Node, first_few
from outstride.models.operators import norms, pointwise, recurrent
from outstride.tiling import arrays
from outstride.tiling.box import Box, elements, replaced, whole
from outstride.tiling.budget import budget_of
from outstride.tiling.capturing import served_call
from outstride.tiling.costs.clock import spelled
from outstride.tiling.costs.pacing import Left, Pace
from outstride.tiling.costs.reading import is_file, seconds_an_element
from outstride.tiling.evaluation import Program
from outstride.tiling.files.writers.plain import CHUNK
from outstride.tiling.inputs import Inputs, as_shapes, is_cut, opened
from outstride.tiling.loops import check_steps_of_call
from outstride.tiling.outputs import Outputs
from outstride.tiling.passes.scheduling import Scheduler
from outstride.tiling.passes.walk import Walk
from outstride.tiling.passes.walking import check_room, scratch_folder, walked
from outstride.tiling.planning import TilePlan, plan_tiles, read_by_some
from outstride.tiling.quiet import TRIALS, silent
from outstride.tiling.showing import NO_BAR, Bar, bar
from outstride.tiling.surroundings import Surroundings
from outstride.tiling.trimming import Room

#: Plans that are kept for sizes that come again: each has the model's weights.
_MOST_RUNS = 4
#: Axes that are cut, at most.
_MOST_AXES = 3


@dataclass(frozen=True)
class Course:
    """How a run goes: which tiles are made, and who is told what."""

    progress: bool = False
    """Whether a bar is shown."""
    asked: Callable[[Box], bool] = lambda _: True
    """Whether a tile is to be made."""
    written: Callable[[Box], object] = lambda _: None
    """Is told each tile that was."""
    has: Callable[[int, Box], bool] = lambda *_: False
    """Whether one of several results, by its place, has its part of a tile already."""
    ending: Callable[[], float] = float
    """Says how many seconds it takes to make files of the numbers when all are there."""
    goes_on: Callable[[Left], object] = lambda _: None
    """Is told what is left, when some tiles are there."""


_SILENT = Course()


class TileRun:
    """A model made ready for its sources: its plan, and what runs it."""

    _pace: Pace | None = None

    @undisturbed()
    def __init__(
        self, model: torch.nn.Module, source: Any, tile: int | Sequence[int] | None = None,
        memory: int | str | None = None, out: Any = None, scratch: str | Path | None = None,
    ) -> None:  # fmt: skip
        check_model(model)
        self.inputs = Inputs.of(source)
        for place in self.inputs.places:
            arrays.check_source(self.inputs.leaves[place], self.inputs.names[place])
        self.scratch = scratch_folder(scratch)
        main = self.inputs.main(sliding_axes(model))
        self.source = self.inputs.leaves[main]
        self.dtype = dtype_of(model, self.source)
        nd = spatial_axes(model, self.source.shape)
        self.boxed = tuple(
            place
            for place in self.inputs.places
            if place == main or is_cut(self.inputs.leaves[place].shape, self.source.shape, nd)
        )
        self.dtypes = tuple(map(self._dtype_of, self.boxed))
        self.call = self._called()
        if any(isinstance(module, recurrent.LAYER) for module in model.modules()):
            check_steps_of_call(model, *self.call, "run in tiles")
        with silent(TRIALS):
            self.program = Program(served_call(model, *self.call))
        self.program.read_bytes = {
            index: arrays.reading_bytes(self.inputs.leaves[place], dtype)
            for index, (place, dtype) in enumerate(zip(self.boxed, self.dtypes, strict=True))
        }
        self.outputs = Outputs.of(self.program.graph, nd)
        self._main = self.boxed.index(main)
        if _has_channels_last(self.program, self.outputs, self._main):
            self.outputs = replace(self.outputs, most=self.outputs.most + 1)
            tile = _with_channels(tile, self.outputs)
        self.output, self._budget = self.outputs.main, budget_of(memory)
        self.schedule = Scheduler(self.program, self.outputs.indices, self._budget).schedule()
        self._planned = partial(
            plan_tiles, self.program, self.outputs, self.schedule, budget=self._budget,
            multiples=chunks_of(out, self.outputs.tiled), main=self._main,
            shapes=[tuple(source.shape) for source in self.inputs.sources],
        )  # fmt: skip
        self._reading: float | None = None
        self.plan: TilePlan = self._with_reading(self._planned(tile))

    def _called(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the model is called with: sizes of what is read in boxes, the numbers of what is small."""
        leaves = list(self.inputs.leaves)
        for place in self.inputs.places:
            source, dtype = leaves[place], self._dtype_of(place)
            strides = arrays.strides_of(source, dtype)
            if place in self.boxed:
                leaves[place] = Input(tuple(source.shape), dtype, strides)
            else:
                made = arrays.read(source, whole(source.shape), dtype).clone()
                leaves[place] = made.contiguous() if strides is None else made
        return self.inputs.call(leaves)

    def _dtype_of(self, place: int) -> torch.dtype:
        """The type in which a source is handed over: of several, labels and masks have their own."""
        own = None if self.inputs.alone else arrays.label_dtype(self.inputs.leaves[place])
        return own or self.dtype

    @property
    def node(self) -> Node:
        """The finest of the tensors that the model returns."""
        return self.program.graph.nodes[self.output]

    def nodes(self) -> list[Node]:
        """The tensors that the model returns, in its order."""
        return [self.program.graph.nodes[index] for index in self.outputs.indices]

    def take(self, tile: Sequence[int]) -> None:
        """Plan with tiles of this size, which somebody else has chosen."""
        self.plan = self._with_reading(self._planned(tile))

    def on(self, inputs: Inputs) -> TileRun:
        """The same for other sources of the same sizes and types, all of which are read by boxes."""
        found = copy(self)
        found.inputs, found.source = inputs, inputs.leaves[self.boxed[self._main]]
        return found

    @undisturbed()
    def __call__(self, out: Any, course: Course = _SILENT) -> Any:
        """Fill ``out``, or arrays made for it, and return it."""
        targets = self.outputs.targets(out)
        for place, node in enumerate(self.nodes()):
            if targets[place] is None:
                targets[place] = arrays.made_for(self.source, node.shape, node.dtype)
            else:
                arrays.check_target(targets[place], node.shape, node.dtype)
        boxes = [box for box in self.plan.boxes() if course.asked(box)]
        if boxes:
            is_long = len(boxes) > 1 or bool(self.plan.schedule.walks)
            each = self.plan.tile_seconds + self.plan.tile_reading
            length = self.plan.schedule.seconds + len(boxes) * each
            with (
                Room(self._budget) as room,
                bar(length, course.progress and is_long) as shown,
                self._walked(room, shown),
                self._paced(len(boxes), course, shown) as pace,
            ):
                for box in shown(boxes, f"{len(boxes)} tiles", each):
                    made = self._made(box, room)
                    with pace.during("storing"):
                        while made:
                            index, part, tensor = made.pop(0)
                            for place, target in enumerate(targets):
                                if self.outputs.indices[place] == index and not course.has(place, box):
                                    arrays.write(target, part, tensor)
                            del tensor  # before the next is made
                        course.written(box)
                    pace.over()
        return self.outputs.wrapped(targets) if out is None else out

    @contextmanager
    def _paced(self, count: int, course: Course, shown: Bar) -> Iterator[Pace]:
        """While tiles are made, whose times say how long the others take."""

        def goes_on(left: Left) -> None:
            shown.say(f"{count} tiles" + (f", then {spelled(left.ending)}" if left.ending >= 1 else ""))
            course.goes_on(left)

        self._pace = Pace(count, course.ending, goes_on)
        try:
            yield self._pace
        finally:
            self._pace = None

    @undisturbed()
    def tiles(self, boxes: Sequence[Box]) -> list[dict[int, torch.Tensor]]:
        """Of some tiles what they are of each tensor that the model returns."""
        with Room(self._budget) as room, self._walked(room):
            return [{index: made for index, _, made in self._made(box, room)} for box in boxes]

    def _walked(self, room: Room, shown: Bar = NO_BAR) -> AbstractContextManager[None]:
        """While the passes' results are there."""
        check_room(self.schedule, self.scratch)
        walks = partial(_shown_walk, shown)
        return walked(self.program, self.schedule, self._read, self.scratch, room, walks)

    def _made(self, box: Box, room: Room) -> list[tuple[int, Box, torch.Tensor]]:
        """The parts that belong to a tile, of each tensor that has one."""
        boxes = self.outputs.boxes(box)
        need = self.program.needs(boxes)
        made = self.program.run_all(need, self._read, room.box(self.program, need))
        return [(index, part, made[index]) for index, part in boxes.items() if elements(part)]

    def _read(self, index: int, box: Any) -> torch.Tensor:
        with nullcontext() if self._pace is None else self._pace.during("reading"):
            return arrays.read(self.inputs.leaves[self.boxed[index]], box, self.dtypes[index])

    def _with_reading(self, plan: TilePlan) -> TilePlan:
        """The same with what reading takes, where sources are files; it is tried once."""
        if not any(is_file(self.inputs.leaves[place]) for place in self.boxed):
            return plan
        if self._reading is None:
            parts = self.program, self.outputs, plan
            self._reading = seconds_an_element(self._read, read_by_some(*parts))
        return plan.with_reading(self._reading)


class Runs:
    """A model made ready for sources one after the other: once for all of the same sizes, if it can be."""

    def __init__(
        self, model: torch.nn.Module, tile: int | Sequence[int] | None = None,
        memory: int | str | None = None, scratch: str | Path | None = None,
    ) -> None:  # fmt: skip
        self.model, self.tile, self.memory = model, tile, memory
        self._ready = partial(TileRun, model, tile=tile, memory=memory, scratch=scratch)
        self._latest = OrderedDict[Any, TileRun]()

    def of(self, inputs: Inputs, out: Any) -> TileRun:
        """The run for some sources and where their results go."""
        key = (Surroundings.now(), chunks_of(out, _MOST_AXES), *map(_kind, inputs.leaves))
        if key in self._latest:
            self._latest.move_to_end(key)
            return self._latest[key].on(inputs)
        run = self._ready(inputs, out=out)
        if run.boxed == inputs.places:  # numbers of what is small are in the graph
            self._latest[key] = run.on(inputs.mapped(lambda _: None))
            if len(self._latest) > _MOST_RUNS:
                self._latest.popitem(last=False)
        return run


def _kind(leaf: Any) -> Any:
    """What decides of an input how a model is captured: size, type and layout, or the number itself."""
    if not hasattr(leaf, "shape"):
        return repr(leaf)
    stride = getattr(leaf, "stride", None)
    strides = stride() if callable(stride) else getattr(leaf, "strides", None)
    return tuple(leaf.shape), str(leaf.dtype), strides


def _shown_walk(shown: Bar, walk: Walk) -> Iterable[Box]:
    """The boxes of a pass."""
    return shown(walk.boxes(), f"{len(walk)} boxes for {first_few(walk.names)}", walk.all_seconds / len(walk))


def check_model(model: Any) -> None:
    """Refuse what is no model, or one that would do something else at every call.

    Raises:
        ArgumentError: no module, or one with layers in training mode that work otherwise there.
    """
    if not isinstance(model, torch.nn.Module):
        raise ArgumentError(f"'model' must be a torch.nn.Module: got {type(model).__name__}; legal: a module")
    for name, module in model.named_modules():
        if module.training and isinstance(module, (norms.BATCH_FAMILY, pointwise.DROPOUT_FAMILY)):
            raise ArgumentError(
                f"'model' must be in inference mode: got {name or type(module).__name__!r} in training mode; "
                "legal: model.eval()"
            )


def chunks_of(out: Any, axes: int) -> tuple[int, ...] | None:
    """Sizes in which a result is stored, for tiles that are multiples: else chunks are written twice."""
    if isinstance(out, (str, Path)):
        return (CHUNK,) * axes if Path(out).suffix.lower() == ".zarr" else None
    chunks = getattr(out, "shards", None) or getattr(out, "chunks", None)
    return tuple(chunks[-axes:]) if isinstance(chunks, tuple) else None


def dtype_of(model: torch.nn.Module, source: Any) -> torch.dtype:
    """The type in which a model computes: that of its weights, without any that of a floating source."""
    for tensor in model.parameters():
        if tensor.dtype.is_floating_point:
            return tensor.dtype
    if isinstance(source, torch.Tensor) and source.dtype.is_floating_point:
        return source.dtype
    return torch.float64 if str(getattr(source, "dtype", "")) == "float64" else torch.float32


def _with_channels(tile: int | Sequence[int] | None, outputs: Outputs) -> int | Sequence[int] | None:
    """A caller's tile of positions with all channels, which lie behind them."""
    nd, channels = outputs.tiled - 1, outputs.shape[-1]
    if isinstance(tile, int):
        return (*[tile] * nd, channels)
    return (*tile, channels) if isinstance(tile, (tuple, list)) and len(tile) == nd else tile


def _has_channels_last(program: Program, outputs: Outputs, main: int) -> bool:
    """Whether it is not the last axis that follows the source's positions, but the one before those cut.

    ``main``: which of the inputs says where positions are.
    """
    shape, nd = outputs.shape, outputs.most
    if len(shape) < nd + 2 or 0 in shape:
        return False
    everything = whole(program.graph.nodes[main].shape)

    def is_read(axis: int) -> bool:
        """Whether one position of an axis reads all positions of the source."""
        need = program.need(outputs.main, replaced(whole(shape), axis, (0, 1)))
        return need.boxes.get(main, everything)[-nd:] == everything[-nd:]

    return shape[-1] > 1 and is_read(len(shape) - 1) and not is_read(len(shape) - nd - 1)


def spatial_axes(model: torch.nn.Module, shape: Sequence[int]) -> int:
    """How many of the last axes are cut: those that the convolutions slide along."""
    return sliding_axes(model, len(shape) - 1) or max(len(shape) - 2, 1)


def sliding_axes(model: torch.nn.Module, most: int = 3) -> int | None:
    """Along how many axes the first layer slides that says so by its name, up to so many."""
    names = (type(module).__name__ for module in model.modules())
    found = (nd for name in names for nd in (1, 2, 3) if name.endswith(f"{nd}d") and nd <= most)
    return next(found, None)


def plan(
    model: torch.nn.Module,
    source: Any,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    out: Any = None,
) -> TilePlan:
    """What ``tile_run`` would do: tiles, what each reads, memory, and what is computed more than once.

    ``source`` may also be a shape, or several in a nest; numbers that are none stand in a list. ``out``
    counts where results are stored in chunks.

    Example:
        >>> print(plan(torch.nn.Conv2d(3, 8, 5, padding=2), (1, 3, 60000, 60000), tile=1000))
        1 x 3 x 60000 x 60000 to 1 x 8 x 60000 x 60000 in 3600 tiles of 1000 x 1000
          a tile reads  1004 x 1004 of the input
          memory        ... MB; the whole would take 158 GB
          computed      1.00 times what the whole computes
          time          about ... on ...
    """
    check_model(model)
    with opened(as_shapes(source), sliding_axes(model)) as inputs:
        return TileRun(model, inputs, tile, memory, out).plan
