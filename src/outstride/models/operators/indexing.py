"""Elements taken by their place: slices, single positions, pieces, lists of indices, axes turned round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from outstride.models.operation import Operation
from outstride.models.operators.function_calls import Function


@dataclass(frozen=True)
class Slice:
    """Every ``positions.step``-th position of one axis."""

    axis: int
    positions: range


@dataclass(frozen=True)
class SliceScatter:
    """A tensor of which a slice is replaced; ``target`` and ``written`` stand for the tensors."""

    target: Any
    written: Any
    axis: int
    positions: range


@dataclass(frozen=True)
class Select:
    """One element of one axis, which goes away."""

    axis: int
    index: int


@dataclass(frozen=True)
class Split:
    """Neighbouring pieces of one axis."""

    axis: int


@dataclass(frozen=True)
class Unbind:
    """Every element of one axis by itself."""

    axis: int


@dataclass(frozen=True)
class Flip:
    """Axes turned round."""

    axes: tuple[int, ...]


@dataclass(frozen=True)
class Roll:
    """Axes moved on by so many positions, what leaves at one end coming in at the other."""

    shifts: tuple[tuple[int, int], ...]
    """Axis and shift."""


@dataclass(frozen=True)
class FlatRoll:
    """The same of all elements in a row."""


@dataclass(frozen=True)
class QuarterTurns:
    """``rot90``: by a quarter is two axes that change places, one of them turned round."""

    turns: int
    axes: tuple[int, int]


@dataclass(frozen=True)
class Index:
    """Elements taken by lists of indices, one for each axis or none."""

    lists: tuple[Any, ...]


@dataclass(frozen=True)
class IndexSelect:
    """Positions of one axis taken by a list of indices."""

    axis: int
    positions: Any


@dataclass(frozen=True)
class Embedding:
    """A row of a table for each element."""

    indices: Any


def _shape(operation: Operation) -> tuple[int, ...]:
    return operation.shape_of(operation.argument("self"))


def _axis(operation: Operation) -> int:
    axis: int = operation.argument("dim") % len(_shape(operation))
    return axis


def _positions(operation: Operation, axis: int) -> range:
    start, stop, step = (operation.argument(name) for name in ("start", "end", "step"))
    return range(_shape(operation)[axis])[start:stop:step]


def read_slice(operation: Operation) -> Slice:
    """From a start to an end in steps, both counted from the end where negative."""
    axis = _axis(operation)
    return Slice(axis, _positions(operation, axis))


def read_slice_scatter(operation: Operation) -> SliceScatter:
    """What an assignment to a slice becomes."""
    axis = _axis(operation)
    target, written = operation.argument("self"), operation.argument("src")
    return SliceScatter(target, written, axis, _positions(operation, axis))


def read_select(operation: Operation) -> Select:
    """Counted from the end where negative."""
    axis = _axis(operation)
    return Select(axis, operation.argument("index") % _shape(operation)[axis])


def read_split(operation: Operation) -> Split:
    """Of equal sizes, or of listed ones: the results say which."""
    return Split(_axis(operation))


def read_unbind(operation: Operation) -> Unbind:
    """Along one axis."""
    return Unbind(_axis(operation))


def read_flip(operation: Operation) -> Flip:
    """Any number of them."""
    return Flip(_axes(operation, operation.argument("dims")))


def read_roll(operation: Operation) -> Roll | FlatRoll:
    """Without axes, of all elements in a row."""
    shifts, dims = operation.argument("shifts"), operation.argument("dims")
    return Roll(tuple(zip(_axes(operation, dims), shifts, strict=True))) if dims else FlatRoll()


def read_quarter_turns(operation: Operation) -> QuarterTurns:
    """Four are none."""
    a, b = _axes(operation, operation.argument("dims"))
    return QuarterTurns(operation.argument("k") % 4, (a, b))


def _axes(operation: Operation, dims: Sequence[int]) -> tuple[int, ...]:
    rank = len(_shape(operation))
    return tuple(dim % rank for dim in dims)


def read_index(operation: Operation) -> Index:
    """``x[indices]``."""
    return Index(tuple(operation.argument("indices")))


def read_index_select(operation: Operation) -> IndexSelect:
    """Along one axis."""
    return IndexSelect(_axis(operation), operation.argument("index"))


def read_embedding(operation: Operation) -> Embedding:
    """The table is the first argument."""
    return Embedding(operation.argument("indices"))


OPERATORS = {
    "aten.slice": read_slice,
    "aten.slice_scatter": read_slice_scatter,
    "aten.select": read_select,
    "aten.unbind": read_unbind,
    "aten.flip": read_flip,
    "aten.roll": read_roll,
    "aten.rot90": read_quarter_turns,
    "aten.index": read_index,
    "aten.index_select": read_index_select,
    "aten.embedding": read_embedding,
}
OPERATORS |= {
    f"aten.{name}": read_split
    for name in ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")
}
FUNCTIONS: dict[Any, Function] = dict.fromkeys(
    (torch.chunk, torch.Tensor.chunk), Function(("input", "chunks", "dim"))
) | dict.fromkeys((torch.split, torch.Tensor.split), Function(("tensor", "split_size_or_sections", "dim")))
