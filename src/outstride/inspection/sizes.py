"""Which sizes of the image a model accepts: n = r mod M for each axis, by running it at one whole cycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from outstride.inspection.lineage import Lineage
from outstride.models.trace import Runner

MOST_RUNS = 256
_FINE = 8
_FEW = 8


@dataclass(frozen=True)
class Sizes:
    """Sizes n along one axis with ``n % modulus in remainders`` and ``n >= least``; or ``listed`` ones alone.

    ``cycle`` is the number of neighbouring sizes that were tried, which is a multiple of the period of every
    size in the model where ``proven``.
    """

    modulus: int
    remainders: tuple[int, ...]
    least: int
    listed: tuple[int, ...] = ()
    cycle: int = 1
    proven: bool = True

    def __contains__(self, size: int) -> bool:
        if self.listed:
            return size in self.listed
        return size >= self.least and size % self.modulus in self.remainders

    def above(self, size: int) -> int | None:
        """The least size of these that is at least ``size``: what to pad to."""
        if self.listed:
            return min((n for n in self.listed if n >= size), default=None)
        if not self.remainders:
            return None
        start = max(size, self.least)
        return next(n for n in range(start, start + self.modulus) if n in self)

    def below(self, size: int) -> int | None:
        """The largest of these that is at most ``size``: what to crop to."""
        if self.listed:
            return max((n for n in self.listed if n <= size), default=None)
        return next((n for n in range(size, max(size - self.modulus, self.least - 1), -1) if n in self), None)

    def __str__(self) -> str:
        if self.listed:
            return f"only {_spans(self.listed)}"
        if not self.remainders:
            return "none"
        if self.modulus == 1:
            return f"any from {self.least}"
        rests = " or ".join(map(str, self.remainders))
        return f"n = {rests} mod {self.modulus}, from {self.least}"


class Taken(NamedTuple):
    """What is known of the sizes along one axis; None where they were not looked for, or there are none."""

    runs: Sizes | None = None
    returned: Sizes | None = None
    scale: Fraction | None = None
    """Pixels for each position of the first output at the sizes that are returned whole."""


def place_of(lineage: Lineage, axis: int) -> int | None:
    """The axis of a tensor that runs along one axis of the image, it alone, in single positions."""
    for dim in range(len(lineage.dims)):
        if lineage.axes_of(dim) == {axis}:
            return None if lineage.placed(dim) is None else dim
    return None


def cycle_of(lineages: Iterable[Lineage], axis: int) -> int:
    """A common multiple of the periods with which sizes inside the model repeat as the image grows.

    A layer makes floor((m + a) / s) + b of m = g(n). Where g(n + M) = g(n) + M / S, S being the stride before
    it, the result has stride S s and grows by M / (S s) over M as soon as that is a whole number: M has to be
    a multiple of the numerator of every stride on the way, and of every block that positions are cut into.
    """
    numbers = {1}
    for lineage in lineages:
        field = lineage.fields.get(axis)
        if field is None or field.stride.denominator > _FINE:
            continue  # a resize to a size that was given: its stride is that of this size alone
        steps = {atom.step for dim in lineage.dims for atom in dim if atom.axis == axis}
        numbers |= {abs((field.stride * step).numerator) for step in steps} | {abs(field.stride.numerator)}
    return lcm(*(number for number in numbers if number))


class Probe:
    """A model run at other sizes of one axis, each size once."""

    def __init__(self, runner: Runner, shape: Sequence[int], dim: int) -> None:
        self._runner, self._shape, self._dim = runner, tuple(shape), dim
        self.size = self._shape[dim]
        self._known: dict[int, tuple[tuple[int, ...], ...] | None] = {}

    def shapes(self, size: int) -> tuple[tuple[int, ...], ...] | None:
        """Shapes of the outputs; None where the model refuses the size."""
        if size not in self._known:
            shape = (*self._shape[: self._dim], size, *self._shape[self._dim + 1 :])
            self._known[size] = self._runner.shapes(shape)
        return self._known[size]

    def runs(self, size: int) -> bool:
        """Whether the model accepts the size."""
        return size >= 1 and self.shapes(size) is not None

    def returns(self, size: int, dim: int, scale: Fraction) -> bool:
        """Whether the first output has exactly size / scale positions."""
        shapes = self.shapes(size) if size >= 1 else None
        return bool(shapes) and shapes is not None and len(shapes[0]) > dim and shapes[0][dim] * scale == size


def admissible(accepts: Callable[[int], bool], size: int, cycle: int) -> Sizes:
    """Which sizes are accepted, ``size`` being the one that the model was traced at.

    Args:
        accepts: whether a size is accepted; asked once for each size of a cycle, and a few more.
        size: a size that is accepted, or at least one that the model runs at.
        cycle: a multiple of the period, from ``cycle_of``.
    """
    proven = cycle <= MOST_RUNS
    cycle = cycle if proven else MOST_RUNS
    again = [n for n in range(size, size + cycle) if accepts(n)]
    # Where every size of a cycle is accepted, a few of the next one say that they are no list.
    whole = len(again) == cycle and all(accepts(n + cycle) for n in again[:: max(1, cycle // _FEW)])
    later = again if whole else [n for n in again if accepts(n + cycle)]
    if not later:
        near = sorted({*again, *(n for n in range(max(1, size - cycle), size) if accepts(n))})
        if not again and not near:
            return Sizes(1, (), 1, (), cycle, proven)
        return Sizes(1, (), near[0], tuple(near), cycle, proven)
    remainders = frozenset(n % cycle for n in later)
    modulus = next(
        m
        for m in range(1, cycle + 1)
        if cycle % m == 0 and all((r + m) % cycle in remainders for r in remainders)
    )
    rests = tuple(sorted({r % modulus for r in remainders}))
    return Sizes(modulus, rests, _least(accepts, rests, modulus, later[0]), (), cycle, proven)


def _least(accepts: Callable[[int], bool], rests: Sequence[int], modulus: int, known: int) -> int:
    """The smallest size from which on all of the classes are accepted, found by halving."""
    candidates = [n for n in range(1, known + 1) if n % modulus in rests]
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if accepts(candidates[middle]):
            high = middle
        else:
            low = middle + 1
    return candidates[high]


def _spans(numbers: Sequence[int]) -> str:
    spans: list[list[int]] = []
    for n in numbers:
        if spans and spans[-1][1] == n - 1:
            spans[-1][1] = n
        else:
            spans.append([n, n])
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)
