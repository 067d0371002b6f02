"""What looks along whole axes: sums, extremes, softmax, running sums, sorting, Fourier transforms."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from outstride.models.operation import Operation


@dataclass(frozen=True)
class Reduction:
    """One value for all elements along some axes: a variance, a norm, a product."""

    axes: tuple[int, ...]
    keepdim: bool
    converts: bool = False
    """Whether elements are converted to another type first."""


class Sum(Reduction):
    """Their sum."""


class Mean(Reduction):
    """Their mean."""


@dataclass(frozen=True)
class Deviation(Reduction):
    """Their norm or their deviation, which torch makes result by result."""

    kind: str = "var"
    """"var", "std" or "norm"."""
    power: float = 2.0
    """Of a norm."""
    correction: float = 1.0
    """What a variance takes off the number of elements that it divides by."""


class Extremum(Reduction):
    """The largest or least, whether any or all are true, or where: it does not depend on the order."""


@dataclass(frozen=True)
class Softmax:
    """Softmax or its logarithm along an axis."""

    axis: int


class MaskedSoftmax(Softmax):
    """Softmax that is 0 where everything is minus infinity."""


@dataclass(frozen=True)
class Scan:
    """Running sums or products along an axis."""

    axis: int


@dataclass(frozen=True)
class Sort:
    """All elements of an axis in order, or the largest few."""

    axis: int


@dataclass(frozen=True)
class Fourier:
    """Frequencies in the place of positions."""

    axes: frozenset[int]


_AlongAnAxis = TypeVar("_AlongAnAxis", Softmax, MaskedSoftmax, Scan, Sort)


def _rank(operation: Operation) -> int:
    return len(operation.shape_of(operation.argument("self")))


def _reading(kind: type[Reduction]) -> Any:
    def read(operation: Operation) -> Reduction:
        rank, dims = _rank(operation), operation.argument("dim")
        listed = [dims] if isinstance(dims, int) else dims or range(rank)
        axes = tuple(sorted({dim % rank for dim in listed})) if rank else ()
        converts = operation.argument("dtype") is not None
        return kind(axes, bool(operation.argument("keepdim", False)), converts)

    return read


def _deviation(operation: Operation) -> Deviation:
    found: Deviation = _reading(Deviation)(operation)
    name = operation.functional_name.rpartition(".")[2]
    if "norm" in name:
        power = operation.argument("ord", operation.argument("p"))
        return replace(found, kind="norm", power=2.0 if power is None else float(power))
    correction = operation.argument("correction")
    if correction is None:
        correction = operation.argument("unbiased", True)
    return replace(found, kind=name.partition("_")[0], correction=float(correction))


def _along(kind: type[_AlongAnAxis]) -> Any:
    def read(operation: Operation) -> _AlongAnAxis:
        return kind(operation.argument("dim") % max(_rank(operation), 1))

    return read


def read_fourier(operation: Operation) -> Fourier:
    """Of real or complex numbers, or back."""
    rank = _rank(operation)
    return Fourier(frozenset(dim % rank for dim in operation.argument("dim")))


OPERATORS: dict[str, Any] = {
    "aten.sum": _reading(Sum),
    "aten.mean": _reading(Mean),
    "aten._softmax": _along(Softmax),
    "aten._log_softmax": _along(Softmax),
    "aten._safe_softmax": _along(MaskedSoftmax),
    "aten.cumsum": _along(Scan),
    "aten.cumprod": _along(Scan),
    "aten.sort": _along(Sort),
    "aten.topk": _along(Sort),
}
OPERATORS |= {
    f"aten.{name}": _reading(Extremum)
    for name in ("amax", "amin", "argmax", "argmin", "max", "min", "any", "all")
}
OPERATORS |= {f"aten.{name}": _reading(Reduction) for name in ("prod", "logsumexp")}
OPERATORS |= {
    f"aten.{name}": _deviation
    for name in ("var", "std", "var_mean", "std_mean", "linalg_vector_norm", "norm")
}
OPERATORS |= {f"aten._fft_{name}": read_fourier for name in ("r2c", "c2r", "c2c")}
