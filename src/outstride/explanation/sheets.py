"""Arrays of one to three axes as grids: a row, a matrix, or a slice below the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from outstride.explanation.example import Array, Place
from outstride.explanation.scene import Grid, Role


@dataclass(frozen=True)
class Sheet:
    """A titled array with its cells' roles, before it is known how it lies in a picture."""

    title: str
    values: Array
    role: Role
    marks: Mapping[Place, Role] = field(default_factory=dict)

    def marked(self, places: Iterable[Place], role: Role) -> Sheet:
        """The same with these cells in a role of their own."""
        return replace(self, marks={**self.marks, **dict.fromkeys(places, role)})

    def grids(self, row: int = 0) -> tuple[Grid, ...]:
        """One grid, or one for each slice along the first of three axes, from that row downwards."""
        if self.values.ndim == 1:
            flat = {(0, at[0]): role for at, role in self.marks.items()}
            return (Grid(self.title, self.values[np.newaxis], self.role, flat, row),)
        if self.values.ndim == 2:
            marks = {(i, j): role for (i, j), role in self.marks.items()}
            return (Grid(self.title, self.values, self.role, marks, row),)
        return tuple(
            Grid(
                f"{self.title}, slice {d}",
                values,
                self.role,
                {(i, j): role for (at, i, j), role in self.marks.items() if at == d},
                row + d,
            )
            for d, values in enumerate(self.values)
        )


def beside(*sheets: Sheet) -> tuple[Grid, ...]:
    """The grids of several, each a column."""
    return tuple(grid for sheet in sheets for grid in sheet.grids())


def border(shape: Place, first: Place, size: Place) -> dict[Place, Role]:
    """The cells around an inner box."""
    inside = set(product(*(range(f, f + n) for f, n in zip(first, size, strict=True))))
    return {place: "border" for place in np.ndindex(*shape) if place not in inside}


def at(place: Place) -> str:
    """A place as one writes it."""
    return str(place[0]) if len(place) == 1 else f"({', '.join(map(str, place))})"
