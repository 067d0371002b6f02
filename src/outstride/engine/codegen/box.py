"""A task's box of cells, as kernels hand it from function to function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outstride.engine.codegen.arguments import REGION_FIELDS, REGION_INDEX
from outstride.engine.codegen.ir import I64, Function, Operand, Value

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


@dataclass(frozen=True)
class Region:
    """A row of the table of regions: cells of a box, and where and how far apart their results lie."""

    pointer: Value

    @classmethod
    def at(cls, f: Function, a: dict[str, Value], number: Operand) -> Region:
        """The region of a number."""
        return cls(f.at(a["regions_at"], f.mul(number, len(REGION_FIELDS)), I64))

    def field(self, f: Function, name: str) -> Value:
        """A number of the row."""
        return f.load_i64(self.pointer, REGION_INDEX[name])

    def of(self, f: Function, box: Box) -> Box:
        """The region's cells of a box; along an axis of one range it may have fewer of them."""
        axes = list(zip("dhw", box.start[1:], box.count[1:], strict=True))
        starts = [f.add(start, self.field(f, f"first_{x}")) for x, start, _ in axes]
        counts = [f.minimum(self.field(f, f"count_{x}"), count) for x, _, count in axes]
        return Box((box.start[0], *starts), (box.count[0], *counts))

    def pitches(self, f: Function) -> list[Value]:
        """Results from image to image, plane to plane, row to row."""
        return [self.field(f, f"{axis}_pitch") for axis in ("image", "depth", "row")]


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
