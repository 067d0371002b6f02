"""Rules for pooling: windows as of a convolution, padded by hand, and divided by what each covers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.pooling import AveragePool, MaxPool
from outstride.models.operators.reach import Window
from outstride.tiling.box import Box, Interval, clamped, elements
from outstride.tiling.rules.interface import NEEDS_ALL, Boxes, Rule, RuleTable, Tensors, copies

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
    if node.result == 1:  # positions in the whole map
        return NEEDS_ALL.demand(node, box)
    windows = _windows(node)
    sizes = node.source_shapes[0][-len(windows) :]
    read = zip(_reads(windows, box), sizes, strict=True)
    return [(*box[: -len(windows)], *(clamped(*interval, size) for interval, size in read))]


def _largest(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    if node.result == 1:
        return NEEDS_ALL.run(node, box, boxes, tensors)
    (x,) = tensors
    assert x is not None
    lowest = -torch.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
    padded = _padded(node, x, box, lowest)
    return node.call([padded], padding=[0], ceil_mode=False)


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
    MaxPool: Rule(_demand, _largest, scratch=_scratch_of_largest),
    AveragePool: Rule(_demand, _mean, scratch=_scratch_of_mean),
}
