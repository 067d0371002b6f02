"""The same elements in another shape or order, under another name, or copied."""

from __future__ import annotations

from dataclasses import dataclass

from outstride.models.operation import Operation


@dataclass(frozen=True)
class Reshape:
    """Other axes over the same elements in the same order."""


@dataclass(frozen=True)
class Reinterpret:
    """The same bytes as another type."""


@dataclass(frozen=True)
class Permute:
    """Axes in another order: axis n of the result is axis ``order[n]`` of the source."""

    order: tuple[int, ...]

    @property
    def inverse(self) -> list[int]:
        """The order that leads back."""
        return [self.order.index(axis) for axis in range(len(self.order))]


@dataclass(frozen=True)
class Squeeze:
    """Axes of one element left out."""

    axes: frozenset[int]


@dataclass(frozen=True)
class Unsqueeze:
    """A new axis of one element."""

    axis: int


@dataclass(frozen=True)
class Expand:
    """Axes of one element repeated without being copied."""


@dataclass(frozen=True)
class Repeat:
    """The whole tensor repeated, so many times along each axis of the result."""

    times: tuple[int, ...]


@dataclass(frozen=True)
class Alias:
    """Another name for a tensor."""


@dataclass(frozen=True)
class Copy:
    """The same numbers elsewhere, perhaps in another type."""


@dataclass(frozen=True)
class Conjugate:
    """Complex numbers whose imaginary parts count with the other sign."""


@dataclass(frozen=True)
class ComplexToPairs:
    """Complex numbers as pairs along a new last axis."""


@dataclass(frozen=True)
class PairsToComplex:
    """Pairs along the last axis as complex numbers."""


def _rank(operation: Operation) -> int:
    return len(operation.shape_of(operation.argument("self")))


def read_reshape(operation: Operation) -> Reshape | Reinterpret:
    """To the shape of the result."""
    return Reinterpret() if operation.overload == "dtype" else Reshape()


def read_permute(operation: Operation) -> Permute:
    """``permute``, ``transpose`` and ``t``."""
    rank = _rank(operation)
    dims = operation.argument("dims")
    if dims is not None:
        return Permute(tuple(dim % rank for dim in dims))
    order = list(range(rank))
    if rank > 1:
        a, b = operation.argument("dim0", 0), operation.argument("dim1", 1)
        order[a], order[b] = order[b], order[a]
    return Permute(tuple(order))


def read_squeeze(operation: Operation) -> Squeeze:
    """All such axes, or those among the listed that are."""
    rank, wanted = _rank(operation), operation.argument("dim")
    shape = operation.shape_of(operation.argument("self"))
    listed = range(rank) if wanted is None else [wanted] if isinstance(wanted, int) else wanted
    return Squeeze(frozenset(dim % rank for dim in listed if shape[dim % rank] == 1))


def read_unsqueeze(operation: Operation) -> Unsqueeze:
    """Before an axis, or behind the last."""
    return Unsqueeze(operation.argument("dim") % (_rank(operation) + 1))


def read_repeat(operation: Operation) -> Repeat:
    """More axes than the tensor has are new ones in front."""
    return Repeat(tuple(operation.argument("repeats")))


OPERATORS = {
    "aten.permute": read_permute,
    "aten.transpose": read_permute,
    "aten.t": read_permute,
    "aten.squeeze": read_squeeze,
    "aten.unsqueeze": read_unsqueeze,
    "aten.repeat": read_repeat,
    "aten.expand": lambda _: Expand(),
    "aten.alias": lambda _: Alias(),
    "aten.detach": lambda _: Alias(),
    "aten._conj": lambda _: Conjugate(),
    "aten.conj": lambda _: Conjugate(),
    "aten.view_as_real": lambda _: ComplexToPairs(),
    "aten.view_as_complex": lambda _: PairsToComplex(),
}
OPERATORS |= {f"aten.{name}": read_reshape for name in ("view", "_unsafe_view", "reshape", "_reshape_alias")}
OPERATORS |= {
    f"aten.{name}": lambda _: Copy()
    for name in ("clone", "contiguous", "_to_copy", "lift_fresh", "lift_fresh_copy", "positive")
}
