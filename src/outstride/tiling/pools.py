"""Rules for pooling: windows as of a convolution, padded by hand, and divided by what each covers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from outstride.models.graph import Node
from outstride.tiling.box import Box, clamped, elements
from outstride.tiling.rule import NEEDS_ALL, Rule, copies

_SHORT = (torch.bfloat16, torch.float16)


class _Windows:
    """The windows of a pooling layer, by axis; a single number stands for all axes."""

    def __init__(self, node: Node) -> None:
        kernel = node.argument("kernel_size")
        self.nd = int(node.name.rsplit("pool", 1)[1][0])
        self.kernel = self._each(kernel)
        self.stride = self._each(node.argument("stride") or kernel)
        self.padding = self._each(node.argument("padding"))
        self.dilation = self._each(node.argument("dilation", 1))
        self.size = node.source_shapes[0][-self.nd :]

    def _each(self, value: int | Sequence[int]) -> tuple[int, ...]:
        values = (value,) if isinstance(value, int) else tuple(value)
        return values * self.nd if len(values) == 1 else values

    def reach(self, box: Box) -> list[tuple[int, int]]:
        """What the windows of a box cover, padding included."""
        return [
            (a * s - p, (b - 1) * s - p + d * (k - 1) + 1)
            for (a, b), k, s, p, d in zip(
                box[-self.nd :], self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        ]

    def padded(self, x: Tensor, box: Box, value: float) -> Tensor:
        """The covered part of the input with what lies beyond it."""
        pads: list[int] = []
        for (start, stop), size in zip(reversed(self.reach(box)), reversed(self.size), strict=True):
            first, last = clamped(start, stop, size)
            low = min(max(-start, 0), stop - start)
            pads += [low, stop - start - low - (last - first)]
        return torch.nn.functional.pad(x, pads, value=value) if any(pads) else x


def _demand(node: Node, box: Box) -> Sequence[Box | None]:
    if node.result == 1:  # positions in the whole map
        return NEEDS_ALL.demand(node, box)
    windows = _Windows(node)
    spatial = [clamped(*reach, size) for reach, size in zip(windows.reach(box), windows.size, strict=True)]
    return [(*box[: -windows.nd], *spatial)]


def _largest(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
    if node.result == 1:
        return NEEDS_ALL.run(node, box, boxes, tensors)
    (x,) = tensors
    assert x is not None
    lowest = -torch.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
    padded = _Windows(node).padded(x, box, lowest)
    return node.call([padded], padding=[0], ceil_mode=False)


def _mean(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
    del boxes
    (x,) = tensors
    assert x is not None
    windows = _Windows(node)
    # Torch sums and divides in float32 and rounds once.
    wide = x.float() if x.dtype in _SHORT else x
    sums = node.call([windows.padded(wide, box, 0.0)], padding=[0], ceil_mode=False, divisor_override=1)
    return sums.div_(_divisors(node, windows, box, sums.dtype)).to(node.dtype)


def _divisors(node: Node, windows: _Windows, box: Box, dtype: torch.dtype) -> Tensor:
    override = node.argument("divisor_override")
    if override is not None:
        return torch.tensor(override, dtype=dtype)
    covered = []
    for (a, b), k, s, p, n in zip(
        box[-windows.nd :], windows.kernel, windows.stride, windows.padding, windows.size, strict=True
    ):
        starts = torch.arange(a, b) * s - p
        stops = (starts + k).clamp(max=n + p)
        if not node.argument("count_include_pad"):
            starts, stops = starts.clamp(min=0), stops.clamp(max=n)
        covered.append(stops - starts)
    counts = torch.ones(1, dtype=torch.int64)
    for axis, count in enumerate(covered):
        counts = counts.unsqueeze(-1) * count if axis else count
    return counts.to(dtype)


def _scratch_of_largest(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    # Where each largest was, which torch returns with it.
    return _padded_bytes(node, boxes) + torch.int64.itemsize * elements(box)


def _scratch_of_mean(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    positions = elements(box[-_Windows(node).nd :])
    counted = (torch.int64.itemsize + torch.float32.itemsize) * positions
    if node.dtype in _SHORT:
        return 4 * copies(node, boxes) + torch.float32.itemsize * elements(box) + counted
    return _padded_bytes(node, boxes) + counted


def _padded_bytes(node: Node, boxes: Sequence[Box | None]) -> int:
    return copies(node, boxes) if any(_Windows(node).padding) else 0


MAX_POOL = Rule(_demand, _largest, scratch=_scratch_of_largest)
AVG_POOL = Rule(_demand, _mean, scratch=_scratch_of_mean)
