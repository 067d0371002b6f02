"""Pooling where neighbours along the width lie side by side: vectors hold neighbouring outputs of a row.

A task is a block of output rows. Each input row that they read is first written to scratch with its padding,
dealt out by the residues of the stride, so that every tap is a vector from an offset on. The largest of a row
is found there, once for all windows that read the row: the first of equal ones stays the first, since a row
comes before the next one in every window. Sums have no such freedom and take tap for tap.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps import pooling
from outstride.engine.codegen.maps.pooling import POOLING_INDEX, Window
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.maps.pooling import Kind

#: Strides along the width whose rows are dealt out in vectors; of others one element at a time (0).
STEPS = (1, 2, 3, 4)
#: Kernel sizes along the width, without dilation, whose taps are written out; those of others are a loop (0).
COLUMNS = (2, 3)
#: Vectors of outputs at a time, as long as a row has so many.
VECTORS = (4, 2, 1)


def pooling_rows_source(kind: Kind, dtype: str, isa: str, step: int, columns: int) -> str:
    """The LLVM IR of the kernel for windows that lie `step` apart along the width and have so many columns.

    Either may be 0: any. Columns that are given have no dilation.
    """
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    e = ELEMENTS[dtype]
    lanes = INSTRUCTION_SETS[isa].lanes(e.accumulator_bytes)
    block, scratch, task = f.parameters
    a = read_arguments(f, block, POOLING_INDEX)
    _Rows(f, e, lanes, kind, step, columns, INSTRUCTION_SETS[isa].masks, a).task(scratch, task)
    heading = f"outstride pooling_rows_{kind}_{dtype}_{isa}_{step}_{columns}"
    return module([f, take_tasks(POOLING_INDEX)], heading)


@dataclass(frozen=True)
class _Rows(Vectors):
    """The task: `a` is the argument block, `masks` says whether the set has registers for masks."""

    kind: Kind
    step: int
    columns: int
    masks: bool
    a: dict[str, Value]

    def task(self, scratch: Value, task: Value) -> None:
        """A block of rows of one output plane."""
        f, e, a = self.f, self.e, self.a
        block, rest = f.rem(task, a["blocks"]), f.div(task, a["blocks"])
        depth, image = f.rem(rest, a["output_d"]), f.div(rest, a["output_d"])
        first = f.mul(block, a["block_rows"])
        count = f.minimum(a["block_rows"], f.sub(a["output_h"], first))
        planes = Window(self, a, "d", depth)
        # Input rows that the block reads, from row `origin` of its strip on.
        origin = f.sub(f.mul(first, a["stride_h"]), a["padding_h"])
        reach = f.add(f.mul(f.sub(count, 1), a["stride_h"]), f.mul(f.sub(a["kernel_h"], 1), a["dilation_h"]))
        begin, end = f.maximum(0, origin), f.minimum(a["input_h"], f.add(f.add(origin, reach), 1))
        room = f.at(scratch, f.mul(f.mul(a["kernel_d"], a["line_rows"]), a["line_pitch"]), e.storage)
        with f.loop(planes.first, planes.stop) as tap, f.loop(begin, end) as row:
            plane = f.add(f.mul(image, a["input_d"]), planes.position(tap))
            source = f.at(a["x_at"], f.mul(f.add(f.mul(plane, a["input_h"]), row), a["input_w"]), e.storage)
            line = self._line(scratch, tap, f.sub(row, origin))
            if self.kind == "average" or self._is_apart:
                self._pack(source, line)
            else:
                self._pack(source, room)
                self._along_row(room, line)
        plane = f.add(f.mul(image, a["output_d"]), depth)
        target = f.at(a["y_at"], f.mul(f.add(f.mul(plane, a["output_h"]), first), a["output_w"]), e.storage)
        with f.loop(0, count) as row:
            rows = Window(self, a, "h", f.add(first, row))
            self._pool(scratch, (planes, rows), origin, f.at(target, f.mul(row, a["output_w"]), e.storage),
                       (depth, f.add(first, row)))  # fmt: skip

    def _line(self, scratch: Value, plane: Operand, row: Operand) -> Value:
        """A row of the strip."""
        f, a = self.f, self.a
        return f.at(scratch, f.mul(f.add(f.mul(plane, a["line_rows"]), row), a["line_pitch"]), self.e.storage)

    def _inside(self, first: Operand) -> Value:
        """Which of the positions from one on lie inside a row."""
        within = elements.lanes_within if self.masks else elements.lanes_between
        return within(self.f, first, self.a["input_w"], self.lanes)

    @property
    def _joins(self) -> bool:
        """Whether the largest of neighbouring columns are found while a row is dealt out."""
        return self.kind == "max" and self.step > 0 and self.columns > 0

    @property
    def _is_apart(self) -> bool:
        """Whether nothing more is to be done along the row then: windows share no column."""
        return self._joins and self.columns <= self.step

    # -- packing ---------------------------------------------------------------------------------------------
    def _pack(self, source: Value, line: Value) -> None:
        """Write a row with its padding, element q * stride + r of it as element q of the part r."""
        if not self.step:
            self._pack_elements(source, line)
            return
        f, e, a, lanes = self.f, self.e, self.a, self.lanes
        turn = lanes * self.step
        turns = f.div(a["residue_pitch"], lanes)
        first = f.minimum(turns, f.ceil_div(a["padding_w"], turn))
        last = f.minimum(turns, f.maximum(first, f.div(f.add(a["input_w"], a["padding_w"]), turn)))
        fill = pooling.start(self.kind, e, lanes)

        def write(begin: Operand, end: Operand, whole: bool) -> None:
            with f.loop(begin, end) as number:
                parts = []
                for part in range(self.step):
                    place = f.sub(f.mul(f.add(f.mul(number, self.step), part), lanes), a["padding_w"])
                    pointer = f.at(source, place, e.storage)
                    if whole:
                        parts.append(elements.load(f, e, pointer, lanes))
                    else:
                        inside = self._inside(place)
                        parts.append(elements.load_masked(f, e, pointer, lanes, inside, fill))
                dealt = [elements.deal(f, parts, lanes, residue) for residue in range(self.step)]
                for row, vector in enumerate(self._joined(dealt) if self._joins else dealt):
                    place = f.add(f.mul(a["residue_pitch"], row), f.mul(number, lanes))
                    elements.store(f, e, vector, f.at(line, place, e.storage), lanes)

        write(0, first, whole=False)
        write(first, last, whole=True)
        write(last, turns, whole=False)

    def _joined(self, dealt: list[Value]) -> list[Value]:
        """The largest of a whole step of columns, and of the columns that a window has behind whole steps.

        Only those that windows have.
        """
        joined = dealt[:1]
        for value in dealt[1:]:
            joined.append(pooling.joined(self, self.kind, joined[-1], value))
        counts = [self.step] * (self.columns >= self.step) + [self.columns % self.step]
        return [joined[count - 1] for count in counts if count]

    def _pack_elements(self, source: Value, line: Value) -> None:
        f, e, a = self.f, self.e, self.a
        nothing = pooling.start(self.kind, e, 1)
        value = f.variable(e.storage)
        with f.loop(0, a["stride_w"]) as residue, f.loop(0, a["residue_pitch"]) as q:
            place = f.sub(f.add(f.mul(q, a["stride_w"]), residue), a["padding_w"])
            f.set(value, nothing)
            with f.when(f.both(f.compare("sge", place, 0), f.compare("slt", place, a["input_w"]))):
                f.set(value, f.load(e.storage, f.at(source, place, e.storage), e.storage_bytes))
            target = f.at(line, f.add(f.mul(residue, a["residue_pitch"]), q), e.storage)
            f.store(f.get(value, e.storage), target, e.storage_bytes)

    # -- pooling ---------------------------------------------------------------------------------------------
    def _over_outputs(self, stop: Operand) -> list[tuple[int, Operand, Operand]]:
        """Ranges of outputs of a row: vectors at a time, from, to; the last vector may reach beyond it."""
        f = self.f
        ranges: list[tuple[int, Operand, Operand]] = []
        total, begin = f.mul(f.ceil_div(stop, self.lanes), self.lanes), f.mul(0, 0)
        for vectors in VECTORS:
            end = f.mul(f.div(total, vectors * self.lanes), vectors * self.lanes)
            ranges.append((vectors, begin, end))
            begin = end
        return ranges

    def _along_row(self, room: Value, line: Value) -> None:
        """The largest element of each window's part of a row."""
        f, e, a, lanes = self.f, self.e, self.a, self.lanes
        for vectors, begin, end in self._over_outputs(a["output_w"]):
            found = [f.variable(self.vector) for _ in range(vectors)]
            with f.loop(begin, end, vectors * lanes) as i:
                for each in found:
                    f.set(each, pooling.start(self.kind, e, lanes))
                if self._joins:
                    whole, rest = divmod(self.columns, self.step)
                    for tap in range(whole):
                        self._join(found, f.at(room, f.add(i, tap), e.storage))
                    if rest:
                        shifted = f.add(f.add(i, a["residue_pitch"]), whole)
                        self._join(found, f.at(room, shifted, e.storage))
                else:
                    self._join_columns(found, room, i)
                for v, each in enumerate(found):
                    place = f.at(line, f.add(i, v * lanes), e.storage)
                    elements.store(f, e, f.get(each, self.vector), place, lanes)

    def _join_columns(self, found: list[Value], line: Value, first: Operand) -> None:
        """Join the columns of a packed row to what was found."""
        f, a = self.f, self.a

        def join(tap: Operand) -> None:
            offset = f.add(first, f.load_i64(a["taps_at"], tap))
            self._join(found, f.at(line, offset, self.e.storage))

        for tap in range(self.columns):
            join(tap)
        if not self.columns:
            with f.loop(0, a["kernel_w"]) as number:
                join(number)

    def _join(self, found: list[Value], pointer: Value) -> None:
        """Join neighbouring vectors to what was found."""
        f, e, lanes = self.f, self.e, self.lanes
        for v, each in enumerate(found):
            value = elements.load(f, e, f.at(pointer, v * lanes, e.storage), lanes)
            f.set(each, pooling.joined(self, self.kind, f.get(each, self.vector), value))

    def _pool(
        self, scratch: Value, windows: tuple[Window, Window], origin: Operand, target: Value,
        place: tuple[Operand, Operand],
    ) -> None:  # fmt: skip
        """A row of outputs, of rows of the strip."""
        f, e, a, lanes = self.f, self.e, self.a, self.lanes
        planes, rows = windows
        if self.kind == "average":
            counts = (f.load_i64(a[f"divisors_{axis}_at"], i) for axis, i in zip("dh", place, strict=True))
            scale = elements.broadcast(f, pooling.number(self, f.mul(*counts)), lanes)
        for vectors, begin, end in self._over_outputs(a["output_w"]):
            found = [f.variable(self.vector) for _ in range(vectors)]
            with f.loop(begin, end, vectors * lanes) as i:
                for each in found:
                    f.set(each, pooling.start(self.kind, e, lanes))
                with f.loop(planes.first, planes.stop) as plane, f.loop(rows.first, rows.stop) as tap:
                    line = self._line(scratch, plane, f.sub(rows.position(tap), origin))
                    if self.kind == "max":
                        self._join(found, f.at(line, i, e.storage))
                    else:
                        self._join_columns(found, line, i)
                for v, each in enumerate(found):
                    here = f.add(i, v * lanes)
                    value = f.get(each, self.vector)
                    if self.kind == "average":
                        counts_at = f.at(a["divisors_w_at"], here, e.storage)
                        count = elements.load(f, e, counts_at, lanes)
                        divisor = f.emit(count.type, f"fmul {count.type} {count.name}, {scale.name}")
                        value = pooling.divided(self, value, divisor)
                        # Torch adds the mean to a zero: a mean that is rounded to -0 becomes +0.
                        value = elements.plus(f, value, elements.zero(e, lanes))
                    self._store(
                        value, f.at(target, here, e.storage), f.sub(a["output_w"], here), v + 1 < vectors
                    )

    def _store(self, value: Value, target: Value, room: Operand, whole: bool) -> None:
        """Store a vector, or as much of it as the row has room for."""
        f, e, lanes = self.f, self.e, self.lanes
        if whole:
            elements.store(f, e, value, target, lanes)
            return
        full = f.compare("sge", room, lanes)
        with f.when(full):
            elements.store(f, e, value, target, lanes)
        with f.when(f.negate(full)):
            elements.store_first(f, e, value, target, lanes, room)
