"""Rules for what takes elements by their position along an axis: slices, flips, assignments to slices.

Each is a table of positions for each axis, an input position for every output position, made by torch itself
on numbers that count: so a tile takes exactly what the whole would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators import indexing, views
from outstride.models.operators.describing import describe
from outstride.tiling.box import Box, clamped, elements, replaced, whole
from outstride.tiling.rules.interface import NEEDS_ALL, Boxes, Rule, RuleTable, Tensors, present

Lines = Mapping[int, Callable[[Any], Any]]
"""For each axis along which positions are taken: what makes a line of output positions of one of inputs."""
AlongLines = Callable[[Node], Lines]

_MOST_TABLES = 256


@lru_cache(_MOST_TABLES)
def _table(node: Node, axis: int, lines: AlongLines, counted: bool) -> range | Tensor:
    size = node.source_shapes[0][axis]
    if counted:
        positions: range = lines(node)[axis](range(size))
        return positions
    return torch.as_tensor(lines(node)[axis](torch.arange(size, dtype=torch.float64))).to(torch.int64)


def by_positions(lines: AlongLines, counted: bool = False) -> Rule:
    """The rule of what takes positions along some axes; ``counted``: in equal steps, as a range."""

    def demand(node: Node, box: Box) -> Boxes:
        needed = box
        for axis in lines(node):
            positions = _table(node, axis, lines, counted)[slice(*box[axis])]
            if len(positions) == 0:
                least, most = 0, -1
            elif isinstance(positions, range):
                least, most = sorted((positions[0], positions[-1]))
            else:
                least, most = (int(p) for p in torch.aminmax(positions))
            needed = replaced(needed, axis, (least, most + 1))
        return [needed]

    def run(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
        (result,), (held,) = present(tensors), boxes
        assert held is not None
        for axis in lines(node):
            result = _taken(
                result, axis, _table(node, axis, lines, counted)[slice(*box[axis])], held[axis][0]
            )
        return result

    def scratch(node: Node, box: Box, boxes: Boxes) -> int:
        # One axis after the other: what an axis made is there until the next is done.
        (made,), most = boxes, 0
        assert made is not None
        if not counted:
            for axis in list(lines(node))[:-1]:
                made = replaced(made, axis, box[axis])
                most = max(most, elements(made))
        return node.dtype.itemsize * most

    return Rule(demand, run, scratch=scratch)


def _taken(source: Tensor, axis: int, positions: range | Tensor, first: int) -> Tensor:
    """Positions of one axis of a tensor that starts at ``first``."""
    if len(positions) == 0:  # of nothing, torch 2.6 selects nothing by no index
        return source.narrow(axis, 0, 0)
    if isinstance(positions, range):
        if positions.step > 0 or len(positions) == 1:
            step = max(positions.step, 1)
            places = [slice(None)] * source.dim()
            places[axis] = slice(positions[0] - first, positions[-1] - first + 1, step)
            return source[tuple(places)]
        positions = torch.tensor(positions)
    return _selected(source, axis, positions - first)


def _selected(source: Tensor, axis: int, positions: Tensor) -> Tensor:
    """The same of any positions, which torch itself takes one by one: ten times as long as a copy."""
    begin, end = _run(positions)
    if 2 * (end - begin) > len(positions):
        middle = source.narrow(axis, int(positions[begin]), end - begin)
        before, after = (
            [source.index_select(axis, part)] if len(part) else []
            for part in (positions[:begin], positions[end:])
        )
        return torch.cat([*before, middle, *after], axis) if before or after else middle
    times, over = _times(positions)
    if times > 1:
        low, high = int(positions[0]), int(positions[-1])
        once = source.narrow(axis, low, high - low + 1).unsqueeze(axis + 1)
        sizes = [-1] * once.dim()
        sizes[axis + 1] = times
        return once.expand(sizes).flatten(axis, axis + 1).narrow(axis, over, len(positions))
    return source.index_select(axis, positions)


def _run(positions: Tensor) -> tuple[int, int]:
    """Where those go up one by one, with others before and behind only, as around a border."""
    ups = (positions.diff() == 1).nonzero().flatten()
    if not len(ups):
        return 0, 0
    begin, end = int(ups[0]), int(ups[-1]) + 2
    return (begin, end) if len(ups) == end - begin - 1 else (0, 0)


def _times(positions: Tensor) -> tuple[int, int]:
    """How often each of some is there that go up one by one, and of the first how many times are not."""
    ups = (positions.diff() != 0).nonzero().flatten()
    times = int(ups.diff().max()) if len(ups) > 1 else 1
    over = times - 1 - int(ups[0]) if len(ups) else 0
    if over < 0:
        return 1, 0
    expected = positions[0] + (torch.arange(len(positions)) + over).div(times, rounding_mode="floor")
    return (times, over) if torch.equal(positions, expected) else (1, 0)


def on_a_map(function: Callable[..., Tensor], *arguments: Any) -> Callable[[Tensor], Tensor]:
    """A function of (N, C, L) for a line."""
    return lambda line: function(line[None, None], *arguments)[0, 0]


def _sliced(node: Node) -> Lines:
    operator: indexing.Slice = describe(node)
    return {
        operator.axis: lambda line: line[
            operator.positions.start : operator.positions.stop : operator.positions.step
        ]
    }


def _flipped(node: Node) -> Lines:
    operator: indexing.Flip = describe(node)
    return {axis: lambda line: line[::-1] for axis in operator.axes}


def _rolled(node: Node) -> Lines:
    operator: indexing.Roll = describe(node)
    return {axis: partial(torch.roll, shifts=shift) for axis, shift in operator.shifts}


def _repeated(node: Node) -> Lines:
    operator: views.Repeat = describe(node)
    return {
        axis: lambda line, times=times: line.repeat(times)  # type: ignore[misc]
        for axis, times in enumerate(operator.times)
        if times != 1
    }


# One element of an axis.
def _selected_demand(node: Node, box: Box) -> Boxes:
    operator: indexing.Select = describe(node)
    return [(*box[: operator.axis], (operator.index, operator.index + 1), *box[operator.axis :])]


def _select(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del box, boxes
    operator: indexing.Select = describe(node)
    return present(tensors)[0].squeeze(operator.axis)


# A row of a table for each element.
def _embedded_demand(node: Node, box: Box) -> Boxes:
    operator: indexing.Embedding = describe(node)
    return [
        box[:-1] if index == operator.indices.index else whole(shape)
        for index, shape in zip(node.sources, node.source_shapes, strict=True)
    ]


def _embed(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    del boxes
    return node.call(present(tensors))[..., slice(*box[-1])]


# Written into a part: what an assignment to a slice has become.
def _written(node: Node, box: Box) -> Box:
    """What a box takes of the tensor that is written."""
    operator: indexing.SliceScatter = describe(node)
    start, (a, b), count = (
        operator.positions.start,
        box[operator.axis],
        node.shape_of(operator.written)[operator.axis],
    )
    return replaced(box, operator.axis, clamped(a - start, b - start, count))


def _is_all(node: Node, box: Box) -> bool:
    """Whether all of a box is written."""
    return elements(_written(node, box)) == elements(box) > 0


def _has_gaps(node: Node) -> bool:
    operator: indexing.SliceScatter = describe(node)
    return operator.positions.step != 1 or len(node.sources) != 2


def _scattered_demand(node: Node, box: Box) -> Boxes:
    if _has_gaps(node):
        return NEEDS_ALL.demand(node, box)
    operator: indexing.SliceScatter = describe(node)
    part = _written(node, box)
    written = part if elements(part) else None
    kept = None if _is_all(node, box) else box
    return [written if index == operator.written.index else kept for index in node.sources]


def _scatter(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    if _has_gaps(node):
        return NEEDS_ALL.run(node, box, boxes, tensors)
    operator: indexing.SliceScatter = describe(node)
    result, part = tensors[node.place_of(operator.target)], tensors[node.place_of(operator.written)]
    if result is None:
        assert part is not None
        return part
    result = result.clone()
    if part is not None:
        first, last = _written(node, box)[operator.axis]
        start = operator.positions.start - box[operator.axis][0]
        result.narrow(operator.axis, start + first, last - first).copy_(part)
    return result


RULES: RuleTable = {
    indexing.Slice: by_positions(_sliced, counted=True),
    indexing.Flip: by_positions(_flipped, counted=True),
    indexing.Roll: by_positions(_rolled),
    views.Repeat: by_positions(_repeated),
    indexing.Select: Rule(_selected_demand, _select),
    indexing.Embedding: Rule(_embedded_demand, _embed),
    indexing.SliceScatter: Rule(_scattered_demand, _scatter),
}
