"""Convolutions along no axis, of one tap and of one position are matrix products, and run as such.

The first are linear layers, whose rows become the pixels of one row. So do the pixels of all images where a
layer has one tap and channels lie side by side.

A generator's first layer unfolds a vector into a small map: every output reads the one position that there
is, with a weight of its own. Output channel and output position are then one axis, contiguous in weight and
result alike, and the batch takes the place of the width: a 1x1 convolution with contiguous channels. So is
what squeeze-and-excitation does to the means of an image, whose strides along sizes of one say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal, NamedTuple

from torch import Tensor

from outstride.layer.shortening import AlgorithmName

Changes = Literal["never", "seldom", "always"]


class Operands(NamedTuple):
    """What is computed: an operator on tensors of which only shapes, strides and dtype are looked at."""

    operator: Literal["conv", "conv_transpose"]
    x: Tensor
    w: Tensor
    y: Tensor
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    #: Neighbouring outputs that share a number of the bias.
    positions: int = 1
    algorithm: AlgorithmName = "direct"
    #: How often the weight is written to: each time where it is trained, never where it is frozen.
    changes: Changes = "seldom"


def as_product(operands: Operands) -> Operands:
    """The operands posed as a matrix product where they are one, else as they are."""
    operator, x, w, y, _, padding, dilation, groups, *_ = operands
    kernel = w.shape[2:]
    if not kernel:
        x, y = rows_as_width(x), rows_as_width(y)
        weight, numbers = w.unsqueeze(-1), ((1,), (0,), (1,), groups)
        return Operands(operator, x, weight, y, *numbers, changes=operands.changes)
    positions = prod(kernel)
    if _keeps_pixels(operands) and _is_matrix(x) and _is_matrix(y):
        weight, numbers = w.flatten(2), ((1,), (0,), (1,), 1)
        return Operands(
            operator, rows_as_width(_matrix(x)), weight, rows_as_width(_matrix(y)), *numbers,
            changes=operands.changes,
        )  # fmt: skip
    if _keeps_pixels(operands) and x.dim() > 3 and _has_planes(x) and _has_planes(y):
        weight, numbers = w.flatten(2), ((1,), (0,), (1,), 1)
        return Operands(operator, _flat(x), weight, _flat(y), *numbers, changes=operands.changes)
    if operator == "conv" and positions == groups == 1 and _is_vector(x) and _is_vector(y):
        return operands._replace(x=_batch_as_width(x, x.shape[1]), y=_batch_as_width(y, y.shape[1]))
    # Taps beside each other: spread ones may make as many outputs, the last of them cut off.
    dense = all(k == 1 or d == 1 for k, d in zip(kernel, dilation, strict=True))
    whole = y.shape[2:] == kernel and dense and not any(padding)
    alone = operator == "conv_transpose" and groups == 1 and positions > 1
    alone = alone and x.shape[2:].numel() == 1
    if not (alone and whole and x.stride(1) == 1 and w[0].is_contiguous() and y[0].is_contiguous()):
        return operands
    outputs, ones = y.shape[1] * positions, (1,) * len(kernel)
    return Operands(
        "conv",
        _batch_as_width(x, x.shape[1]),
        w.as_strided((outputs, w.shape[0], *ones), (1, w.stride(0), *ones)),
        _batch_as_width(y, outputs),
        ones, (0,) * len(kernel), ones, 1, positions, changes=operands.changes,
    )  # fmt: skip


def _keeps_pixels(operands: Operands) -> bool:
    """Whether each output is made of the channels of its own pixel."""
    _, x, w, y, stride, padding, _, groups, *_ = operands
    one = groups == prod(w.shape[2:]) == 1 and set(stride) == {1} and set(padding) == {0}
    return one and x.shape[2:] == y.shape[2:]


def _is_matrix(tensor: Tensor) -> bool:
    """Whether pixels are the rows of a matrix: one behind the other, their channels side by side.

    Maps of one position lie as contiguous ones do, whose calls serve other sizes, too.
    """
    batch, channels, *size = tensor.shape
    if prod(size) == 1 or channels == 1 or tensor.stride(1) != 1:
        return False
    steps = (*tensor.stride()[:1:-1], tensor.stride(0))
    return tensor.numel() > 0 and _lie_in_order((*size[::-1], batch), steps, channels)


def _lie_in_order(counts: Sequence[int], steps: Sequence[int], pitch: int) -> bool:
    """Whether axes, the innermost first, whose first step is `pitch`, lie one in the other without gaps."""
    for count, step in zip(counts, steps, strict=True):
        if count != 1 and step != pitch:
            return False
        pitch *= count
    return True


def _matrix(tensor: Tensor) -> Tensor:
    """(N, channels, ...), which is one, as (rows, channels)."""
    channels = tensor.shape[1]
    return tensor.as_strided((tensor.numel() // channels, channels), (channels, 1))


def _has_planes(tensor: Tensor) -> bool:
    """Whether the pixels of a channel lie side by side."""
    size = tensor.shape[:1:-1]
    return size.numel() > 1 and _lie_in_order(size, tensor.stride()[:1:-1], 1)


def _flat(tensor: Tensor) -> Tensor:
    """(N, channels, ...) of whole planes as (N, channels, pixels)."""
    batch, channels, *size = tensor.shape
    return tensor.as_strided((batch, channels, prod(size)), (*tensor.stride()[:2], 1))


def _is_vector(tensor: Tensor) -> bool:
    """Whether a tensor is the channels of one position, side by side."""
    return tensor.shape[0] == tensor.shape[2:].numel() == tensor.stride(1) == 1


def _batch_as_width(tensor: Tensor, channels: int) -> Tensor:
    """(N, channels, 1, ..., 1) as (1, channels, 1, ..., N)."""
    batch, pitch, axes = tensor.shape[0], tensor.stride(0), tensor.dim() - 2
    if batch == 1:  # nobody takes a step: one of 1 would say that it is the width that is contiguous
        pitch = max(2, pitch)
    return tensor.as_strided((1, channels, *[1] * (axes - 1), batch), (pitch, 1, *[pitch] * axes))


def rows_as_width(tensor: Tensor) -> Tensor:
    """(N, channels) as (1, channels, N)."""
    rows, channels = tensor.stride()
    if tensor.shape[0] == 1:  # as above
        rows = max(2, rows)
    return tensor.as_strided((1, tensor.shape[1], tensor.shape[0]), (rows, channels, rows))
