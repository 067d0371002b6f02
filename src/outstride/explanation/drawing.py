"""Where everything of a frame lies: the one layout of pictures, whatever draws them."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import NamedTuple

import numpy as np

from outstride.explanation.scene import Frame, Grid, Role, Scene, in_cell

COLOURS: dict[Role, str] = {
    "input": "#cfe3f7", "kernel": "#fbdcb4", "output": "#cdebcd", "border": "#eeeeee",
    "active": "#f5a742", "result": "#57b757",
}  # fmt: skip
INK, FAINT, PAPER = "#222222", "#999999", "#ffffff"
#: Pixels of a cell's height and of the narrowest, between grids, of a line of text, and of a letter at most.
CELL, GAP, LINE, LETTER = 40, 36, 24, 8
#: Letters of a line below the grids where these are narrower.
_LEAST_LETTERS = 60


class Cell(NamedTuple):
    """A box with a number in it."""

    x: int
    y: int
    width: int
    colour: str
    text: str
    ink: str


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
        self._rows = max(grid.values.shape[0] for grid in grids)
        widest = max(sum(self._width(grid) + GAP for grid in frame.grids) for frame in scene.frames)
        self._letters = max(widest // LETTER, _LEAST_LETTERS)
        said = [self._lines(frame) for frame in scene.frames]
        self.width = max(widest, GAP + max(_text_width(line) for lines in said for line in lines))
        self.height = self._rows * CELL + 2 * LINE + max(map(len, said)) * LINE

    def parts(self, frame: Frame) -> Iterator[Cell | Words]:
        """Everything of a frame."""
        x, top = GAP // 2, 3 * LINE // 2
        for grid in frame.grids:
            yield Words(x, LINE, grid.title)
            for (i, j), value in np.ndenumerate(grid.values):
                role = grid.role_of((i, j))
                ink = FAINT if role == "border" else INK
                place = x + j * self.cell, top + i * CELL
                yield Cell(*place, self.cell, COLOURS[role], in_cell(float(value)), ink)
            x += self._width(grid) + GAP
        for number, line in enumerate(self._lines(frame), 1):
            yield Words(GAP // 2, top + self._rows * CELL + number * LINE, line)

    def _width(self, grid: Grid) -> int:
        columns: int = grid.values.shape[1]
        return max(self.cell * columns, _text_width(grid.title))

    def _lines(self, frame: Frame) -> list[str]:
        return [line for text in (frame.caption, *self._notes) for line in wrap(text, self._letters)]


def _text_width(text: str) -> int:
    """Pixels that a line takes at most, in the font that is asked for."""
    return LETTER * len(text)
