"""The rule for new tensors of one number, which need nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.creation import Filled
from outstride.models.operators.describing import describe
from outstride.tiling.box import Box, shape_of
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors


def _demand(node: Node, box: Box) -> Boxes:
    del box
    return [tuple((0, 0) for _ in shape) for shape in node.source_shapes]


def _fill(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes, tensors
    operator: Filled = describe(node)
    return torch.full(shape_of(box), operator.value, dtype=node.dtype)


RULES: RuleTable = {Filled: Rule(_demand, _fill)}
