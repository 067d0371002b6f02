"""Windows written out beside each other: ``F.unfold``, its adjoint ``F.fold``, and ``Tensor.unfold``."""

from __future__ import annotations

from dataclasses import dataclass

from outstride.models.operation import Operation
from outstride.models.operators.reach import Window, windows_of


@dataclass(frozen=True)
class Columns:
    """``F.unfold``: a column of taps for each window, the windows in one row."""

    windows: tuple[Window, ...]


@dataclass(frozen=True)
class FromColumns:
    """``F.fold``: the adjoint, which adds columns up."""

    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Unfold:
    """``Tensor.unfold``: windows along one axis, their elements in a new last one."""

    axis: int
    size: int
    step: int


_OF_A_LAYER = ("kernel_size", "stride", "padding", "dilation")


def read_columns(operation: Operation) -> Columns:
    """Of a picture."""
    return Columns(windows_of(2, *map(operation.argument, _OF_A_LAYER)))


def read_from_columns(operation: Operation) -> FromColumns:
    """To a picture."""
    return FromColumns(windows_of(2, *map(operation.argument, _OF_A_LAYER), transposed=True))


def read_unfold(operation: Operation) -> Unfold:
    """Along any axis."""
    axis, size, step = (int(operation.argument(name)) for name in ("dimension", "size", "step"))
    return Unfold(axis % len(operation.shape_of(operation.argument("self"))), size, step)


OPERATORS = {
    "aten.im2col": read_columns,
    "aten.col2im": read_from_columns,
    "aten.unfold": read_unfold,
}
