"""Operators that look at a whole map: what is folded of it, and how results are made from that."""

from __future__ import annotations

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.tiling.barriers import deviations, norms, pooling, sums
from outstride.tiling.barriers.interface import Barrier

BARRIERS = norms.BARRIERS | sums.BARRIERS | pooling.BARRIERS | deviations.BARRIERS


def barrier_of(node: Node) -> Barrier | None:
    """The barrier that an operator is; None for one that is none, or whose order is not known."""
    found = BARRIERS.get(type(describe(node)))
    return found if found is not None and found.serves(node) else None
