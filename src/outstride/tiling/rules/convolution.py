"""The rule for convolutions: the window of a box, clamped to what exists; padding is what lies beyond.

With sizes given explicitly, a tile of a convolution is a convolution with another low padding. Results that
a short algorithm makes in cells are computed from where their cell begins. A cell may go on beyond the box:
each of its results reads its own window alone, so that the others do not change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.engine.runtime import resolved
from outstride.models.node import Node
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.describing import describe
from outstride.tiling.box import Box, begun, clamped, elements, shape_of, whole
from outstride.tiling.rules.interface import NEEDS_ALL, Boxes, Rule, RuleTable, Tensors, cropped


@lru_cache(4096)
def _described(node: Node) -> Convolution:
    operator: Convolution = describe(node)
    return operator


@lru_cache(4096)
def _alignment(node: Node) -> tuple[int, ...]:
    operator = _described(node)
    if node.dtype not in ENGINE_DTYPES:
        return (1,) * len(node.shape)
    return (1, 1, *operator.cells(node.dtype, resolved(operator.algorithm)))


def made_for(node: Node, box: Box) -> Box:
    """What is computed for a box: all channels, from the first results of the cells that it cuts."""
    batch, _, *size = begun(box, _alignment(node))
    return (batch, (0, node.shape[1]), *size)


def _read(node: Node, box: Box) -> Box:
    """The part of the input that a box reads, without its padding."""
    operator = _described(node)
    shape = node.shape_of(operator.input)
    axes = zip(operator.windows, box[2:], shape[2:], strict=True)
    return (box[0], (0, shape[1]), *(clamped(*window.reads(a, b), size) for window, (a, b), size in axes))


def _lows(operator: Convolution, box: Box, read: Box) -> Sequence[int]:
    """The low padding that puts what is read where it lies in the whole."""
    axes = zip(operator.windows, box[2:], read[2:], strict=True)
    if operator.transposed:
        return [window.low + a - i * window.stride for window, (a, _), (i, _) in axes]
    return [window.low + i - a * window.stride for window, (a, _), (i, _) in axes]


def _demand(node: Node, box: Box) -> Boxes:
    if node.dtype not in ENGINE_DTYPES:
        return NEEDS_ALL.demand(node, box)
    input = _described(node).input.index
    read = _read(node, made_for(node, box))
    return [
        read if index == input else whole(shape)
        for index, shape in zip(node.sources, node.source_shapes, strict=True)
    ]


def _run(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    if node.dtype not in ENGINE_DTYPES:
        return NEEDS_ALL.run(node, box, boxes, tensors)
    operator, held = _described(node), dict(zip(node.sources, tensors, strict=True))
    made = made_for(node, box)
    read, size = _read(node, made), shape_of(made)[2:]
    x, weight = held[operator.input.index], held[operator.weight.index]
    bias = None if operator.bias is None else held[operator.bias.index]
    if x is None or elements(read) == 0:
        result = torch.zeros(shape_of(made), dtype=node.dtype)
        if bias is not None:
            result += bias.reshape(-1, *(1 for _ in size))
        return cropped(result, box, made)
    function, numbers = called(node, made)
    return cropped(function(x, weight, bias, *numbers), box, made)


def called(node: Node, made: Box) -> tuple[Any, tuple[Any, ...]]:
    """The operator that computes a box of the part of its input that it reads, and its numbers."""
    operator, read = _described(node), _read(node, made)
    function = torch.ops.outstride.conv_transpose if operator.transposed else torch.ops.outstride.conv
    strides, dilation = ([getattr(w, name) for w in operator.windows] for name in ("stride", "dilation"))
    lows, size = _lows(operator, made, read), shape_of(made)[2:]
    return function.default, (strides, lows, size, dilation, operator.groups, operator.algorithm)


RULES: RuleTable = {Convolution: Rule(_demand, _run, alignment=_alignment)}
