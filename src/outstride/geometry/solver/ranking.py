"""Which answer is better: the order of answers, as a key to sort by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import prod

from outstride.geometry.solver import merits
from outstride.geometry.solver.choices import Choice, Question

Key = tuple[Fraction | int, ...]


def rank_key(axes: Sequence[tuple[Question, Choice]]) -> Key:
    """What answers are ranked by, entry by entry: sums over the axes, but the product of the multiply-adds.

    So a better choice on one axis never makes the whole worse, which is what lets answers of several axes be
    listed in order without listing them all.
    """
    pool = axes[0][0].kind.endswith("pool")
    return (
        sum(merits.misfit(q, c) for q, c in axes),
        sum(sum(merits.idle(q, c)) for q, c in axes),
        sum(merits.has_holes(c) for _, c in axes),
        sum((abs(merits.shift(q, c)) for q, c in axes), Fraction(0)),
        sum(not merits.is_even(c) for _, c in axes),
        sum(c.dilation > 1 for _, c in axes),
        # A pooling window that overlaps its neighbour computes the same twice; a stamp that does hides the
        # seam.
        sum(merits.overlaps(c) if pool else not merits.overlaps(c) for _, c in axes),
        sum(c.ceil_mode for _, c in axes),
        sum(c.low != c.high for _, c in axes),
        prod(merits.multiply_adds(q, c) for q, c in axes),
        sum(c.output_padding for _, c in axes),
        sum(c.low + c.high for _, c in axes),
        sum(c.stride + c.dilation for _, c in axes),
    )


def added(keys: Iterable[Key]) -> Key:
    """The key of several layers together: sums never turn the order of one of them round."""
    return tuple(map(sum, zip(*keys, strict=True)))
