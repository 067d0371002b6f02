"""Rules for what looks along an axis that is not cut: sums, extremes, softmax over the channels.

Every position goes through torch's vectors, but for those of the whole that do not there (``tails``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import ceil, prod
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.models.layouts import order_of
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.reductions import (
    Deviation,
    Extremum,
    MaskedSoftmax,
    Mean,
    Reduction,
    Softmax,
    Sum,
)
from outstride.tiling.box import Box, Interval, shape_of, whole
from outstride.tiling.rules import tails
from outstride.tiling.rules.interface import (
    NEEDS_ALL,
    Rule,
    RuleTable,
    along,
    as_the_whole,
    copied_unless_in_order,
    copies,
    cropped,
    present,
    twice,
)

#: Positions that are tried, a multiple of those in any vector.
_PLACES = 1024
#: What the exponential of a number so much smaller than another is nothing beside.
_FAR = 200
#: Elements along an axis from which a softmax is one of the whole map.
_LARGE = 4096

Rows = Callable[[Tensor], Tensor]
"""An operator along the middle axis of (rows, channels, positions), which keeps that axis."""


def _by_positions(rows: Tensor, call: Rows, node: Node, box: Box, shape: Sequence[int], row: int) -> Tensor:
    """An operator along the middle axis, which ``box`` and ``shape`` lack; ``row``: positions in a row."""
    positions = rows.shape[-1]
    padded = rows.new_zeros(*rows.shape[:-1], ceil(positions / tails.STEP) * tails.STEP)
    padded[..., :positions] = rows
    result = call(padded)[..., :positions]
    step = _step(node, rows.dtype)
    if not step:
        return result
    # Softmax is shared among threads by position, all others row by row.
    count, shared = prod(shape), node.name in ("aten._softmax", "aten._safe_softmax")
    alone = tails.places(box, tuple(shape), tails.tails(count, step, 1 if shared else count + 1, row))
    if not len(alone):
        return result
    row_of, position = alone // positions, alone % positions
    result[row_of, :, position] = _alone(call, rows[row_of, :, position])
    return result


def _alone(call: Rows, columns: Tensor) -> Tensor:
    """Of (positions, channels) so few at a time that they fill no vector: each and itself."""
    return call(columns[..., None].expand(-1, -1, 2).contiguous())[..., 0]


def _call(node: Node) -> Rows:
    if isinstance(describe(node), Softmax):
        return lambda rows: node.call([rows], dim=1)
    return lambda rows: node.call([rows], dim=[1], keepdim=True)


@lru_cache(1024)
def _step(node: Node, dtype: torch.dtype) -> int:
    """Positions of a step of the vector loop, if it matters."""
    if not dtype.is_floating_point or node.dtype != dtype:
        return 0
    call = _call(node)

    def classes(x: Tensor) -> Tensor:
        return torch.stack([x, -x * 0.3, x * 0.7, x * 0, x * 0.1, -x * 0.9, x * 1.1])[None]

    return tails.step_of(
        lambda x: call(classes(x))[0, 0], lambda x: _alone(call, classes(x)[0].T)[:, 0], dtype
    )


def _softmax_axis(node: Node) -> int:
    operator: Softmax = describe(node)
    return operator.axis


def _softmax_over_positions(node: Node) -> bool:
    """Whether each element is made of so many others that it is better made once."""
    axis = _softmax_axis(node)
    return axis > 1 and node.source_shapes[0][axis] >= _LARGE


def _softmax_by_itself(node: Node) -> bool:
    """Whether each position is made of its own numbers, wherever it lies."""
    return _softmax_axis(node) == len(node.shape) - 1 or _moves(node)


@lru_cache(1024)
def _moves(node: Node) -> bool:
    """Whether an operator makes the same of positions that lie one further.

    Torch 2.6 does not for a log_softmax in 16 bits: half of each vector's positions have their maximum taken
    from a position of the other half.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 7, _PLACES, generator=generator)
    x += _FAR * torch.randint(2, (_PLACES,), generator=generator)
    call, x = _call(node), x.to(node.dtype)
    return torch.equal(call(x).roll(1, -1), call(x.roll(1, -1)))


def _softmax_demand(node: Node, box: Box) -> Sequence[Box | None]:
    return [along(node, box, [_softmax_axis(node)])]


def _softmax(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
    (held,), (x,) = boxes, present(tensors)
    assert held is not None
    axis, size = _softmax_axis(node), shape_of(held)
    inner = len(box) - 1 - axis
    if inner == 0:
        return cropped(node.call([x.contiguous()]), box, held)
    rows = x.reshape(prod(size[:axis]), size[axis], -1)
    place, shape = ((*part[:axis], *part[axis + 1 :]) for part in (held, node.shape))
    result = _by_positions(rows, _call(node), node, place, shape, prod(shape[len(shape) - inner :]))
    return cropped(result.reshape(size), box, held)


def _axes(node: Node) -> list[int]:
    operator: Reduction = describe(node)
    return list(operator.axes)


#: Positions that no vector of torch's is longer than; of shorter rows sums have a third routine.
_VECTOR = 16


class _Way(NamedTuple):
    """How torch goes through a tensor that it reduces."""

    apart: bool
    """Each result by itself, so that it does not matter which others there are."""
    row: int = 0
    """Otherwise: how many positions lie in a row behind the reduced axes."""


def _way(node: Node) -> _Way | None:
    """None where the results at some positions are made otherwise than at others, and a part cannot tell."""
    shape, strides, axes = node.source_shapes[0], node.source_strides[0], _axes(node)
    if isinstance(describe(node), (Extremum, Deviation)):
        return _Way(apart=True)
    kept = [axis for axis in range(len(shape)) if axis not in axes and shape[axis] > 1]
    reduced = [axis for axis in axes if shape[axis] > 1]
    if not reduced or not kept:
        return None if reduced else _Way(apart=True)
    if min(strides[axis] for axis in reduced) == 1 and _one_stretch(shape, strides, reduced):
        return _Way(apart=True)  # along the memory: a sum of its own for each result
    after = [axis for axis in kept if axis > axes[-1]]
    natural = axes == list(range(axes[0], axes[-1] + 1)) and list(strides) == sorted(strides, reverse=True)
    if not natural or not after or not _one_stretch(shape, strides, reduced):
        return None
    _, row = order_of([shape[axis] for axis in after], [strides[axis] for axis in after])
    return _Way(apart=False, row=row) if strides[after[-1]] == 1 and row >= _VECTOR else None


def _one_stretch(shape: Sequence[int], strides: Sequence[int], axes: Sequence[int]) -> bool:
    """Whether some axes are as good as one."""
    inner, *outer = sorted(axes, key=lambda axis: strides[axis])
    reach = strides[inner] * shape[inner]
    for axis in outer:
        if strides[axis] != reach:
            return False
        reach *= shape[axis]
    return True


def _over_everything(node: Node) -> bool:
    shape = node.source_shapes[0]
    return prod(shape[2:]) > 1 and (set(range(2, len(shape))) <= set(_axes(node)) or _way(node) is None)


def _summed_demand(node: Node, box: Box) -> Sequence[Box | None]:
    if _way(node) is None:
        return NEEDS_ALL.demand(node, box)
    operator: Reduction = describe(node)
    kept, needed = iter(box), list[Interval]()
    for axis, size in enumerate(node.source_shapes[0]):
        interval = None if axis in operator.axes and not operator.keepdim else next(kept)
        needed.append((0, size) if axis in operator.axes or interval is None else interval)
    return [tuple(needed)]


def _sum(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
    way = _way(node)
    if way is None:
        return NEEDS_ALL.run(node, box, boxes, tensors)
    (held,), (x,), axes = boxes, present(tensors), _axes(node)
    assert held is not None
    if held == whole(node.source_shapes[0]):
        return node.call([as_the_whole(x, node)])
    if way.apart:
        kept = {"keepdim": True} if len(axes) < x.dim() else {}
        result = twice(lambda part: node.call([as_the_whole(part, node)], **kept), x, axes)
        return result.reshape(shape_of(box))
    first, after = axes[0], axes[-1] + 1
    rows = x.reshape(prod(x.shape[:first]), prod(x.shape[first:after]), prod(x.shape[after:]))
    place, shape = ((*part[:first], *part[after:]) for part in (held, node.source_shapes[0]))
    return _by_positions(rows, _call(node), node, place, shape, way.row).reshape(shape_of(box))


def _scratch_of_sum(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    way = _way(node)
    if way is None or way.apart:
        return copied_unless_in_order(node, box, boxes)
    return copies(node, boxes)


def _scratch_of_softmax(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    del box
    return copies(node, boxes)


_SUM = Rule(_summed_demand, _sum, _over_everything, _scratch_of_sum)
RULES: RuleTable = dict.fromkeys((Sum, Mean, Extremum, Deviation), _SUM)
RULES |= dict.fromkeys(
    (Softmax, MaskedSoftmax),
    Rule(_softmax_demand, _softmax, _softmax_over_positions, _scratch_of_softmax, _softmax_by_itself),
)
