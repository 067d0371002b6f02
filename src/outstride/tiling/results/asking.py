"""What a caller says of how results are made, and what he is told of what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from outstride.errors import ArgumentError
from outstride.tiling.box import Box
from outstride.tiling.costs.pacing import Left
from outstride.tiling.files.writers.ngff import USUAL_VERSION, VERSIONS
from outstride.tiling.planning import TilePlan

Boxes = Sequence[Sequence[tuple[int, int]]]


class Listener:
    """Who is told what becomes of results while they are made; this one does not listen."""

    def begins(self, plan: TilePlan, done: int) -> None:
        """They can be filled, and so many tiles are done."""

    def goes_on(self, left: Left) -> None:
        """Some tiles are made, and say how long the others take."""


@dataclass(frozen=True)
class Options:
    """How a result is made."""

    progress: bool = True
    overwrite: bool = False
    output_range: tuple[float, float] | None = None
    output_bits: int | None = None
    resume: bool | None = None
    only: Boxes | None = None
    ngff_version: str | None = None


@dataclass
class Outcome:
    """What became of a result."""

    out: Any
    plan: TilePlan
    tiles: int
    """All tiles of the result."""
    found: int = 0
    """Those that an earlier run had made."""
    made: int = 0
    """Those that were made now."""
    whole: bool = True
    notes: list[str] = field(default_factory=list)


Scale = tuple["tuple[float, float] | None", int]
"""The numbers that are black and white in a result of integers, None where it has its own; and their bits."""


def scale_of(range_: Any, bits: Any) -> Scale:
    """What a caller says of it.

    Raises:
        ArgumentError: it is no scale.
    """
    if bits is not None and range_ is None:
        raise ArgumentError(
            f"'output_bits' must go with 'output_range': got {bits!r} alone; legal: output_range=(0, 1)"
        )
    if bits not in (None, 8, 16):
        raise ArgumentError(f"'output_bits' must be 8 or 16: got {bits!r}; legal: 16")
    return _checked_range(range_), bits or 8


def _checked_range(given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    pair = given if isinstance(given, (tuple, list)) else ()
    numbers = [number for number in pair if isinstance(number, (int, float)) and isfinite(number)]
    if len(pair) != 2 or len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise ArgumentError(
            f"'output_range' must be two numbers, the lower one first: got {given!r}; legal: (0, 1)"
        )
    return float(numbers[0]), float(numbers[1])


def ngff_version_of(given: Any) -> str:
    """The release of OME-Zarr that is written.

    Raises:
        ArgumentError: it is none that can be.
    """
    if given not in (None, *VERSIONS):
        raise ArgumentError(
            f"'ngff_version' must be a release of OME-Zarr that can be written: got {given!r}; legal: "
            f"{' or '.join(map(repr, VERSIONS))}"
        )
    return given or USUAL_VERSION


def asked_for(only: Boxes | None, plan: TilePlan) -> Callable[[Box], bool]:
    """Whether a tile has a part in one of the boxes that somebody asked for."""
    if only is None:
        return lambda _: True
    nd, shape = len(plan.tile), plan.output_shape
    for box in only:
        if not _is_box(box, shape[-nd:]):
            raise ArgumentError(
                f"'only' must name boxes of the result's last {nd} axes: got {box!r} of "
                f"{tuple(shape[-nd:])}; legal: {tuple((0, n) for n in shape[-nd:])}"
            )

    def asked(tile: Box) -> bool:
        return any(
            all(a < end and start < b for (a, b), (start, end) in zip(tile[-nd:], box, strict=True))
            for box in only
        )

    return asked


def _is_box(box: Any, sizes: Sequence[int]) -> bool:
    """Whether something is an interval that is not empty for each of these sizes."""
    if not isinstance(box, (tuple, list)):
        return False
    pairs = [side for side in box if isinstance(side, (tuple, list)) and len(side) == 2]
    return len(pairs) == len(box) == len(sizes) and all(
        0 <= start < stop <= n for (start, stop), n in zip(pairs, sizes, strict=True)
    )
