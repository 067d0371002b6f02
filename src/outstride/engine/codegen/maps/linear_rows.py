"""Linear resizing where the elements of a row are neighbours.

A row of the input is resized once for all outputs that read it, and kept in scratch as a line: two at a time,
for an output reads two rows, and later outputs none before. Along three axes slices are kept so, too. Where
torch adds up corners a line is the low and the high inputs of every output of a row, side by side.

A thread's scratch: which rows and slices are kept | two lines, or four | two slices
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.maps import linear
from outstride.engine.codegen.maps.linear import LINEAR_INDEX, Way
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet

#: Bytes at the beginning of scratch, which say what is kept.
HEAD_BYTES = 64


def linear_rows_source(axes: int, way: Way, isa: InstructionSet) -> str:
    """The LLVM IR of the kernel for so many axes, in one of torch's ways."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, scratch, task = f.parameters
    e = ELEMENTS["float32"]
    a = read_arguments(f, block, LINEAR_INDEX)
    rows = _Rows(f, e, isa.lanes(e.accumulator_bytes), axes, way, a, scratch)
    (rows.lines_task if axes == 1 else rows.plane_task)(task)
    return module([f, take_tasks(LINEAR_INDEX)], f"outstride linear_rows_{axes}_{way}")


@dataclass(frozen=True)
class _Rows(Vectors):
    """The task; `a` is the argument block."""

    axes: int
    way: Way
    a: dict[str, Value]
    scratch: Value

    def lines_task(self, task: Value) -> None:
        """Planes of one axis."""
        f, a = self.f, self.a
        first = f.mul(task, a["block"])
        with f.loop(first, f.minimum(f.add(first, a["block"]), a["planes"])) as plane:
            source, target = (
                f.at(a[f"{name}_at"], f.mul(plane, a[f"{size}_w"]), "float")
                for name, size in (("x", "input"), ("y", "output"))
            )
            self._line(source, target)

    def plane_task(self, task: Value) -> None:
        """Some rows of a plane, or slices of three axes."""
        f, a = self.f, self.a
        plane, number = f.div(task, a["blocks"]), f.rem(task, a["blocks"])
        area = f.mul(a["input_h"], a["input_w"])
        made = f.mul(a["output_h"], a["output_w"])
        first = f.mul(number, a["block"])
        self._forget(0)
        if self.axes == 2:
            source = f.at(a["x_at"], f.mul(plane, area), "float")
            target = f.at(a["y_at"], f.mul(plane, made), "float")
            self._rows(source, target, first, f.minimum(f.add(first, a["block"]), a["output_h"]), plane)
            return
        self._forget(2)
        source = f.at(a["x_at"], f.mul(f.mul(plane, a["input_d"]), area), "float")
        target = f.at(a["y_at"], f.mul(f.mul(plane, a["output_d"]), made), "float")
        slices = f.at(self.scratch, HEAD_BYTES // 4, "float")
        slices = f.at(slices, f.mul(2, a["line_pitch"]), "float")
        pitch = f.mul(f.ceil_div(made, self.lanes), self.lanes)

        def make(index: Value, place: Value) -> None:
            self._forget(0)
            self._rows(f.at(source, f.mul(index, area), "float"), place, 0, a["output_h"], plane)

        with f.loop(first, f.minimum(f.add(first, a["block"]), a["output_d"])) as depth:
            kept = self._kept("d", depth, 2, slices, pitch, make)
            weights = self._weights("d", depth)
            self._combined(
                f.at(target, f.mul(depth, made), "float"), made,
                lambda place: linear.mixed(
                    self, self._at(kept[0], place), weights[0], self._at(kept[1], place), weights[1]
                ),
            )  # fmt: skip

    def _rows(self, source: Value, target: Value, first: Operand, stop: Operand, plane: Operand) -> None:
        """Rows [first, stop) of the outputs of a plane."""
        f, a = self.f, self.a
        lines = f.at(self.scratch, HEAD_BYTES // 4, "float")
        corners = self.way == "corners"
        pitch = f.mul(a["line_pitch"], 2) if corners else a["line_pitch"]

        def make(index: Value, place: Value) -> None:
            (self._taps if corners else self._line)(f.at(source, f.mul(index, a["input_w"]), "float"), place)

        with f.loop(first, stop) as row:
            kept = self._kept("h", row, 0, lines, pitch, make)
            weights = self._weights("h", row)
            output = f.at(target, f.mul(row, a["output_w"]), "float")
            if corners:
                self._of_corners(output, kept, weights, plane)
            else:
                self._combined(
                    output, a["output_w"],
                    lambda place: linear.mixed(
                        self, self._at(kept[0], place), weights[0], self._at(kept[1], place), weights[1]
                    ),
                )  # fmt: skip

    def _of_corners(
        self, output: Value, kept: Sequence[Value], weights: Sequence[Value], plane: Operand
    ) -> None:  # fmt: skip
        """A row of which all corners are added up, as torch does it for the channel."""
        f, a = self.f, self.a
        whole = f.compare("slt", f.rem(plane, a["channels"]), a["whole"])
        for condition, add in ((whole, linear.in_vectors), (f.negate(whole), linear.alone)):

            def made(place: Operand, add: Callable[..., Value] = add) -> Value:
                found = [
                    self._at(f.at(line, f.mul(side, a["line_pitch"]), "float"), place)
                    for line in kept
                    for side in range(2)
                ]
                along = [self._at(a[f"{name}_w_at"], place) for name in ("near", "far")]
                return add(self, found, [linear.times(self, h, w) for h in weights for w in along])

            with f.when(condition):
                self._combined(output, a["output_w"], made)

    def _kept(
        self, axis: str, output: Operand, head: int, room: Value, pitch: Operand,
        make: Callable[[Value, Value], None],
    ) -> tuple[Value, Value]:  # fmt: skip
        """Where the two inputs of an output are kept, made where they are not yet.

        They have numbers that follow one another, so they have places of their own.
        """
        f, a = self.f, self.a
        tables = a[f"low_{axis}_at"], a[f"high_{axis}_at"]

        def place_of(index: Value) -> Value:
            return f.at(room, f.mul(f.rem(index, 2), pitch), "float")

        with f.loop(0, 2) as side:
            index = f.load_i64(f.select(f.compare("eq", side, 0), *tables), output)
            number = f.at(self.scratch, f.add(f.rem(index, 2), head), I64)
            with f.when(f.compare("ne", f.load(I64, number, 8), index)):
                make(index, place_of(index))
                f.store(index, number, 8)
        low, high = (place_of(f.load_i64(table, output)) for table in tables)
        return low, high

    def _forget(self, head: int) -> None:
        f = self.f
        for number in (head, head + 1):
            f.store(Value("-1", I64), f.at(self.scratch, number, I64), 8)

    def _weights(self, axis: str, output: Operand) -> tuple[Value, Value]:
        f, a = self.f, self.a
        near, far = (
            elements.broadcast(
                f, f.load("float", f.at(a[f"{name}_{axis}_at"], output, "float"), 4), self.lanes
            )
            for name in ("near", "far")
        )
        return near, far

    def _at(self, base: Value, place: Operand) -> Value:
        """A vector of a line or a table, which have room for whole vectors."""
        return self.f.load(self.vector, self.f.at(base, place, "float"), 4)

    def _combined(self, target: Value, count: Operand, made: Callable[[Operand], Value]) -> None:
        """So many neighbours in vectors; the last one is stored under a mask."""
        f, e, lanes = self.f, self.e, self.lanes
        whole = f.mul(f.div(count, lanes), lanes)
        with f.loop(0, whole, lanes) as place:
            elements.store(f, e, made(place), f.at(target, place, "float"), lanes)
        rest = f.sub(count, whole)
        with f.when(f.compare("sgt", rest, 0)):
            inside = elements.first_lanes(f, rest, lanes)
            elements.store_masked(f, e, made(whole), f.at(target, whole, "float"), lanes, inside)

    def _line(self, source: Value, target: Value) -> None:
        """A row of the input, resized."""
        one = Vectors(self.f, self.e, 1)

        def write(k: Vectors, place: Operand, low: Value, high: Value) -> None:
            near, far = (
                k.f.load(low.type, k.f.at(self.a[f"{name}_w_at"], place, "float"), 4)
                for name in ("near", "far")
            )
            k.f.store(linear.mixed(k, low, near, high, far), k.f.at(target, place, "float"), 4)

        self._each(
            source, lambda place, *two: write(self, place, *two), lambda place, *two: write(one, place, *two)
        )

    def _taps(self, source: Value, target: Value) -> None:
        """The low inputs of the outputs of a row, and behind them the high ones."""
        f, a = self.f, self.a

        def write(place: Operand, *two: Value) -> None:
            for side, value in enumerate(two):
                f.store(value, f.at(target, f.add(f.mul(side, a["line_pitch"]), place), "float"), 4)

        self._each(source, write, write)

    def _each(
        self, source: Value, vectors: Callable[[Operand, Value, Value], None],
        single: Callable[[Operand, Value, Value], None],
    ) -> None:  # fmt: skip
        """The low and the high inputs of all outputs of a row: in vectors where they are neighbours."""
        f, a, lanes = self.f, self.a, self.lanes
        whole = f.mul(f.div(a["paired"], lanes), lanes)
        wide, both = vector_type(lanes, I64), vector_type(2 * lanes, "float")
        with f.loop(0, whole, lanes) as place:
            pairs = Value("poison", wide)
            for lane in range(lanes):
                low = f.load_i64(a["low_w_at"], f.add(place, lane))
                pair = f.load(I64, f.at(source, low, "float"), 4)
                pairs = f.emit(wide, f"insertelement {wide} {pairs.name}, i64 {pair.name}, i32 {lane}")
            flat = f.emit(both, f"bitcast {wide} {pairs.name} to {both}")
            two = (
                f.emit(
                    self.vector,
                    f"shufflevector {both} {flat.name}, {both} poison, "
                    f"{elements.mask([2 * lane + side for lane in range(lanes)])}",
                )
                for side in range(2)
            )
            vectors(place, *two)
        with f.loop(whole, a["output_w"]) as place:
            single(
                place,
                *(
                    f.load("float", f.at(source, f.load_i64(a[f"{name}_w_at"], place), "float"), 4)
                    for name in ("low", "high")
                ),
            )
