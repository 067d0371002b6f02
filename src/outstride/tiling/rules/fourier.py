"""The rule for Fourier transforms along axes that are not cut: each is computed by itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.reductions import Fourier
from outstride.tiling.box import Box
from outstride.tiling.rules.interface import (
    Boxes,
    Rule,
    RuleTable,
    Tensors,
    along,
    as_the_whole,
    copies,
    cropped,
    present,
    twice,
)


def _axes(node: Node) -> Sequence[int]:
    operator: Fourier = describe(node)
    return sorted(operator.axes)


def _demand(node: Node, box: Box) -> Boxes:
    return [along(node, box, _axes(node))]


def _transform(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    (x,), axes = present(tensors), _axes(node)
    result = twice(lambda part: node.call([as_the_whole(part, node)]), x, axes)
    return cropped(result, box, tuple((0, n) if i in axes else box[i] for i, n in enumerate(node.shape)))


def _scratch(node: Node, box: Box, boxes: Boxes) -> int:
    del box
    return 2 * copies(node, boxes)


RULES: RuleTable = {Fourier: Rule(_demand, _transform, scratch=_scratch)}
