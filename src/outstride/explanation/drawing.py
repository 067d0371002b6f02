"""Where everything of a frame lies: the one layout of pictures, whatever draws them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from outstride.explanation.scene import PHASES, Frame, Grid, Role, Scene, in_cell

COLOURS: dict[Role, str] = {
    "input": "#cfe3f7", "kernel": "#fbdcb4", "output": "#cdebcd", "border": "#eeeeee",
    "active": "#f5a742", "result": "#57b757",
    **dict(zip(PHASES, (
        "#8fbfe8", "#f0de7e", "#f7b3bf", "#c9b2e6", "#a8dcd0", "#e6a583", "#cdd67f", "#b9c0c9", "#d9a7d0",
    ), strict=True)),
}  # fmt: skip
INK, FAINT, PAPER = "#222222", "#707070", "#ffffff"
#: Pixels of a cell's height and of the narrowest, between grids, of a line of text, and of a letter at most.
CELL, GAP, LINE, LETTER = 40, 36, 24, 9
#: Letters that take less, or more.
_OTHER = {**dict.fromkeys(" .,·:;|!'il", 5), **dict.fromkeys("()-/ftjr", 6), **dict.fromkeys("+=…mwM", 12)}
#: Pixels of a line below the grids where these are narrower.
_LEAST_LINE = 640
#: Pixels from a row of grids to the titles of the next.
_BELOW = 12


class Cell(NamedTuple):
    """A box with a number in it."""

    x: int
    y: int
    width: int
    role: Role
    text: str

    @property
    def colour(self) -> str:
        """Of the box."""
        return COLOURS[self.role]

    @property
    def ink(self) -> str:
        """Of the number."""
        return FAINT if self.role == "border" else INK


class Words(NamedTuple):
    """A line of text."""

    x: int
    y: int
    text: str


class Layout:
    """Where everything lies in all frames of a scene, so that nothing moves but what is told.

    Cells are as wide as the longest number of the scene needs.
    """

    def __init__(self, scene: Scene) -> None:
        self._notes = scene.notes
        grids = [grid for frame in scene.frames for grid in frame.grids]
        longest = max(len(in_cell(float(value))) for grid in grids for value in grid.values.flat)
        self.cell = max(CELL, LETTER * (longest + 1))
        self._tops, self._bottom = _rows(grids)
        columns = [frame.columns() for frame in scene.frames]
        wide = [max(map(self._width, same)) for same in _turned(columns)]
        self._lefts = [GAP // 2 + sum(wide[:place]) + place * GAP for place in range(len(wide))]
        widest = sum(wide) + len(wide) * GAP
        self._line = max(widest - GAP, _LEAST_LINE)
        said = [self._lines(frame) for frame in scene.frames]
        self.width = max(widest, GAP + max(text_width(line) for lines in said for line in lines))
        self.height = self._bottom + max(map(len, said)) * LINE + LINE // 2

    def parts(self, frame: Frame) -> Iterator[Cell | Words]:
        """Everything of a frame."""
        for x, column in zip(self._lefts, frame.columns(), strict=False):
            for grid in column:
                top = self._tops[grid.row]
                yield Words(x, top - LINE // 2, grid.title)
                for (i, j), value in np.ndenumerate(grid.values):
                    place = x + j * self.cell, top + i * CELL
                    yield Cell(*place, self.cell, grid.role_of((i, j)), in_cell(float(value)))
        for count, line in enumerate(self._lines(frame), 1):
            yield Words(GAP // 2, self._bottom + count * LINE, line)

    def _width(self, column: list[Grid]) -> int:
        return max(max(self.cell * int(grid.values.shape[1]), text_width(grid.title)) for grid in column)

    def _lines(self, frame: Frame) -> list[str]:
        return [line for text in (frame.caption, *self._notes) for line in _wrapped(text, self._line)]


def _turned(frames: list[list[list[Grid]]]) -> list[list[list[Grid]]]:
    """The first columns of all frames, then the second, where not all have as many."""
    most = max(map(len, frames))
    return [[columns[place] for columns in frames if place < len(columns)] for place in range(most)]


def _rows(grids: list[Grid]) -> tuple[dict[int, int], int]:
    """Where the cells of each row of grids begin, and where the last ends."""
    tops, y = {}, 0
    for row in sorted({grid.row for grid in grids}):
        tops[row] = y + 3 * LINE // 2
        y = tops[row] + CELL * max(grid.values.shape[0] for grid in grids if grid.row == row) + _BELOW
    return tops, y - _BELOW


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Lines that are no wider, broken between words."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and text_width(longer) > width:
            yield line
            longer = word
        line = longer
    if line:
        yield line


def text_width(text: str) -> int:
    """Pixels that a line takes at most, in the font that is asked for."""
    return sum(_OTHER.get(letter, LETTER) for letter in text)
