"""Where everything of a frame lies: the one layout of pictures, whatever draws them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from outstride.explanation.scene import Frame, Role, Scene, number

COLOURS: dict[Role, str] = {
    "input": "#cfe3f7", "kernel": "#fbdcb4", "output": "#cdebcd", "border": "#eeeeee",
    "active": "#f5a742", "result": "#57b757",
}  # fmt: skip
INK, FAINT, PAPER = "#222222", "#999999", "#ffffff"
#: Pixels of a cell, between grids, and of a line of text.
CELL, GAP, LINE = 40, 36, 24


class Cell(NamedTuple):
    """A square with a number in it."""

    x: int
    y: int
    colour: str
    text: str
    ink: str


class Words(NamedTuple):
    """A line of text."""

    x: int
    y: int
    text: str


def extent(scene: Scene) -> tuple[int, int]:
    """Width and height that hold every frame."""
    widths, heights = [], []
    for frame in scene.frames:
        widths.append(
            sum(_width(grid.title, grid.values.shape[1]) for grid in frame.grids) + GAP * len(frame.grids)
        )
        widths[-1] = max(widths[-1], _text_width(frame.caption) + GAP)
        heights.append(max(grid.values.shape[0] for grid in frame.grids))
    return max(widths), max(heights) * CELL + 4 * LINE


def laid_out(frame: Frame, height: int) -> Iterator[Cell | Words]:
    """Everything of a frame, in a picture of that height."""
    x = GAP // 2
    for grid in frame.grids:
        yield Words(x, LINE, grid.title)
        for (i, j), value in np.ndenumerate(grid.values):
            role = grid.role_of((i, j))
            ink = FAINT if role == "border" else INK
            yield Cell(x + j * CELL, 3 * LINE // 2 + i * CELL, COLOURS[role], number(float(value)), ink)
        x += _width(grid.title, grid.values.shape[1]) + GAP
    yield Words(GAP // 2, height - LINE // 2, frame.caption)


def _width(title: str, columns: int) -> int:
    return max(columns * CELL, _text_width(title))


def _text_width(text: str) -> int:
    """Pixels that a line takes at most, in the font that is asked for."""
    return 8 * len(text)
