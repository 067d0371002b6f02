"""What is shown: frames of grids of numbers, whatever they are drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Place = tuple[int, int]
Phase = Literal[
    "phase0", "phase1", "phase2", "phase3", "phase4", "phase5", "phase6", "phase7", "phase8"
]  # fmt: skip
Role = Literal["input", "kernel", "output", "border", "active", "result", Phase]
"""What a cell stands for: a number of the input, the kernel or the output; a border, which is padding, zeros
put in or what is cropped; what is being multiplied; what is being made; one of the phases of a transposed
layer."""

PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class Grid:
    """A titled matrix; cells without a number are NaN.

    Grids stand beside each other. One whose ``row`` is larger than that of the grid before stands below it,
    in the same column; grids of one row begin at the same height.
    """

    title: str
    values: npt.NDArray[np.float64]
    role: Role
    marks: Mapping[Place, Role] = field(default_factory=dict)
    row: int = 0

    def role_of(self, place: Place) -> Role:
        """What a cell stands for."""
        return self.marks.get(place, self.role)


@dataclass(frozen=True)
class Frame:
    """Grids beside and below each other, and a sentence below them."""

    grids: tuple[Grid, ...]
    caption: str

    def columns(self) -> list[list[Grid]]:
        """The grids that stand below each other, column by column."""
        columns: list[list[Grid]] = []
        for grid in self.grids:
            if columns and grid.row > columns[-1][-1].row:
                columns[-1].append(grid)
            else:
                columns.append([grid])
        return columns


@dataclass(frozen=True)
class Scene:
    """One view of a layer: a title and the frames in order, the last of which shows the result.

    Notes say what holds for all frames, such as which of many channels is shown.
    """

    name: str
    title: str
    frames: tuple[Frame, ...]
    notes: tuple[str, ...] = ()


def number(value: float) -> str:
    """A number as briefly as it can be read: whole ones as they are, others to three digits."""
    if np.isnan(value):
        return ""
    if abs(value) < 1e6 and value == int(value):
        return str(int(value))
    return _digits(value, 3)


def in_cell(value: float) -> str:
    """The same in few letters: two digits where three take more than six, and the shorter way of writing."""
    text = number(value)
    return text if len(text) <= _WIDE else _digits(value, 2)


_WIDE = 6


def _digits(value: float, digits: int) -> str:
    """So many digits, the exponent as short as it can be."""
    plain = f"{value:.{digits}g}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if not exponent or not np.isfinite(value):
        return plain
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    short = f"{mantissa}e{int(exponent)}"
    return short if "e" in plain or len(short) < len(plain) else plain
