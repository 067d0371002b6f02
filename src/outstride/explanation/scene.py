"""What is shown: frames of grids of numbers, whatever they are drawn with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Place = tuple[int, int]
Role = Literal["input", "kernel", "output", "border", "active", "result"]
"""What a cell stands for: a number of the input, the kernel or the output; a border, which is padding, zeros
put in or what is cropped; what is being multiplied; what is being made."""


@dataclass(frozen=True)
class Grid:
    """A titled matrix; cells without a number are NaN."""

    title: str
    values: npt.NDArray[np.float64]
    role: Role
    marks: Mapping[Place, Role] = field(default_factory=dict)

    def role_of(self, place: Place) -> Role:
        """What a cell stands for."""
        return self.marks.get(place, self.role)


@dataclass(frozen=True)
class Frame:
    """Grids beside each other, and a sentence below them."""

    grids: tuple[Grid, ...]
    caption: str


@dataclass(frozen=True)
class Scene:
    """One view of a layer: a title and the frames in order, the last of which shows the result."""

    name: str
    title: str
    frames: tuple[Frame, ...]


def number(value: float) -> str:
    """A number as briefly as it can be read: whole ones as they are, others to three digits."""
    if np.isnan(value):
        return ""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3g}"
