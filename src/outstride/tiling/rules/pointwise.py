"""Rules for what works element by element.

Every element goes through torch's vectors, but for those of the whole that do not there (``tails``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from math import ceil, prod

import torch
from torch import Tensor

from outstride.models.layouts import order_of
from outstride.models.node import Node
from outstride.models.operators.pointwise import CopyInto, Fill, Pointwise
from outstride.tiling.box import Box
from outstride.tiling.rules import tails
from outstride.tiling.rules.interface import NEEDS_ALL, Rule, RuleTable, broadcast, copies, present

#: Numbers on which the two routines of an operator of several tensors are compared.
_NUMBERS = 1 << 14
#: Elements from which torch shares a call among threads, where it is not the usual number (Activation.cpp).
_SHARED_FROM = {"aten.gelu": 0x4001}


def _demand(node: Node, box: Box) -> Sequence[Box | None]:
    if _differs(node):
        return NEEDS_ALL.demand(node, box)
    return [broadcast(box, shape) for shape in node.source_shapes]


class _Layout(Enum):
    """How a tensor lies in memory, which decides about torch's routine."""

    IN_ORDER = 1
    """Without gaps, the last axis innermost."""
    PERMUTED = 2
    """Without gaps, as in channels_last."""
    WITH_GAPS = 3


@lru_cache(1024)
def _differs(node: Node) -> bool:
    """Whether an operator of several tensors has two routines with other bits: few, such as ``pow``.

    Where which of them is taken depends on how all of them lie together, so they are made whole.
    """
    if len(node.sources) < 2 or not node.dtype.is_floating_point:
        return False
    numbers = torch.linspace(0.1, 8, _NUMBERS, dtype=node.dtype)
    operands = [numbers * 0.7**place + 0.3 * place for place in range(len(node.sources))]
    try:
        made = node.call(operands)
        by_themselves = node.call([tails.apart(operand) for operand in operands])
    except RuntimeError:  # other types or shapes: nothing that is computed
        return False
    return made.shape == by_themselves.shape and bool(((made != by_themselves) & ~made.isnan()).any())


def _run(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
    if _differs(node):
        return NEEDS_ALL.run(node, box, boxes, tensors)
    del boxes
    operands = present(tensors)
    if len(operands) > 1 or operands[0].numel() == 0:
        return node.call([operand.contiguous() for operand in operands])
    (operand,) = operands
    order, row = order_of(node.source_shapes[0], node.source_strides[0])
    if _is_plain(node, operand):
        if operand.numel() == 1 < prod(node.shape):  # torch's gelu takes another routine for a single number
            return node.call([operand.reshape(1).repeat(2)])[0].reshape(operand.shape)
        return node.call([operand.contiguous()])
    layout = _layout_of(node, order, row)
    laid, step = operand.permute(order), _step(node, operand.dtype, layout)
    flat = laid.reshape(-1)
    result = _by_vectors(node, flat, layout)
    if step:
        place, shape = tuple(box[axis] for axis in order), tuple(node.shape[axis] for axis in order)
        shared_from = _SHARED_FROM.get(node.name, tails.GRAIN)
        alone = tails.places(place, shape, tails.tails(prod(shape), step, shared_from, row))
        if len(alone):
            result[alone] = node.call([tails.apart(flat[alone])])
    back = sorted(range(len(order)), key=order.__getitem__)
    return result.view(laid.shape).permute(back)


def _is_plain(node: Node, operand: Tensor) -> bool:
    """Whether an operator of one tensor makes the same of each number wherever it lies."""
    order, row = order_of(node.source_shapes[0], node.source_strides[0])
    layout = _layout_of(node, order, row)
    return layout is _Layout.IN_ORDER and not _step(node, operand.dtype, layout)


def is_called(node: Node, operands: Sequence[Tensor]) -> bool:
    """Whether torch's operator on operands without gaps makes of every element what its vectors do."""
    if _differs(node):
        return False
    if len(operands) > 1:
        return True
    (operand,) = operands
    count, dtype = operand.numel(), operand.dtype
    if count < 2 or not operand.is_contiguous() or not is_as_in_order(node, dtype):
        return False
    return room(count) == count or not _step(node, dtype, _Layout.IN_ORDER)


def in_vectors(node: Node, operand: Tensor) -> Callable[[Tensor], Tensor]:
    """What does an operator of one tensor to tensors like this as if every element lay in a vector."""
    shape, count = operand.shape, operand.numel()
    if is_as_in_order(node, operand.dtype):
        rest = operand.new_zeros(room(count) - count)
        return lambda x: node.call([torch.cat([x.reshape(-1), rest])])[:count].view(shape)
    order, row = order_of(node.source_shapes[0], node.source_strides[0])
    layout, permuted = _layout_of(node, order, row), [shape[axis] for axis in order]
    back = sorted(range(len(order)), key=order.__getitem__)
    return lambda x: _by_vectors(node, x.permute(order).reshape(-1), layout).view(permuted).permute(back)


@lru_cache(1024)
def is_as_in_order(node: Node, dtype: torch.dtype) -> bool:
    """Whether an operator's vectors are the same however its tensor lies."""
    layout = _layout_of(node, *order_of(node.source_shapes[0], node.source_strides[0]))
    if layout is _Layout.IN_ORDER:
        return True
    numbers = torch.linspace(-8, 8, _NUMBERS, dtype=torch.float64).to(dtype)
    made, in_order = _as_laid(node, numbers, layout), _as_laid(node, numbers, _Layout.IN_ORDER)
    return not bool(((made != in_order) & ~(made.isnan() & in_order.isnan())).any())


def _layout_of(node: Node, order: Sequence[int], row: int) -> _Layout:
    if row != prod(node.shape):
        return _Layout.WITH_GAPS
    long = [axis for axis in order if node.shape[axis] > 1]
    return _Layout.IN_ORDER if long == sorted(long) else _Layout.PERMUTED


def _by_vectors(node: Node, flat: Tensor, layout: _Layout) -> Tensor:
    """Elements in a row that ends with a vector, lying as the whole does."""
    row = flat.new_zeros(room(len(flat)))
    row[: len(flat)] = flat
    return _as_laid(node, row, layout)[: len(flat)]


def room(count: int) -> int:
    """Elements of a call in which every thread's share is a whole number of steps."""
    room = ceil(count / tails.STEP) * tails.STEP
    while True:
        threads = max(min(torch.get_num_threads(), ceil(room / tails.GRAIN)), 1)
        filled = ceil(room / (tails.STEP * threads)) * tails.STEP * threads
        if filled == room:
            return room
        room = filled


@lru_cache(1024)
def _step(node: Node, dtype: torch.dtype, layout: _Layout) -> int:
    """Elements of a step of the operator's vector loop, if it matters."""
    if not dtype.is_floating_point or node.dtype != dtype:
        return 0
    return tails.step_of(lambda x: _as_laid(node, x, layout), lambda x: node.call([tails.apart(x)]), dtype)


def _as_laid(node: Node, row: Tensor, layout: _Layout) -> Tensor:
    """The operator on a row that lies as it is, as columns, or with a gap behind it."""
    if layout is _Layout.IN_ORDER:
        return node.call([row])
    if layout is _Layout.PERMUTED:
        columns = next(n for n in (2, 7) if len(row) % n == 0)
        return node.call([row.view(columns, -1).t()]).t().reshape(-1)
    return node.call([row.new_zeros(2, len(row) + 1)[:, :-1].copy_(row)])[0]


def _scratch(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    del box
    if len(boxes) != 1:
        return 0
    layout = _layout_of(node, *order_of(node.source_shapes[0], node.source_strides[0]))
    if layout is _Layout.IN_ORDER:
        return copies(node, boxes) if _step(node, node.dtype, layout) else 0
    return copies(node, boxes) * (3 if layout is _Layout.WITH_GAPS else 2)


RULES: RuleTable = dict.fromkeys((Pointwise, CopyInto, Fill), Rule(_demand, _run, _differs, _scratch))
