"""How long boxes take, in cycles: layers by their plans, everything else by what it moves and computes.

What is kept or made again is decided by these numbers, so they do not depend on what else the machine does.
They were measured on one machine, as the costs of its plans were (``engine/planner/machine.py``).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from math import prod
from typing import TypeVar

import torch

from outstride.models.layouts import in_order
from outstride.models.node import Node
from outstride.models.operators import (
    indexing,
    norms,
    padding,
    pointwise,
    pooling,
    products,
    reductions,
    resizing,
    shuffling,
    unfolding,
    views,
)
from outstride.models.operators.describing import VIEWS, describe
from outstride.tiling.box import Box, elements
from outstride.tiling.costs.layers import layer_cost
from outstride.tiling.evaluation import Need, Program
from outstride.tiling.maps import read_stretches, stretches

_Value = TypeVar("_Value")

#: Of a call of an operator, whatever it does.
CALL = 200_000.0
#: Of a byte in memory that is read or written, and in a file, of which each stretch is a call, too.
MEMORY, FILE, _STRETCH = 0.3, 1.5, 4500.0
#: Of a byte that is put into a map in memory or in a file, whose pages are new.
_KEPT, _WRITTEN = 1.2, 2.0
#: What layers take of what their plans say, whose inputs lie in the caches, and of a byte that they move.
_PLANNED, _MOVED = 1.15, 0.35
#: Of a byte of a tensor that the C library asks the system for, as it does from so many bytes on.
_FRESH, _FRESH_FROM = 1.3, 1 << 25
#: By the kind of an operator: of an element that it makes, and of one that it reads, beside their bytes.
_ELEMENT: dict[type, tuple[float, float]] = {
    pooling.MaxPool: (45.0, 0.0), pooling.AveragePool: (25.0, 0.0), pooling.AdaptivePool: (0.0, 4.0),
    pooling.Unpool: (15.0, 0.0),
    resizing.LinearResize: (9.0, 0.0), resizing.NearestResize: (4.0, 0.0), padding.BorderPad: (6.0, 0.0),
    norms.LayerNorm: (6.0, 0.0), norms.GroupNorm: (2.0, 0.0), reductions.Softmax: (3.0, 0.0),
    reductions.Extremum: (0.0, 1.0), reductions.Deviation: (0.0, 40.0), reductions.Reduction: (0.0, 4.0),
    shuffling.PixelShuffle: (8.0, 0.0), shuffling.PixelUnshuffle: (6.0, 0.0),
    indexing.Roll: (8.0, 0.0), indexing.Flip: (6.0, 0.0), pointwise.Gate: (5.0, 0.0),
    unfolding.Columns: (6.0, 0.0), unfolding.FromColumns: (5.0, 0.0), reductions.Fourier: (30.0, 0.0),
    views.Reshape: (8.0, 0.0),
}  # fmt: skip
#: Of an element, by the name of a pointwise function.
_FUNCTIONS = {
    "aten.gelu": 4.0, "aten.sigmoid": 3.0, "aten.silu": 3.5, "aten.tanh": 9.0, "aten.exp": 2.5,
    "aten.mish": 18.0, "aten.softplus": 8.0, "aten.elu": 4.0, "aten.pow": 13.0,
}  # fmt: skip
#: Of a tap of a pooling's window, of each element that it makes.
_TAPS: dict[type, float] = {pooling.MaxPool: 5.0, pooling.AveragePool: 1.5}
#: Multiply-adds of torch's products of small matrices in a cycle.
_PRODUCTS = 8.0
#: Of an element that a walk folds, by the kind of operator that it is for.
_FOLDED: dict[type, float] = {
    norms.BatchNorm: 13.0, norms.GroupNorm: 12.0, norms.LayerNorm: 12.0, pooling.AdaptivePool: 15.0,
    reductions.Extremum: 1.0, reductions.Reduction: 5.5,
}  # fmt: skip
#: Of a box that it folds: of moments of groups 160 calls of torch's.
_FOLDED_BOX: dict[type, float] = {norms.BatchNorm: 5e4, norms.GroupNorm: 6e5, norms.LayerNorm: 6e5}


def cycles_of(program: Program, need: Need, in_memory: Container[int] = frozenset()) -> float:
    """Of the tensors of boxes, on torch's threads, with the kept ones that are read.

    ``in_memory``: those that are kept there and in no file.
    """
    found = 0.0
    for index in need.boxes:
        size = program.bytes_of(need, index)
        if index in need.parts:
            found += _made(program, need, index)
        elif index in need.given:
            found += size * MEMORY if index in in_memory else _read(program.graph.nodes[index], need, index)
        elif index in program.graph.inputs:
            found += size * MEMORY
    return found


def writing_cycles(node: Node, box: Box, in_memory: bool) -> float:
    """What it takes to keep a box of a tensor."""
    size = elements(box) * node.dtype.itemsize
    return size * _KEPT if in_memory else size * _WRITTEN + _STRETCH * stretches(node.shape, box)


def _read(node: Node, need: Need, index: int) -> float:
    """Of a kept tensor's pieces in a file."""
    item = node.dtype.itemsize
    return sum(
        elements(piece) * item * FILE + _STRETCH * read_stretches(node.shape, item, piece)
        for piece in need.pieces[index]
    )


def folding_cycles(node: Node, boxes: int) -> float:
    """What a walk over the whole first source takes beside making it, that folds it for an operator."""
    kind = describe(node)
    of_boxes = boxes * _of_kind(_FOLDED_BOX, kind, CALL)
    return prod(node.source_shapes[0]) * _of_kind(_FOLDED, kind, 0.0) + of_boxes


def _made(program: Program, need: Need, index: int) -> float:
    """Of one tensor's pieces."""
    node = program.graph.nodes[index]
    return sum(
        _piece(node, computed, parts, program.rules[index].scratch(node, piece, parts))
        for computed, piece, parts in program.making(need, index)
    )


def _piece(node: Node, box: Box, parts: Sequence[Box | None], aside: int) -> float:
    """Of one piece; ``aside``: the bytes that making it takes besides."""
    kind, threads = describe(node), torch.get_num_threads()
    made, read = elements(box), sum(elements(part) for part in parts if part is not None)
    size = made * node.dtype.itemsize
    layer = layer_cost(node, box)
    if layer is not None:
        moved = size + read * node.dtype.itemsize + 2 * layer.copied_bytes * made
        return CALL + (_PLANNED * layer.cycles * made + _MOVED * moved) / threads
    if isinstance(kind, VIEWS) and not _copies(node):
        return CALL
    moved = size + read * node.dtype.itemsize + 2 * aside
    fresh = sum(n for n in (size, aside) if n >= _FRESH_FROM)
    return CALL + (MEMORY * moved + _FRESH * fresh + _computed(node, made, read)) / threads


def _computed(node: Node, made: int, read: int) -> float:
    """What an operator that is no layer takes beside moving its numbers."""
    kind = describe(node)
    if isinstance(kind, products.MatrixProducts):
        return made * kind.shapes[0][-1] / _PRODUCTS
    of_made, of_read = _of_kind(_ELEMENT, kind, (_FUNCTIONS.get(node.name, 0.0), 0.0))
    if isinstance(kind, (pooling.MaxPool, pooling.AveragePool)):
        of_made += _of_kind(_TAPS, kind, 0.0) * prod(window.kernel_size for window in kind.windows)
    if pointwise.is_square(node):
        of_made = 0.0
    return of_made * made + of_read * read


def _of_kind(table: Mapping[type, _Value], kind: object, otherwise: _Value) -> _Value:
    return next((table[each] for each in type(kind).__mro__ if each in table), otherwise)


def _copies(node: Node) -> bool:
    """Whether another shape of what does not lie in order."""
    return isinstance(describe(node), views.Reshape) and not in_order(
        node.source_shapes[0], node.source_strides[0]
    )
