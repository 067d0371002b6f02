"""Short algorithms of one axis: outputs from fewer products than one for each tap of each.

On one axis m outputs of r neighbouring taps are the trilinear form of the sum of x[i + k] w[k] y[i] over
i < m and k < r. Its rank is m + r - 1 (Winograd, Arithmetic Complexity of Computations, 1980): it is a sum of
so many products (b . x)(g . w)(a . y) with fixed rows b, g and a. Leave y, x or w out and the same rows give
the convolution, its adjoint or the weight gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, gcd
from typing import NamedTuple

from outstride.layer.axis import Phase

Terms = tuple[tuple[int, Fraction], ...]
"""A sum of elements: (index, coefficient) each, in the order in which they are added."""


@dataclass(frozen=True)
class Algorithm:
    """F(m, r): m outputs of r taps next to each other, from the m + r - 1 inputs that they read.

    Row p of the three matrices belongs to product p: ``data`` has a column for each input, ``weight`` for
    each tap, ``result`` for each output.
    """

    data: tuple[tuple[int, ...], ...]
    weight: tuple[tuple[Fraction, ...], ...]
    result: tuple[tuple[int, ...], ...]

    @property
    def outputs(self) -> int:
        """How many outputs it makes."""
        return len(self.result[0])

    @property
    def taps(self) -> int:
        """How many taps each of them has."""
        return len(self.weight[0])

    @property
    def products(self) -> int:
        """How many products it takes."""
        return len(self.data)

    def __str__(self) -> str:
        return f"F({self.outputs},{self.taps})"


def _of(data: Sequence[str], weight: Sequence[str], result: Sequence[str], denominator: int = 1) -> Algorithm:
    """The algorithm with these rows, written as numbers between spaces; weights over a denominator."""

    def rows(text: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(map(int, row.split())) for row in text)

    weights = tuple(tuple(Fraction(n, denominator) for n in row) for row in rows(weight))
    return Algorithm(rows(data), weights, rows(result))


# Each evaluates at the points 0, 1, -1 and infinity, so rows hold 0, 1 and -1, and halves of weights: small
# integers come out exactly. No output takes a product of an input outside its own window, and so no NaN.
F23 = _of(
    ["1 0 -1 0", "0 1 1 0", "0 -1 1 0", "0 1 0 -1"],
    ["2 0 0", "1 1 1", "1 -1 1", "0 0 2"],
    ["1 0", "1 1", "1 -1", "0 -1"],
    denominator=2,
)
F22 = _of(["1 -1 0", "0 1 0", "0 -1 1"], ["1 0", "1 1", "0 1"], ["1 0", "1 1", "0 1"])
F21 = _of(["1 0", "0 1"], ["1", "1"], ["1 0", "0 1"])
F11 = _of(["1"], ["1"], ["1"])
_OF_TAPS = {algorithm.taps: algorithm for algorithm in (F21, F22, F23)}


class Product(NamedTuple):
    """One multiplication: a sum of inputs times a sum of kernel elements, which goes to some outputs."""

    inputs: Terms
    weights: Terms
    outputs: Terms


@dataclass(frozen=True)
class ShortPhase:
    """Outputs of one axis that are computed alike, in groups of ``outputs`` neighbours of the phase.

    Member j of group q is the output ``out_start + out_step * (outputs * q + j)``; its products read the
    inputs at ``in_step * outputs * q + index``. Groups are counted from output ``out_start`` of the whole, so
    a part of a tensor is grouped as the whole is.
    """

    out_start: int
    out_step: int
    in_step: int
    outputs: int
    products: tuple[Product, ...]
    #: What its products come from; none where each is a tap of its own.
    algorithms: tuple[Algorithm, ...] = ()

    def groups(self, size: int) -> int:
        """How many groups have a member in an output of that size."""
        return max(0, ceil(ceil((size - self.out_start) / self.out_step) / self.outputs))

    def first_input(self, group: int) -> int:
        """Where the inputs of a group are counted from."""
        return self.in_step * self.outputs * group

    def output(self, group: int, member: int) -> int:
        """Where a member of a group lies in the output."""
        return self.out_start + self.out_step * (self.outputs * group + member)

    def absolute(self) -> ShortPhase:
        """The same with the absolute values of all coefficients: with it rounding errors are bounded."""

        def positive(terms: Terms) -> Terms:
            return tuple((index, abs(coefficient)) for index, coefficient in terms)

        return replace(self, products=tuple(Product(*map(positive, p)) for p in self.products))


def cut(taps: int) -> tuple[Algorithm, ...]:
    """Taps next to each other cut into algorithms of two outputs: threes, and twos for what is left.

    Example:
        >>> [str(algorithm) for algorithm in cut(7)]
        ['F(2,3)', 'F(2,2)', 'F(2,2)']
    """
    if taps == 1:
        return (F21,)
    twos = -taps % 3
    return (F23,) * ((taps - 2 * twos) // 3) + (F22,) * twos


def direct(phase: Phase) -> ShortPhase:
    """The phase as it is: one output at a time, one product for each tap."""
    one = Fraction(1)
    products = tuple(Product(((offset, one),), ((index, one),), ((0, one),)) for index, offset in phase.taps)
    return ShortPhase(phase.out_start, phase.out_step, phase.in_step, 1, products)


def shortened(phase: Phase) -> tuple[ShortPhase, ...]:
    """A phase by short algorithms: the phases that it is dealt out into, or itself where none saves anything.

    Two outputs share products where one reads through a tap what its neighbour reads through the next. Where
    taps are further apart than neighbours, outputs are dealt out so that they are as far apart; where they
    are nearer, taps are.

    Law: member by member and tap by tap the sum of the products is that of the phase.

    Example:
        >>> three = Phase(0, 1, 1, ((0, -1), (1, 0), (2, 1)))
        >>> [len(each.products) for each in shortened(three)]  # for two outputs, instead of 6
        [4]
    """
    taps = sorted(phase.taps, key=lambda tap: tap[1])
    apart = gcd(*(b - a for (_, a), (_, b) in pairwise(taps)))
    dealt = apart // gcd(apart, phase.in_step) if apart else 1
    step = phase.in_step * dealt
    chains = tuple(_chains(taps, step))
    pieces = [(chain, algorithm) for chain in chains for algorithm in cut(len(chain))]
    if sum(algorithm.products for _, algorithm in pieces) >= 2 * len(taps):
        return (direct(phase),)
    return tuple(
        ShortPhase(
            phase.out_start + first * phase.out_step, phase.out_step * dealt, step, 2,
            tuple(_products(chains, step, first * phase.in_step)), tuple(each for _, each in pieces),
        )
        for first in range(dealt)
    )  # fmt: skip


def _chains(taps: Sequence[tuple[int, int]], step: int) -> Iterator[tuple[tuple[int, int], ...]]:
    """The taps, ascending in the offset, in runs of those whose offsets are one step apart."""
    left = {offset: index for index, offset in taps}
    for _, first in taps:
        chain = []
        offset = first
        while offset in left:
            chain.append((left.pop(offset), offset))
            offset += step
        if chain:
            yield tuple(chain)


def _products(chains: Sequence[Sequence[tuple[int, int]]], step: int, shift: int) -> Iterator[Product]:
    """The products of two neighbouring outputs, whose first reads each chain's inputs behind a shift."""
    for chain in chains:
        begin = 0
        for algorithm in cut(len(chain)):
            first = chain[begin][1] + shift
            piece = chain[begin : begin + algorithm.taps]
            begin += algorithm.taps
            for data, weight, result in zip(algorithm.data, algorithm.weight, algorithm.result, strict=True):
                yield Product(
                    tuple((first + i * step, Fraction(c)) for i, c in enumerate(data) if c),
                    tuple((piece[k][0], c) for k, c in enumerate(weight) if c),
                    tuple((j, Fraction(c)) for j, c in enumerate(result) if c),
                )
