"""Rules for pooling over windows that slide, padded by hand, and divided by what each covers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.pooling import AveragePool, MaxPool, Unpool
from outstride.models.operators.reach import Window
from outstride.tiling.box import Box, Interval, clamped, elements
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors, copies, present

_SHORT = (torch.bfloat16, torch.float16)


def _windows(node: Node) -> tuple[Window, ...]:
    operator: MaxPool | AveragePool = describe(node)
    return operator.windows


def _reads(windows: Sequence[Window], box: Box) -> list[Interval]:
    """What the windows of a box cover, padding included."""
    return [window.reads(*axis) for window, axis in zip(windows, box[-len(windows) :], strict=True)]


def _padded(node: Node, x: Tensor, box: Box, value: float) -> Tensor:
    """The covered part of the input with what lies beyond it."""
    windows, pads = _windows(node), list[int]()
    sizes = node.source_shapes[0][-len(windows) :]
    for (start, stop), size in zip(reversed(_reads(windows, box)), reversed(sizes), strict=True):
        first, last = clamped(start, stop, size)
        low = min(max(-start, 0), stop - start)
        pads += [low, stop - start - low - (last - first)]
    return torch.nn.functional.pad(x, pads, value=value) if any(pads) else x


def _demand(node: Node, box: Box) -> Boxes:
    windows = _windows(node)
    sizes = node.source_shapes[0][-len(windows) :]
    read = zip(_reads(windows, box), sizes, strict=True)
    return [(*box[: -len(windows)], *(clamped(*interval, size) for interval, size in read))]


def _largest(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    (x,) = tensors
    assert x is not None
    lowest = -torch.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
    padded = _padded(node, x, box, lowest)
    made = node.call([padded], padding=[0], ceil_mode=False)
    return _in_the_whole(node, made, padded.shape, box) if node.result == 1 else made


def _in_the_whole(node: Node, places: Tensor, padded: Sequence[int], box: Box) -> Tensor:
    """Where in the whole map lies what has these places in a part of it, padded."""
    windows = _windows(node)
    nd, sizes, found = len(windows), node.source_shapes[0][-len(windows) :], torch.zeros_like(places)
    for axis, ((start, _), size) in enumerate(zip(_reads(windows, box), sizes, strict=True)):
        behind = prod(padded[len(padded) - nd + axis + 1 :])
        found = found * size + (places // behind % padded[len(padded) - nd + axis] + start)
    return found


# The reverse: an input goes to the place that its window had the maximum at.
def _unpooled_demand(node: Node, box: Box) -> Boxes:
    operator: Unpool = describe(node)
    nd = len(operator.windows)
    sizes = node.source_shapes[0][-nd:]
    read = [
        clamped((a + w.low - w.span) // w.stride + 1, (b - 1 + w.low) // w.stride + 1, size)
        for w, (a, b), size in zip(operator.windows, box[-nd:], sizes, strict=True)
    ]
    return [(*box[:-nd], *read)] * 2


def _unpool(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    (x, places), operator = present(tensors), describe(node)
    nd = len(operator.windows)
    sizes, size = node.shape[-nd:], [b - a for a, b in box[-nd:]]
    at, inside = torch.zeros_like(places), torch.ones_like(places, dtype=torch.bool)
    for axis, (a, b) in enumerate(box[-nd:]):
        index = places // prod(sizes[axis + 1 :]) % sizes[axis]
        inside &= (index >= a) & (index < b)
        at = at * (b - a) + index - a
    result = x.new_zeros(*x.shape[:-nd], prod(size) + 1)  # the last takes what lies elsewhere
    result.scatter_(-1, torch.where(inside, at, prod(size)).flatten(-nd), x.flatten(-nd))
    return result[..., :-1].reshape(*x.shape[:-nd], *size)


def _is_local(node: Node) -> bool:
    operator: Unpool = describe(node)
    return bool(operator.windows)


def _scratch_of_unpool(node: Node, box: Box, boxes: Boxes) -> int:
    return node.dtype.itemsize * elements(box) + 9 * torch.int64.itemsize * sum(
        elements(held) for held in boxes[:1] if held is not None
    )


def _mean(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    (x,) = tensors
    assert x is not None
    # Torch sums and divides in float32 and rounds once.
    wide = x.float() if x.dtype in _SHORT else x
    sums = node.call([_padded(node, wide, box, 0.0)], padding=[0], ceil_mode=False, divisor_override=1)
    return sums.div_(_divisors(node, box, sums.dtype)).to(node.dtype)


def _divisors(node: Node, box: Box, dtype: torch.dtype) -> Tensor:
    operator: AveragePool = describe(node)
    if operator.divisor_override is not None:
        return torch.tensor(operator.divisor_override, dtype=dtype)
    nd, covered = len(operator.windows), []
    for window, (a, b), size in zip(operator.windows, box[-nd:], node.source_shapes[0][-nd:], strict=True):
        starts = torch.arange(a, b) * window.stride - window.low
        stops = (starts + window.kernel_size).clamp(max=size + window.low)
        if not operator.count_include_pad:
            starts, stops = starts.clamp(min=0), stops.clamp(max=size)
        covered.append(stops - starts)
    counts = torch.ones(1, dtype=torch.int64)
    for axis, count in enumerate(covered):
        counts = counts.unsqueeze(-1) * count if axis else count
    return counts.to(dtype)


def _scratch_of_largest(node: Node, box: Box, boxes: Boxes) -> int:
    # Where each largest was, which torch returns with it.
    return _padded_bytes(node, boxes) + torch.int64.itemsize * elements(box)


def _scratch_of_mean(node: Node, box: Box, boxes: Boxes) -> int:
    positions = elements(box[-len(_windows(node)) :])
    counted = (torch.int64.itemsize + torch.float32.itemsize) * positions
    if node.dtype in _SHORT:
        return 4 * copies(node, boxes) + torch.float32.itemsize * elements(box) + counted
    return _padded_bytes(node, boxes) + counted


def _padded_bytes(node: Node, boxes: Boxes) -> int:
    return copies(node, boxes) if any(window.low for window in _windows(node)) else 0


RULES: RuleTable = {
    Unpool: Rule(
        _unpooled_demand, _unpool, scratch=_scratch_of_unpool, serves=_is_local, even=lambda _: False
    ),
    MaxPool: Rule(_demand, _largest, scratch=_scratch_of_largest, even=lambda node: node.result != 1),
    AveragePool: Rule(_demand, _mean, scratch=_scratch_of_mean),
}
