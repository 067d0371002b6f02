"""What a barrier says of an operator that looks at a whole map.

Its fold goes over the map first. Where the result is small, the fold makes it; otherwise each element of
the result is made of the elements at its place and of what the fold has come to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

from outstride.models.layouts import in_order
from outstride.models.node import Node
from outstride.tiling.box import Box, whole
from outstride.tiling.folds.interface import Fold
from outstride.tiling.rules.interface import Boxes, Demand, Rule, Tensors, copies

Apply = Callable[[Node, Any, Box, Tensors], Tensor]
"""A box of the result, of what the fold has come to and of the sources' parts."""


def at_their_place(node: Node, box: Box) -> Boxes:
    """The same box of the map, and all of the small tensors."""
    return [box, *map(whole, node.source_shapes[1:])]


@dataclass(frozen=True)
class Barrier:
    """``fold``: what goes over the whole first source; ``serves``: whether its order is known."""

    fold: Callable[[Node], Fold]
    serves: Callable[[Node], bool]
    apply: Apply | None = None
    """A box of the result; None where it is small."""
    walks: int = 1
    """How often the fold goes over the map."""
    in_turn: Callable[[Node], int] = lambda _: 1
    """Of how many channels, one after the other in memory, each sum is: 1 where all come in slabs."""
    demand: Demand = at_their_place

    def rule(self, folded: Callable[[], Any]) -> Rule:
        """How boxes of the result are made once the fold has ended."""
        apply = self.apply
        assert apply is not None

        def run(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
            del boxes
            return apply(node, folded(), box, tensors)

        return Rule(self.demand, run, scratch=_copied)


def _copied(node: Node, box: Box, boxes: Boxes) -> int:
    """A copy of the map, and one as large of each weight that has positions, too."""
    del box
    return copies(node, boxes[:1]) * (1 + sum(len(shape) > 1 for shape in node.source_shapes[1:]))


def is_map(node: Node) -> bool:
    """Whether the first source has channels and positions."""
    return bool(node.sources) and len(node.source_shapes[0]) > 2 and prod(node.source_shapes[0][2:]) > 1


def lies_in_order(node: Node) -> bool:
    """Whether the first source lies in memory without gaps, the last axis innermost."""
    return in_order(node.source_shapes[0], node.source_strides[0])


def spatial_axes(node: Node) -> set[int]:
    """Those of the first source behind the channels."""
    return set(range(2, len(node.source_shapes[0])))
