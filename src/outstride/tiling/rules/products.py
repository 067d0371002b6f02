"""Rules for matrix products: linear maps of one axis by our own kernel, small matrices one by one by torch's.

Torch's products of few rows have other bits than those of many, so a linear map is computed as a convolution
that looks at one position, whose sums have one order. Of many products of small matrices torch gives
most the bits that each has alone, wherever it lies; where it does not, which is tried for every size, our
kernel makes them, too.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.products import ChannelProduct, FusedAttention, MatrixProducts
from outstride.tiling.box import Box, replaced, shape_of, whole
from outstride.tiling.rules.interface import (
    NEEDS_ALL,
    Boxes,
    Rule,
    RuleTable,
    Tensors,
    broadcast,
    copies,
    cropped,
    present,
)
from outstride.tiling.surroundings import computing_by, threads_of_whole

#: Matrices of which it is tried whether they are computed one by one, and elements of all of them: what is
#: tried is in memory beside what is planned.
_TRIED, _MOST_TRIED = 8, 1 << 21


def _channels_demand(node: Node, box: Box) -> Boxes:
    operator: ChannelProduct = describe(node)
    shape = node.shape_of(operator.input)
    return [
        replaced(box, operator.axis, (0, shape[operator.axis])),
        *map(whole, node.source_shapes[1:]),
    ]


def _channels(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    operator: ChannelProduct = describe(node)
    (x, weight, *rest), axis = present(tensors), operator.axis
    front, behind = x.shape[:axis], x.shape[axis + 1 :]
    if axis == x.dim() - 1:
        rows = x.reshape(1, -1, x.shape[-1]).transpose(1, 2)
    else:
        rows = x.reshape(prod(front), x.shape[axis], -1)
    bias = rest[0] if rest else None
    made = torch.ops.outstride.conv(rows, weight, bias, [1], [0], [rows.shape[2]], [1], 1, "auto")
    if axis == x.dim() - 1:
        made = made.transpose(1, 2)
    made = made.reshape(*front, *([made.shape[1]] if axis < x.dim() - 1 else []), *behind, *(
        [made.shape[2]] if axis == x.dim() - 1 else []
    ))  # fmt: skip
    return cropped(made, box, replaced(box, axis, (0, node.shape[axis])))


def _channels_scratch(node: Node, box: Box, boxes: Boxes) -> int:
    del box
    return copies(node, boxes[:1])


# Many small matrices.
def _matrices_demand(node: Node, box: Box) -> Boxes:
    operator: MatrixProducts = describe(node)
    lead = box[: operator.leading]
    return [
        (*broadcast(lead, shape[: operator.leading]), *whole(shape[operator.leading :]))
        for shape in node.source_shapes
    ]


def _matrices(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    operator: MatrixProducts = describe(node)
    lead, n = shape_of(box[: operator.leading]), operator.leading
    parts = [
        tensor.expand(*lead, *tensor.shape[n:]).reshape(prod(lead), *shape).contiguous()
        for tensor, shape in zip(present(tensors), operator.shapes, strict=True)
    ]
    with computing_by(threads_of_whole()):  # as torch's own sums may be shared among them
        made = (_called if are_torchs(node) else _in_order)(node, parts).reshape(*lead, *node.shape[n:])
    return cropped(made, box, (*box[:n], *whole(node.shape[n:])))


def _called(node: Node, parts: list[Tensor]) -> Tensor:
    """The operator on (count, rows, columns); attention has heads besides."""
    if node.result is None:
        return node.call(parts)
    return node.call([part.unsqueeze(1) for part in parts])[:, 0]


def _in_order(node: Node, parts: list[Tensor]) -> Tensor:
    """Products whose sums have our one order: convolutions at one position, a group for each matrix."""
    del node
    left, right = parts
    count, rows, summed = left.shape
    x = left.transpose(1, 2).reshape(1, count * summed, rows)
    weight = right.transpose(1, 2).reshape(-1, summed, 1)
    made: Tensor = torch.ops.outstride.conv(x, weight, None, [1], [0], [rows], [1], count, "auto")
    return made.reshape(count, -1, rows).transpose(1, 2)


def are_torchs(node: Node) -> bool:
    """Whether a matrix product has torch's bits in a tile, too."""
    with computing_by(threads_of_whole()):
        return _are_apart(node, torch.get_num_threads())


@lru_cache(1024)
def _are_apart(node: Node, threads: int) -> bool:
    """Whether torch gives a matrix the same bits alone as among others, wherever it lies in memory."""
    del threads  # torch asks for it
    operator: MatrixProducts = describe(node)
    each = sum(map(prod, operator.shapes)) + prod(node.shape[operator.leading :])
    count = min(_MOST_TRIED // max(each, 1), _TRIED)
    if count < 2:
        return True  # so large that there are hardly several
    parts = [_laid(node, place, (count, *shape)) for place, shape in enumerate(operator.shapes)]
    together = _called(node, parts)
    return all(
        torch.equal(made, _called(node, [part[i : i + 1].contiguous().clone() for part in parts])[0])
        for i, made in enumerate(together)
    )


def _laid(node: Node, place: int, shape: tuple[int, ...]) -> Tensor:
    """Matrices of any numbers that lie beside each other in memory as those of a source do."""
    sizes, strides = node.source_shapes[place], node.source_strides[place]
    count, rows, width = shape
    axis, columns = len(sizes) - 1, sizes[-1]
    while columns < width:
        axis -= 1
        columns *= sizes[axis]
    steps = (strides[axis - 1] if rows > 1 else width, strides[-1])
    if steps[0] == 0 or steps[1] == 0:
        steps = (width, 1)
    extent = 1 + sum((n - 1) * step for n, step in zip((rows, width), steps, strict=True))
    memory = torch.linspace(-1, 1, count * extent).mul_(1e3).sin_().to(node.dtype)
    return memory.as_strided(shape, (extent, *steps))


def _serves(node: Node) -> bool:
    return node.result is None or are_torchs(node)


def _matrices_scratch(node: Node, box: Box, boxes: Boxes) -> int:
    del box
    return copies(node, boxes)


def _attention_scratch(node: Node, box: Box, boxes: Boxes) -> int:
    """The scores of all heads, their average, queries, keys and values; or what follows, in wider rows."""
    del box, boxes
    operator: FusedAttention = describe(node)
    images, queries, width = node.shape_of(operator.query)
    keys = node.shape_of(operator.key)[1]
    scores = (operator.heads + operator.averages) * queries * keys
    return node.dtype.itemsize * images * (
        max(scores + 3 * max(queries, keys) * width, queries * operator.features) + 2 * queries * width
    )  # fmt: skip


RULES: RuleTable = {
    FusedAttention: NEEDS_ALL._replace(scratch=_attention_scratch),
    ChannelProduct: Rule(_channels_demand, _channels, scratch=_channels_scratch),
    MatrixProducts: Rule(_matrices_demand, _matrices, scratch=_matrices_scratch, serves=_serves),
}
