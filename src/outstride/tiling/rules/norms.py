"""Rules for norms whose statistics are fixed, or lie along axes that are not cut."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.norms import BatchNorm, LayerNorm
from outstride.tiling.box import Box, elements
from outstride.tiling.rules.interface import Boxes, RuleTable, completing, copies

#: Elements of a last axis from which it is one of positions.
_LARGE = 4096


def _is_fixed(node: Node) -> bool:
    operator: BatchNorm = describe(node)
    return not operator.training and not node.result


def _normalized(node: Node) -> Sequence[int]:
    operator: LayerNorm = describe(node)
    return range(-operator.axes, 0)


def _is_of_maps(node: Node) -> bool:
    """Whether each element is made of all positions of its channel: then it is no norm of a tile's own.

    Of three axes the last are the features of tokens, as a rule, unless they are many more than those before.
    """
    operator: LayerNorm = describe(node)
    shape = node.source_shapes[0]
    return operator.axes == len(shape) - 2 and (operator.axes > 1 or shape[1] < _LARGE <= shape[2])


def _scratch(node: Node, box: Box, boxes: Boxes) -> int:
    """A copy in the order of the memory, and the mean and the deviation at each position."""
    operator: LayerNorm = describe(node)
    positions = elements(box) // max(operator.elements, 1)
    return copies(node, boxes[:1]) + 2 * node.dtype.itemsize * positions


RULES: RuleTable = {
    BatchNorm: completing(lambda _: [1], serves=_is_fixed),
    LayerNorm: completing(_normalized, _scratch)._replace(needs_all=_is_of_maps),
}
