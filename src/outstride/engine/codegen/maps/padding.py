"""Padding: rows copied with what stands before and behind them, as integers.

A row of the result is a row of the input between elements that a table says, or it is filled. Where channels
lie side by side an element is a pixel, with all its channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps.joining import copy_row
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet

#: The argument block: x to y, in planes of `rows` rows, of `plane` numbers in x. Row r of y is the row of
#: `width` elements at rows[r] of x, behind `left` others and before `right`, whose places in it `columns`
#: has; -1 is `fill`. An element has `unit` numbers. A task has `block_rows` rows of a plane.
PADDING_ARGUMENTS = (
    "x_at", "y_at", "scratch_at", "scratch_bytes", "tasks",
    "blocks", "block_rows", "rows", "plane", "unit", "width", "left", "right", "fill", "rows_at",
    "columns_at",
)  # fmt: skip
PADDING_INDEX = {name: i for i, name in enumerate(PADDING_ARGUMENTS)}


def padding_source(item_bytes: int, isa: InstructionSet, together: bool) -> str:
    """The LLVM IR of the kernel for numbers of so many bytes; `together`: elements are pixels."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, _, task = f.parameters
    a = read_arguments(f, block, PADDING_INDEX)
    _Padding(f, a, f"i{8 * item_bytes}", item_bytes, isa.lanes(item_bytes), together).task(task)
    heading = f"outstride padding_{item_bytes}{'_together' if together else ''}"
    return module([f, take_tasks(PADDING_INDEX)], heading)


@dataclass(frozen=True)
class _Padding:
    """The task; `a` is the argument block."""

    f: Function
    a: dict[str, Value]
    element: str
    item_bytes: int
    lanes: int
    together: bool

    def task(self, task: Value) -> None:
        """Some rows of a plane."""
        f, a = self.f, self.a
        unit: Operand = a["unit"] if self.together else 1
        plane, number = f.div(task, a["blocks"]), f.rem(task, a["blocks"])
        source = f.at(a["x_at"], f.mul(plane, a["plane"]), self.element)
        pitch = f.mul(f.add(f.add(a["left"], a["width"]), a["right"]), unit)
        target = f.at(a["y_at"], f.mul(f.mul(plane, a["rows"]), pitch), self.element)
        fill = a["fill"]
        if self.item_bytes < 8:
            fill = f.emit(self.element, f"trunc i64 {fill.name} to {self.element}")
        first = f.mul(number, a["block_rows"])
        with f.loop(first, f.minimum(f.add(first, a["block_rows"]), a["rows"])) as row:
            place = f.load_i64(a["rows_at"], row)
            there = f.at(target, f.mul(row, pitch), self.element)
            outside = f.compare("slt", place, 0)
            with f.when(outside):
                self._fill(there, pitch, fill)
            with f.when(f.negate(outside)):
                here = f.at(source, place, self.element)
                self._edge(here, there, 0, a["left"], unit, fill)
                begin = f.mul(a["left"], unit)
                wide = f.mul(a["width"], unit)
                self._copy(here, f.at(there, begin, self.element), wide)
                behind = f.at(there, f.add(begin, wide), self.element)
                self._edge(here, behind, a["left"], a["right"], unit, fill)

    def _edge(
        self, source: Value, target: Value, first: Operand, count: Operand, unit: Operand, fill: Value
    ) -> None:  # fmt: skip
        """The elements that the table has from an entry on."""
        f = self.f
        with f.loop(0, count) as number:
            column = f.load_i64(self.a["columns_at"], f.add(first, number))
            there = f.at(target, f.mul(number, unit), self.element)
            outside = f.compare("slt", column, 0)
            with f.when(outside):
                self._fill(there, unit, fill)
            with f.when(f.negate(outside)):
                self._copy(f.at(source, f.mul(column, unit), self.element), there, unit)

    def _copy(self, source: Value, target: Value, count: Operand) -> None:
        copy_row(self.f, self.element, self.lanes, source, target, count)

    def _fill(self, target: Value, count: Operand, fill: Value) -> None:
        with self.f.loop(0, count) as i:
            self.f.store(fill, self.f.at(target, i, self.element), self.item_bytes)
