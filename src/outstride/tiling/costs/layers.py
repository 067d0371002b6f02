"""What the kernels of layers take, by the plan of a box of a usual size that stands for all like it.

To plan takes as long as a small layer runs, and boxes of many sizes are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.engine.launch.footprint import NOTHING, footprint
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.memory_format import empty_result
from outstride.engine.runtime import decline, resolved
from outstride.models.node import Node
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.describing import describe
from outstride.models.operators.products import ChannelProduct
from outstride.tiling.box import Box, shape_of

#: Up to here a size stands for itself, and beyond the next power of two up to the largest, by the number of
#: axes: larger boxes are cut into the same tasks.
_EXACT, _LARGEST = 16, {1: 8192, 2: 256, 3: 64}


class LayerCost(NamedTuple):
    """``packed_bytes``: its weight as the kernel reads it; ``scratch_bytes``: what each thread keeps."""

    cycles: float
    """For each element of the result, on one thread."""
    packed_bytes: int
    scratch_bytes: int
    copied_bytes: float
    """For each element of the result, while it is made."""


def layer_cost(node: Node, box: Box) -> LayerCost | None:
    """What a box of a layer's result takes; None of what is no layer."""
    kind = describe(node)
    is_layer = isinstance(kind, (Convolution, ChannelProduct)) and node.dtype in ENGINE_DTYPES
    if not is_layer or decline() is not None:
        return None
    if isinstance(kind, ChannelProduct):
        size = shape_of(box)
        return _cost(node, 1, (_usual(prod(size) // max(size[kind.axis], 1), 1),))
    nd = kind.nd
    images, size = box[0][1] - box[0][0], shape_of(box)[2:]
    return _cost(node, min(images, 4), tuple(_usual(n, nd) for n in size))


def _usual(size: int, nd: int) -> int:
    return size if size <= _EXACT else min(1 << (size - 1).bit_length(), _LARGEST[nd])


@lru_cache(4096)
def _cost(node: Node, images: int, size: tuple[int, ...]) -> LayerCost:
    kind = describe(node)
    operands = (_of_channels if isinstance(kind, ChannelProduct) else _of_windows)(node, images, size)
    elements = max(operands.y.numel(), 1)
    found = NOTHING if operands.x.numel() == 0 else footprint(operands)
    return LayerCost(
        found.cycles / elements, found.packed_bytes, found.scratch_bytes, found.compacted_bytes / elements
    )


def _of_windows(node: Node, images: int, size: Sequence[int]) -> Operands:
    """A convolution whose windows all lie within what is there."""
    kind: Convolution = describe(node)
    reads = [window.reads(0, n) for window, n in zip(kind.windows, size, strict=True)]
    place = node.place_of(kind.input)
    x = _like(node, place, (images, node.source_shapes[place][1], *(max(b - a, 0) for a, b in reads)))
    weight = node.place_of(kind.weight)
    w = torch.empty_strided(
        node.source_shapes[weight], node.source_strides[weight], dtype=node.dtype, device="meta"
    )
    y = empty_result((images, node.shape[1], *size), x, w)
    lows = [
        w.low - a * w.stride if w.transposed else w.low + a
        for w, (a, _) in zip(kind.windows, reads, strict=True)
    ]
    strides, dilation = ([getattr(w, name) for w in kind.windows] for name in ("stride", "dilation"))
    return Operands(
        "conv_transpose" if kind.transposed else "conv", x, w, y, tuple(strides), tuple(lows),
        tuple(dilation), kind.groups, 1, resolved(kind.algorithm),
    )  # fmt: skip


def _of_channels(node: Node, images: int, size: Sequence[int]) -> Operands:
    """A linear map of one axis: a convolution that looks at one position."""
    kind: ChannelProduct = describe(node)
    (rows,), (outputs, inputs, _) = size, node.shape_of(kind.weight)
    w = torch.empty((outputs, inputs, 1), dtype=node.dtype, device="meta")
    is_last = kind.axis == len(node.shape) - 1
    x, y = (
        torch.empty((images, rows, n), dtype=node.dtype, device="meta").transpose(1, 2)
        if is_last
        else torch.empty((images, n, rows), dtype=node.dtype, device="meta")
        for n in (inputs, outputs)
    )
    return Operands("conv", x, w, y, (1,), (0,), (1,), 1, 1, resolved("auto"))


def _like(node: Node, place: int, shape: Sequence[int]) -> Tensor:
    """A map of a source's type that lies as the source does: in order, or with its channels innermost."""
    is_last = len(shape) in (4, 5) and node.source_strides[place][1] == 1 < shape[1]
    form = torch.contiguous_format
    if is_last:
        form = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    return torch.empty(tuple(shape), dtype=node.dtype, device="meta", memory_format=form)
