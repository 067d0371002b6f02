"""Rules for interpolation: torch's weights for each position of the whole, axis by axis.

A tile made by torch's own operator would have weights of its own, as they are rounded by their distance from
the border. So they are computed for the whole axis, in torch's arithmetic (UpSampleKernel.cpp).

Torch has two routines for maps. One goes axis by axis from the last to the first: a product and a fused
multiply-add. The other sums all four neighbours, each with its product of weights; in which order, its
compiler chose, and for the channels that fill no vector otherwise than for those that do. It chose, too,
whether a position is found by a multiply-add or its product is rounded first. Which routine a map takes
depends on its size, channels, memory format and the number of threads. So the operator is tried, on a small
map that is like the whole in all of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import permutations
from math import frexp
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.models.layouts import laid_out
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.resizing import LinearResize, NearestResize, Resize
from outstride.tiling.box import Box, elements, replaced
from outstride.tiling.rules.indexing import Lines, by_positions
from outstride.tiling.rules.interface import NEEDS_ALL, Rule, RuleTable, present
from outstride.tiling.surroundings import computing_by, threads_of_whole

#: Up to this height and width together torch takes another routine.
_SMALL = 128
#: Channels of the map on which the orders are found: some are left over whatever the length of a vector.
_CHANNELS = 79
#: As many are found by torch's routine for any number of them.
_FEW_CHANNELS = 4
#: Numbers up to it are whole in every type.
_DIGITS = 4096
_STEPS = (4, 8, 16, 32)
_DTYPES = (torch.float32,)

Orders = tuple[tuple[int, ...], ...]
"""For each channel in which order the four neighbours are summed; nothing where it goes axis by axis."""


class _Routine(NamedTuple):
    """How torch computes a node: in which orders, and whether it finds positions by a multiply-add."""

    orders: Orders
    fused: bool


class _Line(NamedTuple):
    """For each position of an axis the two that it lies between, and their weights."""

    low: Tensor
    high: Tensor
    of_low: Tensor
    of_high: Tensor


@lru_cache(256)
def _line(node: Node, axis: int, fused: bool) -> _Line:
    operator: LinearResize = describe(node)
    sizes = node.source_shapes[0][2 + axis], node.shape[2 + axis]
    return _weights(*sizes, operator.factors[axis], operator.aligned, node.dtype, fused)


def _weights(
    size: int, made: int, factor: float | None, aligned: bool, dtype: torch.dtype, fused: bool
) -> _Line:
    positions = torch.arange(made, dtype=dtype)
    if size == made:
        whole = torch.arange(size)
        return _Line(whole, whole, torch.ones_like(positions), torch.zeros_like(positions))
    number = torch.tensor(size, dtype=dtype)
    if aligned:
        real = (number - 1) / (made - 1) * positions if made > 1 else positions * 0
    else:
        scale = torch.tensor(1 / factor, dtype=dtype) if factor else number / made
        centres, half = positions + 0.5, torch.full_like(positions, -0.5)
        real = (torch.addcmul(half, scale, centres) if fused else scale * centres - 0.5).clamp(min=0)
    low = real.floor().to(torch.int64).clamp(max=size - 1)
    of_high = (real - low).clamp(0, 1)
    return _Line(low, (low + 1).clamp(max=size - 1), 1 - of_high, of_high)


# The two routines, on the part of a map that the lines ask for.
def _by_axes(x: Tensor, lines: Sequence[_Line]) -> Tensor:
    for axis in reversed(range(len(lines))):
        dim, line = 2 + axis, lines[axis]
        shape = [-1, *(1 for _ in range(dim + 1, x.dim()))]
        above = x.index_select(dim, line.high).mul_(line.of_high.view(shape))
        x = above.addcmul_(x.index_select(dim, line.low), line.of_low.view(shape).expand_as(above))
    return x


def _at_once(x: Tensor, lines: Sequence[_Line], order: Sequence[int]) -> Tensor:
    rows, columns = lines
    result: Tensor | None = None
    for corner in order:
        (h, of_h), (w, of_w) = (
            (line.high, line.of_high) if high else (line.low, line.of_low)
            for line, high in ((rows, corner > 1), (columns, corner % 2))
        )
        neighbour, weight = x.index_select(2, h).index_select(3, w), of_h[:, None] * of_w
        if result is None:
            result = neighbour.mul_(weight)
        else:
            result.addcmul_(neighbour, weight.expand_as(neighbour))
        del neighbour  # before the next is there
    assert result is not None
    return result


# Which of them torch takes, and in which orders.
def _sizes(nd: int, small: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a map that is tried, and of what is made of it.

    The last axis has many positions, no power of two, so that some show whether products were rounded.
    """
    return (3, 4, 5)[-nd:], (5, 6, 101 if small else _SMALL + 1)[-nd:]


def _tried(channels: int, small: bool, node: Node, fused: bool) -> tuple[Tensor, list[_Line], Tensor]:
    """A small map like the node's source, what interpolates it, and what torch makes of it."""
    sizes, made = _sizes(len(node.shape) - 2, small)
    shape = (1, channels, *sizes)
    x = torch.linspace(-1, 1, channels * 60, dtype=node.dtype).sin().mul(1e4).frac()
    x = x[: torch.Size(shape).numel()].reshape(shape)
    function = getattr(torch.ops.aten, node.name.removeprefix("aten.")).default
    like = laid_out(x, node.source_shapes[0], node.source_strides[0]) if channels == node.shape[1] else x
    lines = [_weights(n, m, None, False, node.dtype, fused) for n, m in zip(sizes, made, strict=True)]
    return x, lines, function(like, list(made), False)


@lru_cache(256)
def _routine_of(node: Node, threads: int) -> _Routine | None:
    """The routine of a node; None where it is none that is known."""
    del threads  # torch asks for it
    for fused in (True, False):
        orders = _orders(node, fused)
        if orders is not None:
            return _Routine(orders, fused)
    return None


def _orders(node: Node, fused: bool) -> Orders | None:
    """The orders of a node where positions are found so; None where it has none."""
    small = len(node.shape) == 4 and node.shape[2] + node.shape[3] <= _SMALL
    x, lines, expected = _tried(node.shape[1], small, node, fused)
    if torch.equal(_by_axes(x, lines), expected):
        return ()
    if len(node.shape) != 4:
        return None
    vectors, rest, step = _compiled(node, fused)
    orders = (vectors,) * (node.shape[1] - node.shape[1] % step) + (rest,) * (node.shape[1] % step)
    return orders if torch.equal(_with(x, lines, orders), expected) else None


@lru_cache(16)
def _compiled(node: Node, fused: bool) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """The orders of channels in vectors and of those left over, and how many fill a vector."""
    x, lines, expected = _tried(_CHANNELS, True, node, fused)
    fits = {
        order: (_at_once(x, lines, order) == expected)[0].flatten(1).all(1)
        for order in permutations(range(4))
    }
    first, last = ((next((o for o in fits if bool(fits[o][c])), (0, 1, 2, 3))) for c in (0, -1))
    rest = int((~fits[first]).sum())
    return first, last, next((step for step in _STEPS if _CHANNELS % step == rest), 1)


def _with(x: Tensor, lines: Sequence[_Line], orders: Orders) -> Tensor:
    """A map of which each channel may have its order."""
    distinct = list(dict.fromkeys(orders))
    parts = [
        _at_once(x[:, orders.index(order) : orders.index(order) + orders.count(order)], lines, order)
        for order in distinct
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _routine(node: Node) -> _Routine | None:
    if node.dtype not in _DTYPES or not elements(tuple((0, n) for n in node.shape)):
        return None
    with computing_by(threads_of_whole()):
        return _routine_of(node, torch.get_num_threads())


def _demand(node: Node, box: Box) -> Sequence[Box | None]:
    routine = _routine(node)
    if routine is None:
        return NEEDS_ALL.demand(node, box)
    axes = []
    for axis, (a, b) in enumerate(box[2:]):
        line = _line(node, axis, routine.fused)
        axes.append((int(line.low[a]), int(line.high[b - 1]) + 1) if b > a else (0, 0))
    return [(*box[:2], *axes)]


def _interpolate(
    node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]
) -> Tensor:
    routine = _routine(node)
    if routine is None:
        return NEEDS_ALL.run(node, box, boxes, tensors)
    (held,), (x,) = boxes, present(tensors)
    assert held is not None
    assert elements(box)
    lines = []
    for axis in range(len(box) - 2):
        line = _line(node, axis, routine.fused)
        low, high, of_low, of_high = (part[slice(*box[2 + axis])] for part in line)
        first = held[2 + axis][0]
        lines.append(_Line(low - first, high - first, of_low, of_high))
    orders = routine.orders[slice(*box[1])]
    return _with(x, lines, orders) if routine.orders else _by_axes(x, lines)


def _needs_all(node: Node) -> bool:
    return _routine(node) is None


def _scratch(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    routine, (held,), result = _routine(node), boxes, elements(box)
    assert held is not None
    if routine is None:
        return 0
    if orders := routine.orders:  # a neighbour, the rows that it is taken from, weights, parts put together
        rows, weights = elements((*held[:2], box[2], held[3])), 3 * elements(box[2:])
        return node.dtype.itemsize * (rows + weights + result * (1 + (len(set(orders)) > 1)))
    most, made = 0, held
    for axis in reversed(range(2, len(box))):
        before, made = elements(made) if made != held else 0, replaced(made, axis, box[axis])
        most = max(most, 2 * before + 2 * elements(made))  # what is free lies between what is not
    return node.dtype.itemsize * max(most - result, 0)


def _nearest(node: Node) -> Lines:
    """Nearest neighbours, which torch finds axis by axis: asked of the operator itself."""
    operator: NearestResize = describe(node)
    return {2 + axis: partial(_neighbours, node, axis) for axis in range(operator.nd)}


def _neighbours(node: Node, axis: int, line: Tensor) -> Tensor:
    """Which of a line's numbers from 0 on are taken.

    Torch multiplies places by the ratio of sizes in the type of the map, of channels_last always in float32:
    what is rounded up to a whole number depends on it. So numbers are in that type, digit by digit.
    """
    operator: NearestResize = describe(node)
    nd, dtype = operator.nd, node.dtype if node.dtype == torch.float64 else torch.float32
    sizes = [node.shape[2 + axis] if each == axis else 2 for each in range(nd)]
    channels = max(min(node.shape[1], _FEW_CHANNELS), 1)
    shape = [1] * (2 + nd)
    shape[2 + axis] = len(line)
    all_of_it = (1, channels, *(len(line) if each == axis else 2 for each in range(nd)))
    factors = [operator.factors[axis] if each == axis else None for each in range(nd)]
    function = getattr(torch.ops.aten, node.name.removeprefix("aten.")).default
    found, place = torch.zeros(sizes[axis], dtype=line.dtype), 1
    while place < max(len(line), 2):
        digits = line.div(place, rounding_mode="floor").remainder(_DIGITS).to(dtype)
        like = laid_out(digits.view(shape).expand(all_of_it), node.source_shapes[0], node.source_strides[0])
        made = function(like, sizes, *factors).movedim(2 + axis, -1)
        found += made.reshape(-1, sizes[axis])[0].to(line.dtype) * place
        place *= _DIGITS
    return found


def is_even(node: Node) -> bool:
    """Whether places are found without rounding, so that they are as far apart everywhere."""
    operator: Resize = describe(node)
    return not operator.aligned and all(
        factor is not None and frexp(factor)[0] == 0.5 for factor in operator.factors
    )


RULES: RuleTable = {
    LinearResize: Rule(_demand, _interpolate, _needs_all, _scratch, even=is_even),
    NearestResize: by_positions(_nearest)._replace(even=is_even),
}
