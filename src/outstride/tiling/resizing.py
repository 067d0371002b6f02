"""Rules for linear interpolation: torch's weights for each position of the whole, axis by axis.

A tile asked of torch's own operator would have weights of its own, as they are rounded by their distance from
the border. So they are computed for the whole axis, in torch's arithmetic: the weight of a position, then a
product and a fused multiply-add along each axis, from the last to the first (UpSampleKernel.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.tiling.box import Box, elements
from outstride.tiling.graph import Node
from outstride.tiling.rule import NEEDS_ALL, Rule, given

#: Up to this height and width together torch interpolates maps in another order.
_SMALL = 128


class _Line(NamedTuple):
    """For each position of an axis the two that it lies between, and their weights."""

    low: Tensor
    high: Tensor
    of_low: Tensor
    of_high: Tensor


@lru_cache(256)
def _line(node: Node, axis: int) -> _Line:
    nd = len(node.shape) - 2
    names = ["scales"] if nd == 1 else ["scales_d", "scales_h", "scales_w"][-nd:]
    size, made, given_scale = (
        node.source_shapes[0][2 + axis],
        node.shape[2 + axis],
        node.argument(names[axis]),
    )
    positions = torch.arange(made, dtype=node.dtype)
    if size == made:
        whole = torch.arange(size)
        return _Line(whole, whole, torch.ones_like(positions), torch.zeros_like(positions))
    number = torch.tensor(size, dtype=node.dtype)
    if node.argument("align_corners"):
        real = (number - 1) / (made - 1) * positions if made > 1 else positions * 0
    else:
        scale = torch.tensor(1 / given_scale, dtype=node.dtype) if given_scale else number / made
        real = torch.addcmul(torch.full_like(positions, -0.5), scale, positions + 0.5).clamp(min=0)
    low = real.floor().to(torch.int64).clamp(max=size - 1)
    of_high = (real - low).clamp(0, 1)
    return _Line(low, (low + 1).clamp(max=size - 1), 1 - of_high, of_high)


def _has_a_rule(node: Node) -> bool:
    nd = len(node.shape) - 2
    small = nd == 2 and node.shape[-2] + node.shape[-1] <= _SMALL
    return node.dtype == torch.float32 and not small


def _demand(node: Node, box: Box) -> Sequence[Box | None]:
    if not _has_a_rule(node):
        return NEEDS_ALL.demand(node, box)
    axes = []
    for axis, (a, b) in enumerate(box[2:]):
        line = _line(node, axis)
        axes.append((int(line.low[a]), int(line.high[b - 1]) + 1) if b > a else (0, 0))
    return [(*box[:2], *axes)]


def _interpolate(
    node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]
) -> Tensor:
    if not _has_a_rule(node):
        return NEEDS_ALL.run(node, box, boxes, tensors)
    (held,), (x,) = boxes, given(tensors)
    assert held is not None
    assert elements(box)
    for axis in reversed(range(len(box) - 2)):
        dim = 2 + axis
        low, high, of_low, of_high = (part[slice(*box[dim])] for part in _line(node, axis))
        first, shape = held[dim][0], [-1, *(1 for _ in box[dim + 1 :])]
        above = x.index_select(dim, high - first) * of_high.view(shape)
        x = torch.addcmul(above, x.index_select(dim, low - first), of_low.view(shape).expand_as(above))
    return x


def _needs_all(node: Node) -> bool:
    return not _has_a_rule(node)


LINEAR = Rule(_demand, _interpolate, _needs_all)
