"""Pooling where channels lie side by side: vectors hold the channels of one output.

A task is a row of outputs; taps outside the input are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps import pooling
from outstride.engine.codegen.maps.pooling import AXES, POOLING_INDEX, Window
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.maps.pooling import Kind

#: Vectors of channels at a time, where there are many.
VECTORS = 4


def pooling_channels_source(kind: Kind, dtype: str, isa: str) -> str:
    """The LLVM IR of the kernel."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    e = ELEMENTS[dtype]
    block, _, task = f.parameters
    lanes = INSTRUCTION_SETS[isa].lanes(e.accumulator_bytes)
    _Channels(f, e, lanes, kind, read_arguments(f, block, POOLING_INDEX)).task(task)
    return module([f, take_tasks(POOLING_INDEX)], f"outstride pooling_channels_{kind}_{dtype}_{isa}")


@dataclass(frozen=True)
class _Channels(Vectors):
    """The task; `a` is the argument block."""

    kind: Kind
    a: dict[str, Value]

    def task(self, task: Value) -> None:
        """A row of outputs."""
        f, e, a = self.f, self.e, self.a
        row, rest = f.rem(task, a["output_h"]), f.div(task, a["output_h"])
        depth, image = f.rem(rest, a["output_d"]), f.div(rest, a["output_d"])
        windows = [Window(self, a, "d", depth), Window(self, a, "h", row)]
        source = f.at(a["x_at"], f.mul(image, self._elements("input", AXES)), e.storage)
        target = f.at(a["y_at"], f.mul(f.mul(task, a["output_w"]), a["channels"]), e.storage)
        with f.loop(0, a["output_w"]) as column:
            output = f.at(target, f.mul(column, a["channels"]), e.storage)
            self._output(source, output, [*windows, Window(self, a, "w", column)], (depth, row, column))

    def _elements(self, name: str, axes: str) -> Operand:
        """Elements of the sizes along some axes, all channels."""
        count: Operand = self.a["channels"]
        for axis in axes:
            count = self.f.mul(count, self.a[f"{name}_{axis}"])
        return count

    def _output(
        self, source: Value, target: Value, windows: list[Window], place: tuple[Operand, ...]
    ) -> None:  # fmt: skip
        """All channels of one output."""
        f, e, a, lanes = self.f, self.e, self.a, self.lanes
        divisor = None
        if self.kind == "average":
            counts = [
                f.load_i64(a[f"divisors_{axis}_at"], i) for axis, i in zip("dh", place[:2], strict=True)
            ]
            along = f.load(e.storage, f.at(a["divisors_w_at"], place[2], e.storage), e.storage_bytes)
            count = pooling.number(self, f.mul(*counts))
            count = f.emit(count.type, f"fmul {count.type} {count.name}, {along.name}")
            divisor = elements.broadcast(f, count, lanes)
        many, channels = VECTORS * lanes, a["channels"]
        bulk = f.mul(f.div(channels, many), many)
        whole = f.mul(f.div(channels, lanes), lanes)
        for vectors, begin, end, step in ((VECTORS, 0, bulk, many), (1, bulk, whole, lanes)):
            with f.loop(begin, end, step) as c:
                found = self._pool(f.at(source, c, e.storage), windows, vectors, None)
                for v, value in enumerate(found):
                    place_of = f.at(target, f.add(c, v * lanes), e.storage)
                    elements.store(f, e, self._finished(value, divisor), place_of, lanes)
        rest = f.sub(channels, whole)
        with f.when(f.compare("sgt", rest, 0)):
            inside = elements.first_lanes(f, rest, lanes)
            (value,) = self._pool(f.at(source, whole, e.storage), windows, 1, inside)
            place_of = f.at(target, whole, e.storage)
            elements.store_masked(f, e, self._finished(value, divisor), place_of, lanes, inside)

    def _finished(self, value: Value, divisor: Value | None) -> Value:
        return value if divisor is None else pooling.divided(self, value, divisor)

    def _pool(
        self, source: Value, windows: list[Window], vectors: int, inside: Value | None
    ) -> Iterator[Value]:  # fmt: skip
        """Vectors of channels of one output; the lanes that `inside` has, if it is given."""
        f, e, a, lanes = self.f, self.e, self.a, self.lanes
        found = [f.variable(self.vector) for _ in range(vectors)]
        for each in found:
            f.set(each, pooling.start(self.kind, e, lanes))
        d, h, w = windows
        row_elements, step = self._elements("input", "w"), f.mul(a["dilation_w"], a["channels"])
        with f.loop(d.first, d.stop) as plane, f.loop(h.first, h.stop) as row:
            number = f.add(f.mul(d.position(plane), a["input_h"]), h.position(row))
            first = f.add(f.mul(number, row_elements), f.mul(w.origin, a["channels"]))
            line = f.at(source, first, e.storage)
            with f.loop(w.first, w.stop) as column:
                pointer = f.at(line, f.mul(column, step), e.storage)
                for v, each in enumerate(found):
                    here = f.at(pointer, v * lanes, e.storage)
                    if inside is None:
                        value = elements.load(f, e, here, lanes)
                    else:
                        value = elements.load_masked(f, e, here, lanes, inside)
                    f.set(each, pooling.joined(self, self.kind, f.get(each, self.vector), value))
        return (f.get(each, self.vector) for each in found)
