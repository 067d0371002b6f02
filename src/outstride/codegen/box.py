"""A task's box of cells, as kernels hand it from function to function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outstride.codegen.ir import I64, Function, Operand, Value

#: Parameters that carry a box.
BOX = tuple((f"{what}_{axis}", I64) for what in ("start", "count") for axis in "ndhw")


@dataclass(frozen=True)
class Box:
    """A task's cells: where they start and how many there are, in images and along depth, height, width."""

    start: tuple[Operand, ...]
    count: tuple[Operand, ...]

    @classmethod
    def of(cls, parameters: Sequence[Value]) -> Box:
        """The box that a function's parameters carry."""
        return cls(tuple(parameters[:4]), tuple(parameters[4:]))

    @property
    def numbers(self) -> tuple[Operand, ...]:
        """The box as arguments for a function that takes one."""
        return (*self.start, *self.count)


def decode_box(f: Function, a: dict[str, Value], number: Operand) -> tuple[Box, Operand]:
    """Box number -> the box of cells, width fastest, images slowest, and what is left of the number."""
    rest = number
    starts: list[Operand] = []
    counts: list[Operand] = []
    for axis in "whd":
        start = f.mul(f.rem(rest, a[f"tasks_{axis}"]), a[f"block_{axis}"])
        rest = f.div(rest, a[f"tasks_{axis}"])
        starts.insert(0, start)
        counts.insert(0, f.minimum(a[f"block_{axis}"], f.sub(a[f"cells_{axis}"], start)))
    start = f.mul(f.rem(rest, a["images"]), a["image_block"])
    starts.insert(0, start)
    counts.insert(0, f.minimum(a["image_block"], f.sub(a["batch"], start)))
    return Box(tuple(starts), tuple(counts)), f.div(rest, a["images"])
