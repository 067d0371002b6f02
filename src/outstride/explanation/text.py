"""Scenes for a terminal: grids of figures beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    widths = [_block(grid)[1] for grid in frame.grids]
    if columns is not None and sum(widths) + _BETWEEN * (len(widths) - 1) > columns:
        for grid in frame.grids:
            yield from _beside((grid,))
            yield "\n", None
    else:
        yield from _beside(frame.grids)
        yield "\n", None
    yield frame.caption, None


def _beside(grids: Sequence[Grid]) -> Iterator[Piece]:
    blocks = [_block(grid) for grid in grids]
    for grid, (_, width) in zip(grids, blocks, strict=True):
        yield grid.title.ljust(width + _BETWEEN), None
    for row in range(max(len(rows) for rows, _ in blocks)):
        yield "\n", None
        for rows, width in blocks:
            if row < len(rows):
                yield from rows[row]
                yield " " * (width - sum(len(text) for text, _ in rows[row])), None
            else:
                yield " " * width, None
            yield " " * _BETWEEN, None


def _block(grid: Grid) -> tuple[list[list[Piece]], int]:
    """Rows of a grid and what they are wide, its title included."""
    texts = [[in_cell(value) for value in row] for row in grid.values.tolist()]
    cell = max((len(text) for row in texts for text in row), default=1) or 1
    rows: list[list[Piece]] = []
    for i, row in enumerate(texts):
        roles = [grid.role_of((i, j)) for j in range(len(row))]
        rows.append([(_cell(text.rjust(cell), role), role) for text, role in zip(row, roles, strict=True)])
    return rows, max(len(grid.title), (cell + 2) * grid.values.shape[1])


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
