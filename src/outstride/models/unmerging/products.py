"""Linear layers in every spelling as linear maps of one axis; other products as many of small matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride.models.node import Node, Source
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.products import (
    Attention,
    ChannelProduct,
    Linear,
    MatrixProduct,
    MatrixProducts,
)
from outstride.models.unmerging.builder import Builder, Held, Write
from outstride.models.unmerging.parts import Axes, Part, in_parts_of, length_of, meeting_axes, plain


# Linear maps of one axis.
def _channels(
    b: Builder,
    node: Node,
    held: Held,
    axis: int,
    weight: Tensor,
    bias: Source | None,
    axes: Axes | None = None,
) -> Held:
    """(out, in) along an axis of a tensor; ``axes``: of the result, where it goes elsewhere."""
    held = b.plain(held, [axis])
    made = b.add_constant(weight.reshape(*weight.shape, 1).contiguous())
    added = None if bias is None else b.held(bias).index
    place = held.place(axis)
    kind = ChannelProduct(Source(held.index), Source(made), None if added is None else Source(added), place)
    new = (*held.axes[:axis], (Part(weight.shape[0]),), *held.axes[axis + 1 :]) if axes is None else axes
    sources = [held.index, made, *([] if added is None else [added])]
    return b.add_of(node, new, sources, kind)


def _is_row(b: Builder, bias: Source | None, outputs: int, dtype: torch.dtype) -> bool:
    value = b.constant(bias)
    return bias is None or (value is not None and value.shape == (outputs,) and value.dtype == dtype)


def _product(b: Builder, node: Node, kind: MatrixProduct) -> Held | None:
    if not b.serves(node.dtype) or any(
        node.argument(name, 1) != 1 for name in ("alpha", "beta") if kind.added is not None
    ):
        return None
    left, right = b.constant(kind.left), b.constant(kind.right)
    if kind.by_vector:
        return None
    if right is not None:
        weight = _same_for_all(right)
        if weight is not None and _is_row(b, kind.added, node.shape[-1], node.dtype):
            held = b.held(kind.left)
            return _channels(b, node, held, len(held.axes) - 1, weight.t(), kind.added)
    if left is not None and kind.added is None and left.dim() == 3:
        weight = _same_for_all(left)
        if weight is not None:
            return _channels(b, node, b.held(kind.right), 1, weight, None)
    return _products(b, node, kind) if kind.added is None and len(node.shape) == 3 else None


def _same_for_all(weight: Tensor) -> Tensor | None:
    """The matrix that a batch of them repeats."""
    if weight.dim() == 2:
        return weight
    first: Tensor = weight[:1]
    if weight.shape[0] and (weight.stride(0) == 0 or torch.equal(weight, first.expand_as(weight))):
        return first[0]
    return None


def _linear(b: Builder, node: Node, kind: Linear) -> Held | None:
    weight = None if kind.weight is None else b.constant(kind.weight)
    if weight is None or not b.serves(node.dtype) or not _is_row(b, kind.bias, node.shape[-1], node.dtype):
        return None
    held = b.held(kind.input)
    return _channels(b, node, held, len(held.axes) - 1, weight, kind.bias)


def _convolution(b: Builder, node: Node, kind: Convolution) -> Held | None:
    """One that looks at one position is a linear layer, too."""
    held, weight = b.held(kind.input), b.constant(kind.weight)
    at_one = all((w.kernel_size, w.stride, w.low) == (1, 1, 0) for w in kind.windows)
    at_its_own = held.axes[2:] and node.shape[2:] == tuple(map(length_of, held.axes[2:]))
    if weight is None or kind.transposed or kind.groups != 1 or not b.serves(node.dtype):
        return None
    if kind.windows and (held.is_plain or not at_one or not at_its_own):
        return None
    return _channels(b, node, held, 1, weight.flatten(1), kind.bias)


# Products of what depends on the input.
def _products(b: Builder, node: Node, kind: MatrixProduct) -> Held | None:
    if kind.left == kind.right:
        return None
    (left, right), (lead,) = _leading(b, [b.held(kind.left), b.held(kind.right)], node.shape[:1])
    if left.index == right.index:
        return None
    described = MatrixProducts(len(lead), (node.shape_of(kind.left)[1:], node.shape_of(kind.right)[1:]))
    sources = {kind.left.index: left, kind.right.index: right}
    return b.add(node, (lead, left.axes[1], right.axes[2]), sources, described)


def _leading(b: Builder, helds: list[Held], shape: tuple[int, ...]) -> tuple[list[Held], Axes]:
    """Tensors whose first axes meet in the same parts, those behind as they are."""
    rank = len(shape)
    ends = [held.axes[rank:] for held in helds]
    lead = meeting_axes([held.axes[:rank] for held in helds], shape)
    return [
        b.viewed(held, (*in_parts_of(held.axes[:rank], lead), *end))
        for held, end in zip(helds, ends, strict=True)
    ], lead


def _attention(b: Builder, node: Node, kind: Attention) -> Held | None:
    if node.result != 0 or len(node.shape) != 4:
        return None
    sources = [Source(index) for index in node.sources]
    if not {kind.query.index, kind.key.index, kind.value.index} <= set(node.sources) or len(sources) < 3:
        return None
    helds, lead = _leading(b, [b.held(source) for source in sources], node.shape[:2])
    helds = [b.plain(held, [2, 3]) for held in helds]
    if len({held.index for held in helds}) != len(helds):
        return None
    shapes = tuple(node.shape_of(source)[2:] for source in sources)
    described = MatrixProducts(sum(map(len, lead)), shapes)
    axes = (*lead, *plain(node.shape[2:]))
    return b.add(node, axes, dict(zip(node.sources, helds, strict=True)), described)


WRITERS: dict[type, Write] = {
    MatrixProduct: _product,
    Linear: _linear,
    Convolution: _convolution,
    Attention: _attention,
}
