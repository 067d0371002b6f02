"""Adaptive pooling to a few windows, and the largest or least of a map."""

from __future__ import annotations

import torch

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.pooling import AdaptivePool
from outstride.models.operators.reductions import Extremum, Reduction
from outstride.tiling.barriers.interface import Barrier, is_map, lies_in_order, spatial_axes
from outstride.tiling.folds.extremes import Extremes
from outstride.tiling.folds.interface import Fold
from outstride.tiling.folds.windows import WindowMaxima, WindowMeans

_JOINED = {"amax": torch.maximum, "amin": torch.minimum, "max": torch.maximum, "min": torch.minimum}
_JOINED |= {"any": torch.logical_or, "all": torch.logical_and}


def _is_maximum(node: Node) -> bool:
    return "max" in node.name


def _serves_windows(node: Node) -> bool:
    operator: AdaptivePool = describe(node)
    if not is_map(node) or len(node.source_shapes[0]) != operator.nd + 2:
        return False
    if _is_maximum(node):
        return node.result == 0 and node.dtype.is_floating_point
    # Channels_last means are divided in two ways, by vectors of channels and by single ones.
    return node.dtype in (torch.float32, torch.float64) and lies_in_order(node)


def _windows(node: Node) -> Fold:
    kind = WindowMaxima if _is_maximum(node) else WindowMeans
    return kind(node.source_shapes[0], node.shape, node.dtype)


def _serves_extreme(node: Node) -> bool:
    operator: Reduction = describe(node)
    known = node.result is None and node.name.removeprefix("aten.") in _JOINED
    return known and is_map(node) and set(operator.axes) >= spatial_axes(node)


def _extremes(node: Node) -> Fold:
    operator: Reduction = describe(node)
    join = _JOINED[node.name.removeprefix("aten.")]
    return Extremes(lambda part: node.call([part]), join, 0 in operator.axes)


BARRIERS: dict[type, Barrier] = {
    AdaptivePool: Barrier(_windows, _serves_windows),
    Extremum: Barrier(_extremes, _serves_extreme),
}
