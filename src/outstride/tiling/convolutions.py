"""Rules for convolutions: the window of a box, clamped to what exists; padding is what lies beyond.

With sizes given explicitly, a tile of a convolution is a convolution with another low padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.models.graph import Node, Source
from outstride.tiling.box import Box, clamped, elements, shape_of, whole
from outstride.tiling.rule import NEEDS_ALL, Rule, cropped


class _Layer:
    """What torch's operator and ours both say, in one form."""

    def __init__(self, node: Node) -> None:
        argument = node.argument
        if node.name == "aten.convolution":
            self.transposed, self.input = bool(argument("transposed")), argument("input")
            self.weight = argument("weight")
        else:
            self.transposed = node.name == "outstride.conv_transpose"
            self.input, self.weight = argument("y" if self.transposed else "x"), argument("w")
        self.bias: Source | None = argument("bias")
        self.stride, self.low = argument("stride"), argument("padding")
        self.dilation, self.groups = argument("dilation"), argument("groups")
        shapes = dict(zip(node.sources, node.source_shapes, strict=True))
        kernel = shapes[self.weight.index][2:]
        self.spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, kernel, strict=True)]
        self.shape = shapes[self.input.index]

    def window(self, box: Box) -> Box:
        """The part of the input that the box reads, without its padding."""
        axes = []
        for (a, b), size, stride, low, span in zip(
            box[2:], self.shape[2:], self.stride, self.low, self.spans, strict=True
        ):
            if self.transposed:
                first, last = -((span - 1 - low - a) // stride), (b - 1 + low) // stride
                axes.append(clamped(first, last + 1, size))
            else:
                axes.append(clamped(a * stride - low, (b - 1) * stride - low + span, size))
        return (box[0], (0, self.shape[1]), *axes)

    def lows(self, box: Box, window: Box) -> list[int]:
        """The low padding that puts the window where it lies in the whole."""
        pairs = zip(box[2:], window[2:], self.stride, self.low, strict=True)
        if self.transposed:
            return [low + a - i * stride for (a, _), (i, _), stride, low in pairs]
        return [low + i - a * stride for (a, _), (i, _), stride, low in pairs]


@lru_cache(4096)
def _layer(node: Node) -> _Layer:
    return _Layer(node)


def _demand(node: Node, box: Box) -> Sequence[Box | None]:
    if node.dtype not in ENGINE_DTYPES:
        return NEEDS_ALL.demand(node, box)
    layer = _layer(node)
    return [
        layer.window(box) if index == layer.input.index else whole(shape)
        for index, shape in zip(node.sources, node.source_shapes, strict=True)
    ]


def _run(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
    if node.dtype not in ENGINE_DTYPES:
        return NEEDS_ALL.run(node, box, boxes, tensors)
    layer, held = _layer(node), dict(zip(node.sources, tensors, strict=True))
    window = layer.window(box)
    size = shape_of(box)[2:]
    x, weight = held[layer.input.index], held[layer.weight.index]
    bias = None if layer.bias is None else held[layer.bias.index]
    made = (box[0], (0, node.shape[1]), *box[2:])
    if x is None or elements(window) == 0:
        result = torch.zeros(shape_of(made), dtype=node.dtype)
        if bias is not None:
            result += bias.reshape(-1, *(1 for _ in size))
        return cropped(result, box, made)
    operator = torch.ops.outstride.conv_transpose if layer.transposed else torch.ops.outstride.conv
    result = operator(
        x, weight, bias, layer.stride, layer.lows(box, window), size, layer.dilation, layer.groups
    )
    return cropped(result, box, made)


CONVOLUTION = Rule(_demand, _run)
