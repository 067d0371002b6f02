"""Rules for pooling over windows that follow the size of the image.

Where sizes divide evenly, torch's own operator makes any part. Otherwise each window is gone through here,
row by row as torch does it, all windows at once: a chain of additions, divided by the size of the window
along one axis after the other; of maps in channels_last, where channels fill a vector, by all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import ceil, prod
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.models.layouts import in_order
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.pooling import AdaptivePool
from outstride.tiling.box import Box, elements, whole
from outstride.tiling.rules.interface import (
    Boxes,
    Rule,
    RuleTable,
    Tensors,
    as_the_whole,
    copied_unless_in_order,
    present,
)

#: Positions of a window from which a pooling is no layer of a tile any more, but one of the whole map.
_COARSE = 4096
_FLOATS = (torch.float32, torch.float64)
_VECTOR_BYTES = (32, 64, 16)


class _Windows(NamedTuple):
    """Of the outputs along an axis where each window starts, and how many positions it has."""

    starts: Tensor
    counts: Tensor

    def part(self, start: int, stop: int, first: int = 0) -> _Windows:
        """Those of some outputs, counted from a position of the input."""
        return _Windows(self.starts[start:stop] - first, self.counts[start:stop])


def _windows(inputs: int, outputs: int) -> _Windows:
    places = torch.arange(outputs)
    starts = places * inputs // max(outputs, 1)
    return _Windows(starts, -((places + 1) * -inputs // max(outputs, 1)) - starts)


@lru_cache(256)
def _lines(node: Node) -> tuple[_Windows, ...]:
    return tuple(map(_windows, *_sizes(node)))


def _sizes(node: Node) -> tuple[Sequence[int], Sequence[int]]:
    """Of the input and of the result along the axes that are pooled."""
    operator: AdaptivePool = describe(node)
    return node.source_shapes[0][-operator.nd :], node.shape[-operator.nd :]


def _divides(node: Node) -> bool:
    return all(n % max(m, 1) == 0 for n, m in zip(*_sizes(node), strict=True)) and not node.result


def _is_maximum(node: Node) -> bool:
    return "max" in node.name


def _is_channels_last(node: Node) -> bool:
    shape, strides = node.source_shapes[0], node.source_strides[0]
    order = [0, *range(2, len(shape)), 1]
    turned = in_order([shape[axis] for axis in order], [strides[axis] for axis in order])
    return len(shape) == 4 and turned and not in_order(shape, strides)


def _is_known(node: Node) -> bool:
    """Whether the order in which torch goes through a window is that of the gathered one."""
    if _is_maximum(node):
        return node.dtype.is_floating_point or node.result == 1
    operator: AdaptivePool = describe(node)
    known = len(node.shape) == operator.nd + 2 and node.dtype in _FLOATS
    return known and _lanes(node.dtype, operator.nd, _is_channels_last(node)) is not None


def _serves(node: Node) -> bool:
    return 0 not in node.shape and (_divides(node) or _is_known(node))


def _needs_all(node: Node) -> bool:
    """Whether it is better folded: of large windows each tile would go through all that it looks at."""
    windows = prod(ceil(n / max(m, 1)) for n, m in zip(*_sizes(node), strict=True))
    order = _is_maximum(node) or (
        node.dtype in _FLOATS and in_order(node.source_shapes[0], node.source_strides[0])
    )
    return windows >= _COARSE and order and node.result != 1


def _demand(node: Node, box: Box) -> Boxes:
    lines = _lines(node)
    read = []
    for line, (a, b) in zip(lines, box[-len(lines) :], strict=True):
        starts, counts = line.part(a, b)
        read.append((int(starts[0]), int(starts[-1] + counts[-1])) if b > a else (0, 0))
    return [(*box[: -len(lines)], *read)]


def _run(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (x,), (held,), nd = present(tensors), boxes, len(_lines(node))
    assert held is not None
    if _divides(node):
        return node.call([as_the_whole(x, node)], output_size=[b - a for a, b in box[-nd:]])
    if box == whole(node.shape):
        return node.call([as_the_whole(x, node)])
    lines = [
        line.part(*axis, first)
        for line, axis, (first, _) in zip(_lines(node), box[-nd:], held[-nd:], strict=True)
    ]
    if _is_maximum(node):
        largest, places = _largest(x, lines, held[-nd:], node.source_shapes[0][-nd:])
        return places if node.result == 1 else largest
    lanes = _lanes(node.dtype, nd, _is_channels_last(node))
    assert lanes is not None
    channels = node.shape[1] - node.shape[1] % lanes if lanes else 0
    return _mean(x, lines, min(max(channels - box[1][0], 0), x.shape[1]))


def _gathered(x: Tensor, lines: Sequence[_Windows], offsets: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """The same position of each window, and which of them have it, if not all."""
    inside: Tensor | None = None
    for axis, (line, offset) in enumerate(zip(lines, offsets, strict=True), x.dim() - len(lines)):
        has = line.counts > offset
        x = x.index_select(axis, torch.where(has, line.starts + offset, line.starts))
        if not bool(has.all()):
            along = has.view(-1, *(1 for _ in range(axis + 1, x.dim())))
            inside = along if inside is None else inside & along
    return x, inside


def _offsets(lines: Sequence[_Windows]) -> product[tuple[int, ...]]:
    return product(*(range(int(line.counts.max())) for line in lines))


def _mean(x: Tensor, lines: Sequence[_Windows], at_once: int) -> Tensor:
    """The mean of each window; of so many channels first divided by the whole size of it."""
    total: Tensor | None = None
    for offsets in _offsets(lines):
        part, inside = _gathered(x, lines, offsets)
        part = part if inside is None else torch.where(inside, part, part.new_zeros(()))
        total = part + 0 if total is None else total.add_(part)
    assert total is not None
    counts = [
        line.counts.to(x.dtype).view(-1, *(1 for _ in lines[axis + 1 :])) for axis, line in enumerate(lines)
    ]
    if at_once:
        sizes = counts[0]
        for count in counts[1:]:
            sizes = sizes * count
        total[:, :at_once] /= sizes
    for count in counts:
        total[:, at_once:] /= count
    return total


def _largest(
    x: Tensor, lines: Sequence[_Windows], held: Sequence[tuple[int, int]], sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The largest of each window and its place in the whole map: the first of equals, the last NaN."""
    best, places = None, None
    for offsets in _offsets(lines):
        part, inside = _gathered(x, lines, offsets)
        at = torch.zeros((), dtype=torch.int64)
        for axis, (line, offset) in enumerate(zip(lines, offsets, strict=True)):
            position = line.starts + offset + held[axis][0]
            at = at * sizes[axis] + position.view(-1, *(1 for _ in lines[axis + 1 :]))
        if best is None or places is None:
            best, places = part.clone(), at.expand(part.shape).clone()
            continue
        better = (part > best) | part.isnan()
        better = better if inside is None else better & inside
        best, places = torch.where(better, part, best), torch.where(better, at, places)
    assert best is not None
    assert places is not None
    return best, places


@lru_cache(16)
def _lanes(dtype: torch.dtype, nd: int, channels_last: bool) -> int | None:
    """How many channels are divided at once, in channels_last; 0 in order, None if torch does otherwise."""
    sizes, made = (7, 11, 10)[-nd:], (3, 4, 4)[-nd:]
    x = torch.linspace(-1, 1, 19 * prod(sizes), dtype=dtype).mul(1e3).sin().view(1, 19, *sizes)
    lines = list(map(_windows, sizes, made))
    function = getattr(torch.nn.functional, f"adaptive_avg_pool{nd}d")
    laid = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    expected = function(laid, made)
    for lanes in [size // dtype.itemsize for size in _VECTOR_BYTES] if channels_last else [0]:
        if torch.equal(_mean(x, lines, 19 - 19 % lanes if lanes else 0), expected):
            return lanes
    return None


def _scratch(node: Node, box: Box, boxes: Boxes) -> int:
    besides = 3 if _divides(node) else 6
    return copied_unless_in_order(node, box, boxes) + besides * torch.int64.itemsize * elements(box)


RULES: RuleTable = {AdaptivePool: Rule(_demand, _run, _needs_all, _scratch, _serves)}
