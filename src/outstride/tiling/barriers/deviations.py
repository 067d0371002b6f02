"""Norms and variances of all positions of a map, such as ConvNeXt V2 has in every block."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from torch import Tensor

from outstride.models.layouts import in_order
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.reductions import Deviation
from outstride.tiling.barriers.interface import Barrier, is_map, lies_in_order, spatial_axes
from outstride.tiling.barriers.trials import folded, numbers
from outstride.tiling.folds.deviations import Norms, Variances
from outstride.tiling.folds.interface import Fold

_FLOATS = (torch.float32, torch.float64)
#: Bytes of torch's vectors: which they are is tried.
_VECTOR_BYTES = (32, 64, 16)
#: Channels that are tried: whether a square is rounded before it is added shows in one of five.
_CHANNELS = 64


def _is_turned(node: Node) -> bool:
    """Whether channels lie side by side in memory."""
    shape, strides = node.source_shapes[0], node.source_strides[0]
    order = [0, *range(2, len(shape)), 1]
    return in_order([shape[axis] for axis in order], [strides[axis] for axis in order])


def _serves(node: Node) -> bool:
    operator: Deviation = describe(node)
    known = node.dtype in _FLOATS and not operator.converts and is_map(node)
    if not known or set(operator.axes) != spatial_axes(node) or len(node.sources) != 1:
        return False
    in_memory = lies_in_order(node)
    if not (in_memory or _is_turned(node)):
        return False
    if operator.kind == "norm":
        if prod(node.shape) == 1 and not in_memory:  # a single sum is shared among threads
            return False
        return operator.power == 2 and _lanes(node.dtype, in_memory) is not None
    return prod(node.shape) > 1 and _variances_agree(node.dtype, in_memory)


def _fold(node: Node) -> Fold:
    operator: Deviation = describe(node)
    shape, in_memory = node.source_shapes[0], lies_in_order(node)
    if operator.kind == "norm":
        lanes = _lanes(node.dtype, in_memory)
        assert lanes is not None
        return Norms(shape, node.dtype, lanes, node.shape)
    wanted = "mean" if node.result == 1 else operator.kind
    return Variances(shape, node.dtype, not in_memory, wanted, operator.correction, node.shape)


def _tried(dtype: torch.dtype, in_memory: bool) -> Tensor:
    x = numbers(2, _CHANNELS, 23, 61, dtype=dtype)
    x[1] /= x[1].abs().log2().ceil().exp2()  # of one magnitude: among many only the largest round
    return x if in_memory else x.contiguous(memory_format=torch.channels_last)


@lru_cache(8)
def _lanes(dtype: torch.dtype, in_memory: bool) -> int | None:
    """How many chains torch takes the norm of a channel by; 0 for one, None where it does so otherwise."""
    x = _tried(dtype, in_memory)
    expected = torch.linalg.vector_norm(x, 2, (2, 3))
    for lanes in [size // dtype.itemsize for size in _VECTOR_BYTES] if in_memory else [0]:
        made = folded(Norms(tuple(x.shape), dtype, lanes, tuple(x.shape[:2])), x)
        if torch.equal(made, expected):
            return lanes
    return None


@lru_cache(8)
def _variances_agree(dtype: torch.dtype, in_memory: bool) -> bool:
    """Whether this build of torch takes variances as the fold does.

    All are sums of float64, of which float32 would hide how they are rounded.
    """
    if dtype != torch.float64 and not _variances_agree(torch.float64, in_memory):
        return False
    x = _tried(dtype, in_memory)
    shape, made = tuple(x.shape), tuple(x.shape[:2])
    expected = torch.var_mean(x, (2, 3), correction=1)
    found = [
        folded(Variances(shape, dtype, not in_memory, wanted, 1.0, made), x) for wanted in ("var", "mean")
    ]
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


BARRIERS: dict[type, Barrier] = {Deviation: Barrier(_fold, _serves)}
