"""Rules for other shapes and orders of the same elements, other names for them, and copies."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators import views
from outstride.models.operators.describing import describe
from outstride.tiling.box import Box, Interval, elements, shape_of
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors, broadcast, present


# Axes in another order.
def _permuted_demand(node: Node, box: Box) -> Boxes:
    operator: views.Permute = describe(node)
    needed = list(box)
    for place, axis in enumerate(operator.order):
        needed[axis] = box[place]
    return [tuple(needed)]


def _permute(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del box, boxes
    operator: views.Permute = describe(node)
    return present(tensors)[0].permute(operator.order)


# Another shape of the same elements: axes that only split or join each other form a group.
def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        first, second, left, right = i, j, old[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        groups.append((range(first, i), range(second, j)))
    # What is left over has one element.
    old_start, new_start = (groups[-1][0].start, groups[-1][1].start) if groups else (0, 0)
    return [*groups[:-1], (range(old_start, len(old)), range(new_start, len(new)))]


def _flat_range(box: Box, shape: Sequence[int]) -> Interval:
    first = last = 0
    for (a, b), n in zip(box, shape, strict=True):
        first, last = first * n + a, last * n + b - 1
    return first, last + 1


def _covering(flat: Interval, shape: Sequence[int]) -> Box:
    """The least box of consecutive elements that holds a range of them."""
    axes: list[Interval] = []
    first, last = flat[0], flat[1] - 1
    parted = False
    for axis, n in enumerate(shape):
        step = prod(shape[axis + 1 :])
        a, b = first // step % n, last // step % n
        axes.append((0, n) if parted else (a, b + 1))
        parted = parted or a != b
    return tuple(axes)


def _reshaped_demand(node: Node, box: Box) -> Boxes:
    old = node.source_shapes[0]
    if elements(box) == 0:
        return [tuple((0, 0) for _ in old)]
    axes: list[Interval] = []
    for group, made in _groups(old, node.shape):
        flat = _flat_range(tuple(box[j] for j in made), [node.shape[j] for j in made])
        axes += _covering(flat, [old[i] for i in group])
    return [tuple(axes)]


def is_kept_together(node: Node, box: Box, held: Box) -> bool:
    """Whether a box of another shape has just the elements of the box of its source, in their order."""
    return elements(box) > 0 and all(
        prod(box[j][1] - box[j][0] for j in made) == prod(held[i][1] - held[i][0] for i in group)
        for group, made in _groups(node.source_shapes[0], node.shape)
    )


def _reshape(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, present(tensors)
    assert held is not None
    if elements(box) == 0:
        return x.new_empty(shape_of(box))
    old = node.source_shapes[0]
    groups = _groups(old, node.shape)
    x = x.reshape([prod(held[i][1] - held[i][0] for i in group) for group, _ in groups])
    for axis, (group, made) in enumerate(groups):
        start, _ = _flat_range(tuple(held[i] for i in group), [old[i] for i in group])
        positions = torch.zeros(1, dtype=torch.int64)
        for j in made:
            positions = positions[..., None] * node.shape[j] + torch.arange(*box[j])
        positions = positions.reshape(-1) - start
        if len(positions) != x.shape[axis]:
            x = x.index_select(axis, positions)
    return x.reshape(shape_of(box))


# Axes of one element, repeated without being copied.
def _expanded_demand(node: Node, box: Box) -> Boxes:
    return [broadcast(box, node.source_shapes[0])]


def _expand(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del node, boxes
    return present(tensors)[0].expand(shape_of(box))


# The same under another name, or in another type.
def _same_demand(node: Node, box: Box) -> Boxes:
    del node
    return [box]


def _same(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del box, boxes
    return present(tensors)[0].to(node.dtype)


_RESHAPE, _SAME = Rule(_reshaped_demand, _reshape), Rule(_same_demand, _same)
RULES: RuleTable = {
    views.Permute: Rule(_permuted_demand, _permute),
    views.Expand: Rule(_expanded_demand, _expand),
}
RULES |= dict.fromkeys((views.Reshape, views.Squeeze, views.Unsqueeze), _RESHAPE)
RULES |= dict.fromkeys((views.Alias, views.Copy), _SAME)
