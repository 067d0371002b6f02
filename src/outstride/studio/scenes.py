"""Scenes as JSON: frames whose grids point into tables, for most grids of a scene never change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from outstride.explanation.scene import PHASES, Frame, Grid, Role, Scene, in_cell

LETTERS: dict[Role, str] = {
    "input": "i", "kernel": "k", "output": "o", "border": "b", "active": "a", "result": "r",
    **{phase: str(number) for number, phase in enumerate(PHASES)},
}  # fmt: skip
"""A letter for what a cell stands for; a grid's cells are one word."""
_TURNED, _SLICE = "kernel, turned round", ", slice "
_KERNELS = ("kernel", _TURNED)


class _Table:
    """Rows, each kept once and named by its place."""

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}

    def place(self, row: Any) -> int:
        return self._places.setdefault(row, len(self._places))

    @property
    def rows(self) -> list[Any]:
        return list(self._places)


def scene_json(scene: Scene, counts: Mapping[str, int]) -> dict[str, Any]:
    """A scene with its numbers as they are shown, row by row.

    ``numbering`` says for a grid, by its title, what its cells are: the numbers of the input, the kernel or
    the output, of which there are so many ``counts``; -1 is none of them. A grid is left out where its cells
    are not as many.
    """
    texts, marks = _Table(), _Table()
    frames = [
        {"caption": frame.caption, "grids": [_grid(grid, texts, marks) for grid in frame.grids]}
        for frame in scene.frames
    ]
    return {
        "name": scene.name,
        "title": scene.title,
        "notes": list(scene.notes),
        "frames": frames,
        "texts": texts.rows,
        "marks": marks.rows,
        "numbering": _numbering(scene.frames, counts),
    }


def _grid(grid: Grid, texts: _Table, marks: _Table) -> dict[str, Any]:
    rows, columns = grid.values.shape
    return {
        "title": grid.title,
        "role": LETTERS[grid.role],
        "rows": rows,
        "columns": columns,
        "row": grid.row,
        "text": texts.place(tuple(map(_shown, grid.values.ravel().tolist()))),
        "mark": marks.place(_word(grid)),
    }


@lru_cache(1 << 14)
def _text(value: float) -> str:
    return in_cell(value)


def _shown(value: float) -> str:
    return _text(value) if value == value else ""  # what is no number equals nothing


def _word(grid: Grid) -> str:
    rows, columns = grid.values.shape
    letters = [LETTERS[grid.role]] * (rows * columns)
    for (i, j), role in grid.marks.items():
        letters[i * columns + j] = LETTERS[role]
    return "".join(letters)


def _numbering(frames: tuple[Frame, ...], counts: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Row by row, slice by slice, the cells that are never border are the numbers that role and title say."""
    words: dict[tuple[str, Role], dict[str, list[str]]] = {}
    for frame in frames:
        for grid in frame.grids:
            whole = grid.title.partition(_SLICE)[0]
            words.setdefault((whole, grid.role), {}).setdefault(grid.title, []).append(_word(grid))
    found: dict[str, dict[str, Any]] = {}
    for (whole, role), slices in words.items():
        uneven = any(len(set(map(len, seen))) > 1 for seen in slices.values())
        if role not in counts or uneven or (role == "kernel" and whole not in _KERNELS):
            continue
        inside = {
            title: [_is_inside(letters) for letters in zip(*seen, strict=True)]
            for title, seen in slices.items()
        }
        if sum(map(sum, inside.values())) != counts[role]:
            continue
        order = range(counts[role])
        places = iter(reversed(order) if whole == _TURNED else order)
        for title, cells in inside.items():
            found[title] = {"of": role, "cells": [next(places) if one else -1 for one in cells]}
    return found


def _is_inside(letters: tuple[str, ...]) -> bool:
    return "b" not in letters
