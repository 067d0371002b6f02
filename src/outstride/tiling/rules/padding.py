"""Rules for padding: a number around, or a border that repeats what is there."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.padding import BorderPad, ConstantPad
from outstride.tiling.box import Box, clamped, elements, shape_of
from outstride.tiling.rules.indexing import Lines, by_positions, on_a_map
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors, present


def _padded_demand(node: Node, box: Box) -> Boxes:
    return [
        tuple(
            clamped(a - low, b - low, n)
            for (a, b), low, n in zip(box, _lows(node), node.source_shapes[0], strict=True)
        )
    ]


def _lows(node: Node) -> list[int]:
    operator: ConstantPad = describe(node)
    return [operator.pads.get(axis, (0, 0))[0] for axis in range(len(node.shape))]


def _pad(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, present(tensors)
    assert held is not None
    operator: ConstantPad = describe(node)
    result = x.new_full(shape_of(box), operator.value)
    places = []
    for (a, _), (first, last), low in zip(box, held, _lows(node), strict=True):
        places.append(slice(first + low - a, last + low - a))
    if elements(held):
        result[tuple(places)] = x
    return result


def _bordered(node: Node) -> Lines:
    operator: BorderPad = describe(node)
    pad = partial(torch.nn.functional.pad, mode=operator.mode)
    return {axis: on_a_map(pad, pair) for axis, pair in operator.pads.items()}


RULES: RuleTable = {ConstantPad: Rule(_padded_demand, _pad), BorderPad: by_positions(_bordered)}
