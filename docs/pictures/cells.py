"""Numbers in squares: the one way in which the tutorials' pictures show arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INPUT = "#cfe3f7"
KERNEL = "#fbdcb4"
OUTPUT = "#cdebcd"
BORDER = "#f4f4f4"
INK = "#222222"
MARK = "#c8372d"

Place = tuple[int, int]
Fill = str | Callable[[Place], str]


class Sheet:
    """A page of squares, one unit wide, rows counted downwards.

    Args:
        height, width: extent of the sheet in squares.
        unit: inches for each square.
    """

    def __init__(self, height: float, width: float, unit: float = 0.42) -> None:
        self.figure = Figure(figsize=(width * unit, height * unit), facecolor="white")
        self.axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")
        self.points = 26 * unit

    def cells(
        self,
        values: npt.ArrayLike,
        row: float,
        column: float,
        fill: Fill,
        blank: Collection[Place] = (),
        scale: float = 1.0,
    ) -> tuple[float, float]:
        """Draw a matrix with its first square at (row, column); ``blank`` squares hide their number."""
        array = np.atleast_2d(np.asarray(values))
        for (i, j), value in np.ndenumerate(array):
            colour = fill((i, j)) if callable(fill) else fill
            corner = (column + j * scale, row + i * scale)
            self.axes.add_patch(Rectangle(corner, scale, scale, facecolor=colour, edgecolor="white", lw=1.5))
            if (i, j) not in blank:
                self.text(_short(value), row + (i + 0.5) * scale, column + (j + 0.5) * scale, size=scale)
        return row + array.shape[0] * scale, column + array.shape[1] * scale

    def frame(self, row: float, column: float, height: float, width: float, colour: str = MARK) -> None:
        self.axes.add_patch(
            Rectangle((column, row), width, height, facecolor="none", edgecolor=colour, lw=2.2, zorder=3)
        )

    def text(
        self, words: str, row: float, column: float, size: float = 1.0, align: str = "center", **more: Any
    ) -> None:
        self.axes.text(
            column,
            row,
            words,
            ha=align,
            va="center",
            fontsize=self.points * size,
            **{"color": INK, **more},
        )

    def save(self, path: Path) -> None:
        write(self.figure, path)


def where(places: Collection[Place], inside: str, outside: str = BORDER) -> Callable[[Place], str]:
    """Colour the named squares one way and the others another."""
    return lambda place: inside if place in places else outside


def write(figure: Figure, path: Path, dpi: int = 110) -> None:
    """Write a picture without the version and the date, so that the same code gives the same file."""
    figure.savefig(path, dpi=dpi, metadata={"Software": None})


def _short(value: Any) -> str:
    number = float(value)
    return str(int(number)) if number == int(number) else f"{number:.2g}"
