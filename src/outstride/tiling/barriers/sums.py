"""Sums and means over all positions of a map, as a global pooling is one."""

from __future__ import annotations

from functools import lru_cache

import torch

from outstride.engine.launch.maps.sum_orders import SumColumns, map_sum_orders
from outstride.models.layouts import in_order
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.reductions import Mean, Reduction, Sum
from outstride.tiling.barriers.interface import Barrier, is_map, lies_in_order, spatial_axes
from outstride.tiling.barriers.trials import folded, numbers
from outstride.tiling.folds.cascades import MapSums
from outstride.tiling.folds.interface import Fold

#: Bytes of torch's vectors: it has narrower ones for sums than its processor has. Which they are is tried.
_VECTOR_BYTES = (32, 64, 16)
_FLOATS = (torch.float32, torch.float64)


def _serves(node: Node) -> bool:
    operator: Reduction = describe(node)
    known = node.dtype in _FLOATS and not operator.converts
    return known and is_map(node) and set(operator.axes) == spatial_axes(node) and _orders(node) is not None


def _orders(node: Node) -> list[SumColumns] | None:
    """In which order torch sums each channel; None where it is not known."""
    shape, lanes = node.source_shapes[0], _lanes(node.dtype)
    order = [0, *range(2, len(shape)), 1]
    turned = in_order([shape[axis] for axis in order], [node.source_strides[0][axis] for axis in order])
    if lanes is None or not (turned or lies_in_order(node)):
        return None
    return map_sum_orders(shape, lies_in_order(node), node.dtype.itemsize, lanes)


def _fold(node: Node) -> Fold:
    orders = _orders(node)
    assert orders is not None
    return MapSums(node.source_shapes[0], node.dtype, orders, isinstance(describe(node), Mean), node.shape)


@lru_cache(8)
def _lanes(dtype: torch.dtype) -> int | None:
    """How many numbers torch's vectors for sums have, or None where it sums in none of the orders known."""
    x = numbers(3, 5, 23, 61, dtype=dtype)
    for size in _VECTOR_BYTES:
        lanes = size // dtype.itemsize
        orders = map_sum_orders(x.shape, True, dtype.itemsize, lanes)
        assert orders is not None
        made = folded(MapSums(tuple(x.shape), dtype, orders, True, tuple(x.shape[:2])), x)
        if torch.equal(made, x.mean((2, 3))):
            return lanes
    return None


BARRIERS: dict[type, Barrier] = dict.fromkeys((Sum, Mean), Barrier(_fold, _serves))
