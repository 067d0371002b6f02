"""Rules for tensors beside each other, along an axis that they have or a new one."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.concatenation import Concatenate, Stack
from outstride.models.operators.describing import describe
from outstride.tiling.box import Box, clamped, elements, hull, replaced, shape_of, within
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors, present


def _parts(node: Node, box: Box) -> list[tuple[int, Box]]:
    """What a box takes of every tensor that is put beside the others, by its place among the sources."""
    operator: Concatenate = describe(node)
    sizes = [node.shape_of(source)[operator.axis] for source in operator.tensors]
    a, b = box[operator.axis]
    return [
        (node.place_of(source), replaced(box, operator.axis, clamped(a - end + size, b - end + size, size)))
        for source, size, end in zip(operator.tensors, sizes, accumulate(sizes), strict=True)
    ]


def _concatenated_demand(node: Node, box: Box) -> Boxes:
    needed: dict[int, list[Box]] = {}
    for place, part in _parts(node, box):
        if elements(part):
            needed.setdefault(place, []).append(part)
    return [hull(needed[place]) if place in needed else None for place in range(len(node.sources))]


def _concatenate(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    parts = []
    for place, part in _parts(node, box):
        tensor, held = tensors[place], boxes[place]
        if tensor is not None and held is not None and elements(part):
            parts.append(tensor[within(part, held)])
    if not parts:
        return torch.empty(shape_of(box), dtype=node.dtype)
    operator: Concatenate = describe(node)
    return torch.cat(parts, operator.axis) if len(parts) > 1 else parts[0]


def _stacked(node: Node, box: Box) -> list[int]:
    """Places among the sources of the tensors in a box."""
    operator: Stack = describe(node)
    return [node.place_of(source) for source in operator.tensors[slice(*box[operator.axis])]]


def _stacked_demand(node: Node, box: Box) -> Boxes:
    operator: Stack = describe(node)
    needed = _stacked(node, box)
    part = (*box[: operator.axis], *box[operator.axis + 1 :])
    return [part if place in needed else None for place in range(len(node.sources))]


def _stack(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    operator: Stack = describe(node)
    return torch.stack(present([tensors[place] for place in _stacked(node, box)]), operator.axis)


RULES: RuleTable = {
    Concatenate: Rule(_concatenated_demand, _concatenate),
    Stack: Rule(_stacked_demand, _stack),
}
