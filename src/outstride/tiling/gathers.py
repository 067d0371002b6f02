"""Rules for what takes elements by their position along an axis: slices, flips, borders, nearest neighbours.

Each is a table of positions for each axis, an input position for every output position, made by torch itself
on numbers that count: so a tile takes exactly what the whole would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from outstride.models.graph import Node
from outstride.tiling.box import Box, elements, replaced
from outstride.tiling.rule import Rule, given

Lines = Mapping[int, Callable[[Any], Any]]
"""For each axis that moves: what turns a line of input positions into one of output positions."""
Moves = Callable[[Node], Lines]

_MOST_TABLES = 256


@lru_cache(_MOST_TABLES)
def _table(node: Node, axis: int, moves: Moves, counted: bool) -> range | Tensor:
    size = node.source_shapes[0][axis]
    if counted:
        positions: range = moves(node)[axis](range(size))
        return positions
    return torch.as_tensor(moves(node)[axis](torch.arange(size, dtype=torch.float64))).to(torch.int64)


def gathering(moves: Moves, counted: bool = False) -> Rule:
    """The rule of an operator that gathers along some axes; ``counted``: in equal steps, as a range."""

    def demand(node: Node, box: Box) -> Sequence[Box | None]:
        asked = box
        for axis in moves(node):
            positions = _table(node, axis, moves, counted)[slice(*box[axis])]
            if len(positions) == 0:
                least, most = 0, -1
            elif isinstance(positions, range):
                least, most = sorted((positions[0], positions[-1]))
            else:
                least, most = (int(p) for p in torch.aminmax(positions))
            asked = replaced(asked, axis, (least, most + 1))
        return [asked]

    def run(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
        (result,), (held,) = given(tensors), boxes
        assert held is not None
        for axis in moves(node):
            result = _taken(
                result, axis, _table(node, axis, moves, counted)[slice(*box[axis])], held[axis][0]
            )
        return result

    def scratch(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
        # One axis after the other: what an axis made is there until the next is done.
        (made,), most = boxes, 0
        assert made is not None
        if not counted:
            for axis in list(moves(node))[:-1]:
                made = replaced(made, axis, box[axis])
                most = max(most, elements(made))
        return node.dtype.itemsize * most

    return Rule(demand, run, scratch=scratch)


def _taken(source: Tensor, axis: int, positions: range | Tensor, first: int) -> Tensor:
    """Positions of one axis of a tensor that starts at ``first``."""
    if isinstance(positions, range):
        if len(positions) == 0:
            return source.narrow(axis, 0, 0)
        if positions.step > 0 or len(positions) == 1:
            step = max(positions.step, 1)
            places = [slice(None)] * source.dim()
            places[axis] = slice(positions[0] - first, positions[-1] - first + 1, step)
            return source[tuple(places)]
        positions = torch.tensor(positions)
    return source.index_select(axis, positions - first)


def _lines(node: Node, axes: Sequence[int], move: Callable[[Any], Any]) -> Lines:
    rank = len(node.shape)
    return {axis % rank: move for axis in axes}


def sliced(node: Node) -> Lines:
    """slice: from a start to an end in steps."""
    start, stop, step = (node.argument(name) for name in ("start", "end", "step"))
    return _lines(node, [node.argument("dim")], lambda line: line[start:stop:step])


def flipped(node: Node) -> Lines:
    """flip: backwards."""
    return _lines(node, node.argument("dims"), lambda line: line[::-1])


def rolled(node: Node) -> Lines:
    """roll: what leaves at one end comes in at the other."""
    rank = len(node.shape)
    shifts, dims = (list(node.argument(name)) for name in ("shifts", "dims"))
    return {dim % rank: partial(torch.roll, shifts=shift) for dim, shift in zip(dims, shifts, strict=True)}


def bordered(mode: str) -> Moves:
    """Padding that repeats what is there."""

    def moves(node: Node) -> Lines:
        pads, rank = node.argument("padding"), len(node.shape)
        pairs = [(pads[i], pads[i + 1]) for i in range(0, len(pads), 2)]
        pad = partial(torch.nn.functional.pad, mode=mode)
        return {rank - 1 - place: _on_a_map(pad, pair) for place, pair in enumerate(pairs)}

    return moves


def nearest(node: Node) -> Lines:
    """Nearest neighbours, which torch finds axis by axis."""
    nd, exact = len(node.shape) - 2, "exact" in node.name
    operator = getattr(torch.ops.aten, "_upsample_nearest_exact1d" if exact else "upsample_nearest1d")
    # What torch's own layer calls, on a line that counts.
    names = ["scales"] if nd == 1 else ["scales_d", "scales_h", "scales_w"][-nd:]
    sizes, scales = node.argument("output_size"), [node.argument(name) for name in names]
    return {2 + axis: _on_a_map(operator, [sizes[axis]], scales[axis]) for axis in range(nd)}


def _on_a_map(function: Callable[..., Tensor], *arguments: Any) -> Callable[[Tensor], Tensor]:
    """A function of (N, C, L) for a line."""
    return lambda line: function(line[None, None], *arguments)[0, 0]
