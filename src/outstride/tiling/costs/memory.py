"""What the tensors of boxes take at a time, and what their kernels keep from box to box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from outstride.models.operators import indexing, pointwise, pooling, reductions, views
from outstride.models.operators.describing import VIEWS, describe
from outstride.tiling.box import Box, elements, whole
from outstride.tiling.costs.layers import LayerCost, layer_cost
from outstride.tiling.evaluation import Need, Program
from outstride.tiling.maps import LONGEST

#: Kinds whose results take no memory beside their source's; other views may be copies.
_NO_COPIES = (views.Permute, views.Expand, indexing.Slice, indexing.Select)
#: Kinds whose routines want their sources in order, and copy views and parts of larger boxes.
_IN_ORDER = (
    *(pointwise.Pointwise, pointwise.Gate, reductions.Reduction, reductions.Softmax),
    *(pooling.MaxPool, pooling.AveragePool, pooling.AdaptivePool),
)


class Bytes(NamedTuple):
    """``tensors``: while a box is made; ``kept``: packed weights and scratch, which stay for the next."""

    tensors: int
    kept: int

    @property
    def peak(self) -> int:
        """All at a time."""
        return self.tensors + self.kept


NOTHING = Bytes(0, 0)


def bytes_of(program: Program, need: Need) -> Bytes:
    """The most that boxes take, what lies between passes and the model's own weights aside."""
    held = most = 0
    ends = _ends(program, need)
    for index in sorted(need.boxes):
        own = _own_bytes(program, need, index)
        held += own
        most = max(most, held + _scratch_bytes(program, need, index))
        held -= sum(_own_bytes(program, need, other) for other in ends.get(index, ()))
    return Bytes(most, kept_bytes(program, need))


def steps_of(program: Program, need: Need) -> dict[int, Bytes]:
    """What each tensor of boxes takes as it is made, and what its kernel keeps from then on."""
    threads, steps = torch.get_num_threads(), dict[int, Bytes]()
    for index in need.boxes:
        cost = _cost(program, need, index)
        kept = 0 if cost is None else cost.packed_bytes + cost.scratch_bytes * threads
        steps[index] = Bytes(_own_bytes(program, need, index) + _scratch_bytes(program, need, index), kept)
    return steps


def kept_bytes(program: Program, need: Need) -> int:
    """What is kept: constants, all packed weights, and for each thread the most scratch of any kernel."""
    packed = scratch = 0
    for index in need.parts:
        cost = _cost(program, need, index)
        if cost is not None:
            packed += cost.packed_bytes
            scratch = max(scratch, cost.scratch_bytes)
    return program.graph.made_bytes + packed + scratch * torch.get_num_threads()


def _cost(program: Program, need: Need, index: int) -> LayerCost | None:
    """What a layer's kernel takes for a tensor's box."""
    if index not in need.parts:
        return None
    largest = max((computed for computed, _, _ in program.making(need, index)), key=elements)
    return layer_cost(program.graph.nodes[index], largest)


def _ends(program: Program, need: Need) -> dict[int, list[int]]:
    """After which tensor the memory of which others is free: a view's source is there as long as the view."""
    last = dict(need.last_use)
    for index in sorted(need.parts, reverse=True):
        if isinstance(describe(program.graph.nodes[index]), VIEWS):
            source = program.graph.nodes[index].sources[0]
            end = len(program.graph.nodes) if index in need.outputs else last.get(index, index)
            last[source] = max(last.get(source, index), end)
    ends: dict[int, list[int]] = {}
    for index, end in last.items():
        if index not in need.outputs:
            ends.setdefault(end, []).append(index)
    return ends


def _own_bytes(program: Program, need: Need, index: int) -> int:
    """What a tensor takes by itself."""
    if _is_view(program, need, index):
        return 0
    is_there = index in program.graph.inputs or index in need.parts or index in need.given
    return program.bytes_of(need, index) if is_there and index in need.boxes else 0


def _scratch_bytes(program: Program, need: Need, index: int) -> int:
    """What making a tensor takes besides: a source in its own type, copies of parts, torch's own."""
    if index in program.graph.inputs:
        return sum(map(elements, need.pieces[index])) * program.read_bytes[index]
    if index not in need.parts:
        cut = index in need.given and need.boxes[index][-1:] != whole(program.graph.nodes[index].shape)[-1:]
        return min(program.bytes_of(need, index), LONGEST) if cut else 0
    return max(_copied(program, need, index, *each) for each in program.making(need, index))


def _copied(
    program: Program, need: Need, index: int, computed: Box, piece: Box, parts: Sequence[Box | None]
) -> int:
    """The same of a piece."""
    node, copied = program.graph.nodes[index], 0
    cost = layer_cost(node, computed)
    if cost is not None:
        copied = int(cost.copied_bytes * elements(computed))
    elif isinstance(describe(node), _IN_ORDER):
        for source, part in zip(node.sources, parts, strict=True):
            if part is None:
                continue
            if _is_view(program, need, source) or _has_gaps(part, need.boxes[source]):
                copied += elements(part) * program.graph.nodes[source].dtype.itemsize
    return copied + program.rules[index].scratch(node, piece, parts)


def _is_view(program: Program, need: Need, index: int) -> bool:
    """Whether a tensor lies in the memory of its source, in whatever order."""
    return index in need.parts and isinstance(describe(program.graph.nodes[index]), _NO_COPIES)


def _has_gaps(part: Box, box: Box) -> bool:
    """Whether a part of a box is no stretch of its memory."""
    first = next((axis for axis, (a, b) in enumerate(part) if b - a > 1), len(part))
    return part[first + 1 :] != box[first + 1 :]
