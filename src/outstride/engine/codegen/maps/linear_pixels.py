"""Linear resizing where channels lie side by side: vectors hold the channels of one output.

A task is a row of outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps import linear
from outstride.engine.codegen.maps.linear import AXES, LINEAR_INDEX, Way
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet


def linear_pixels_source(axes: int, way: Way, isa: InstructionSet) -> str:
    """The LLVM IR of the kernel for so many axes, in one of torch's ways."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, _, task = f.parameters
    e = ELEMENTS["float32"]
    a = read_arguments(f, block, LINEAR_INDEX)
    _Pixels(f, e, isa.lanes(e.accumulator_bytes), AXES[3 - axes :], way, a).task(task)
    return module([f, take_tasks(LINEAR_INDEX)], f"outstride linear_pixels_{axes}_{way}")


@dataclass(frozen=True)
class _Taps:
    """The two inputs of an output along an axis, and their weights."""

    places: tuple[Value, Value]
    weights: tuple[Value, Value]


@dataclass(frozen=True)
class _Pixels(Vectors):
    """The task; `a` is the argument block."""

    axes: str
    way: Way
    a: dict[str, Value]

    def task(self, task: Value) -> None:
        """A row of outputs."""
        f, e, a = self.f, self.e, self.a
        number, image = dict[str, Operand](), task
        rest: Operand = task
        for axis in reversed(self.axes[:-1]):
            number[axis], rest = f.rem(rest, a[f"output_{axis}"]), f.div(rest, a[f"output_{axis}"])
        outer = [self._taps(axis, number[axis]) for axis in self.axes[:-1]]
        del image
        row = a["channels"]
        size = f.mul(row, a[f"input_{self.axes[0]}"])
        for axis in self.axes[1:]:
            size = f.mul(size, a[f"input_{axis}"])
        source = f.at(a["x_at"], f.mul(rest, size), e.storage)
        target = f.at(a["y_at"], f.mul(f.mul(task, a["output_w"]), row), e.storage)
        with f.loop(0, a["output_w"]) as column:
            taps = [*outer, self._taps("w", column)]
            self._output(source, f.at(target, f.mul(column, row), e.storage), taps)

    def _taps(self, axis: str, output: Operand) -> _Taps:
        f, a = self.f, self.a
        low, high = (f.load_i64(a[f"{name}_{axis}_at"], output) for name in ("low", "high"))
        near, far = (
            f.load("float", f.at(a[f"{name}_{axis}_at"], output, "float"), 4) for name in ("near", "far")
        )
        return _Taps((low, high), (near, far))

    def _output(self, source: Value, target: Value, taps: Sequence[_Taps]) -> None:
        """All channels of one output."""
        f, e, a, one = self.f, self.e, self.a, Vectors(self.f, self.e, 1)
        corners, weights = list[Value](), list[Value]()
        for sides in product((0, 1), repeat=len(taps)):
            place: Operand = 0
            weight: Value | None = None
            for axis, tap, side in zip(self.axes, taps, sides, strict=True):
                place = f.add(f.mul(place, a[f"input_{axis}"]), tap.places[side])
                own = tap.weights[side]
                weight = own if weight is None else linear.times(one, weight, own)
            assert weight is not None, "there is an axis"
            corners.append(f.at(source, f.mul(place, a["channels"]), e.storage))
            weights.append(elements.broadcast(f, weight, self.lanes))
        if self.way == "nested":
            pairs = [
                (
                    elements.broadcast(f, tap.weights[0], self.lanes),
                    elements.broadcast(f, tap.weights[1], self.lanes),
                )
                for tap in taps
            ]
            self._channels(corners, target, 0, a["channels"], lambda found: linear.nested(self, found, pairs))
        else:
            whole, channels = a["whole"], a["channels"]
            self._channels(corners, target, 0, whole, lambda found: linear.in_vectors(self, found, weights))
            self._channels(corners, target, whole, channels, lambda found: linear.alone(self, found, weights))

    def _channels(
        self, corners: Sequence[Value], target: Value, first: Operand, stop: Operand,
        combine: Callable[[Sequence[Value]], Value],
    ) -> None:  # fmt: skip
        """The channels [first, stop)."""
        f, e, lanes = self.f, self.e, self.lanes
        end = f.add(first, f.mul(f.div(f.sub(stop, first), lanes), lanes))
        with f.loop(first, end, lanes) as channel:
            found = [elements.load(f, e, f.at(corner, channel, e.storage), lanes) for corner in corners]
            elements.store(f, e, combine(found), f.at(target, channel, e.storage), lanes)
        rest = f.sub(stop, end)
        with f.when(f.compare("sgt", rest, 0)):
            inside = elements.first_lanes(f, rest, lanes)
            found = [
                elements.load_masked(f, e, f.at(corner, end, e.storage), lanes, inside) for corner in corners
            ]
            elements.store_masked(f, e, combine(found), f.at(target, end, e.storage), lanes, inside)
