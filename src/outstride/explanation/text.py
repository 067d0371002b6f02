"""Scenes for a terminal: grids of figures beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from outstride.explanation.scene import Frame, Grid, Role, Scene, in_cell

_BETWEEN = 3

Piece = tuple[str, Role | None]
"""A stretch of text and the cell that it stands for, None between cells."""

#: What is being multiplied and what is being made stand out without colours, too.
_BRACKETS: dict[Role | None, tuple[str, str]] = {
    "active": ("[", "]"), "result": ("<", ">"), "border": ("·", " ")
}  # fmt: skip


def frame_markup(frame: Frame, columns: int | None = None) -> Iterator[Piece]:
    """A frame piece by piece: titles, rows of cells, the caption.

    Grids stand beside each other, and below each other where the columns are too few for that.
    """
    stacks = frame.columns()
    heights = _heights(stacks)
    blocks = [_block(stack, heights) for stack in stacks]
    if columns is not None and sum(block.width for block in blocks) + _BETWEEN * (len(blocks) - 1) > columns:
        for stack in stacks:
            yield from _beside([_block(stack, _heights([stack]))])
            yield "\n", None
    else:
        yield from _beside(blocks)
        yield "\n", None
    yield frame.caption, None


class _Block(NamedTuple):
    """Lines of grids that stand below each other, and what the widest takes."""

    lines: list[list[Piece]]
    width: int


def _beside(blocks: Sequence[_Block]) -> Iterator[Piece]:
    for line in range(max(len(block.lines) for block in blocks)):
        if line:
            yield "\n", None
        for lines, width in blocks:
            pieces = lines[line] if line < len(lines) else []
            yield from pieces
            yield " " * (width - sum(len(text) for text, _ in pieces) + _BETWEEN), None


def _heights(stacks: Sequence[Sequence[Grid]]) -> dict[int, int]:
    """Lines that each row of grids takes."""
    heights: dict[int, int] = {}
    for grid in (grid for stack in stacks for grid in stack):
        heights[grid.row] = max(heights.get(grid.row, 0), grid.values.shape[0])
    return heights


def _block(stack: Sequence[Grid], heights: Mapping[int, int]) -> _Block:
    """Grids below each other, their titles included, each row as high as the highest grid in it."""
    cell = max(len(in_cell(value)) for grid in stack for row in grid.values.tolist() for value in row) or 1
    lines: list[list[Piece]] = []
    by_row = {grid.row: grid for grid in stack}
    for row in sorted(heights):
        if row > max(by_row):
            break
        grid = by_row.get(row)
        title: list[Piece] = [] if grid is None else [(grid.title, None)]
        made = [] if grid is None else [title, *_lines(grid, cell)]
        lines += made + [[] for _ in range(heights[row] + 1 - len(made))]
    while not lines[-1]:
        lines.pop()
    width = max(max(len(grid.title), (cell + 2) * grid.values.shape[1]) for grid in stack)
    return _Block(lines, width)


def _lines(grid: Grid, cell: int) -> Iterator[list[Piece]]:
    """Rows of a grid."""
    for i, row in enumerate(grid.values.tolist()):
        texts = [(in_cell(value), grid.role_of((i, j))) for j, value in enumerate(row)]
        yield [(_cell(text.rjust(cell), role), role) for text, role in texts]


def _cell(text: str, role: Role) -> str:
    before, after = _BRACKETS.get(role, (" ", " "))
    return f"{before}{text}{after}"


def frame_text(frame: Frame) -> str:
    """A frame as lines."""
    lines = "".join(text for text, _ in frame_markup(frame)).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def scene_text(scene: Scene) -> str:
    """Every frame of a scene, one below the other."""
    blocks = [frame_text(frame) for frame in scene.frames]
    return "\n\n".join([scene.title, *blocks])
