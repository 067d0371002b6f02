"""The rule for glu, which is elementwise on two halves of its source: each element by the whole's routine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from outstride.models.layouts import order_of
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.pointwise import Gate
from outstride.tiling.box import Box
from outstride.tiling.rules import tails
from outstride.tiling.rules.interface import Rule, RuleTable, along, copies, cropped, present
from outstride.tiling.rules.pointwise import room


def _axis(node: Node) -> int:
    operator: Gate = describe(node)
    return operator.axis


def _demand(node: Node, box: Box) -> Sequence[Box | None]:
    return [along(node, box, [_axis(node)])]


def _run(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
    del boxes
    (x,), axis, shape = present(tensors), _axis(node), node.shape
    made = (*box[:axis], (0, shape[axis]), *box[axis + 1 :])
    order, _ = order_of(shape, node.strides)
    halves = [half.permute(order) for half in x.chunk(2, axis)]
    flat, count = [half.reshape(-1) for half in halves], halves[0].numel()
    if not count:
        return cropped(node.call([x]), box, made)
    row, step = _row(node, order), _step(node, x.dtype)
    if row == 1:  # no vectors at all
        result = _alone(node, *flat)
    else:
        rows = [half.new_zeros(room(count)) for half in flat]
        for longer, half in zip(rows, flat, strict=True):
            longer[:count] = half
        result = _vectors(node, *rows)[:count]
        if step:
            place, whole = tuple(made[a] for a in order), tuple(shape[a] for a in order)
            places = tails.places(place, whole, tails.tails(prod(whole), step, tails.GRAIN, row))
            if len(places):
                result[places] = _alone(node, *(half[places] for half in flat))
    back = sorted(range(len(order)), key=order.__getitem__)
    return cropped(result.view(halves[0].shape).permute(back), box, made)


def _row(node: Node, order: Sequence[int]) -> int:
    """Elements that lie in a row without a gap, in the result as in the halves."""
    row = 1
    for axis in reversed(order):
        if node.shape[axis] > 1:
            if not node.strides[axis] == node.source_strides[0][axis] == row:
                break
            row *= node.shape[axis]
    return row


@lru_cache(1024)
def _step(node: Node, dtype: torch.dtype) -> int:
    return tails.step_of(
        lambda x: _vectors(node, x * 0.7 + 0.3, x), lambda x: _alone(node, x * 0.7 + 0.3, x), dtype
    )


def _vectors(node: Node, values: Tensor, gates: Tensor) -> Tensor:
    return node.call([torch.cat([values, gates])], dim=0)


def _alone(node: Node, values: Tensor, gates: Tensor) -> Tensor:
    return node.call([torch.stack([values, gates], 1)], dim=1)[:, 0]


def _scratch(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    del box
    return 2 * copies(node, boxes)


RULES: RuleTable = {Gate: Rule(_demand, _run, scratch=_scratch)}
