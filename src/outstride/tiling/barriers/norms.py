"""Norms whose statistics are those of the map that they normalise."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.norms import BatchNorm
from outstride.tiling.barriers.interface import Barrier, is_map, lies_in_order
from outstride.tiling.barriers.trials import folded, numbers
from outstride.tiling.box import Box
from outstride.tiling.folds.chains import ChannelMoments
from outstride.tiling.folds.interface import Fold
from outstride.tiling.rules.interface import Tensors


def _serves_channels(node: Node) -> bool:
    operator: BatchNorm = describe(node)
    known = node.dtype == torch.float32 and is_map(node) and lies_in_order(node)
    return known and operator.training and node.result == 0 and _channels_agree()


def _channel_moments(node: Node) -> Fold:
    return ChannelMoments(node.source_shapes[0], node.argument("eps"))


def _normalised(
    x: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """(x - mean) * inverse * weight + bias as torch's batch norm rounds it in training.

    A variance of 1 and no ``eps`` leave its scale to the weight.
    """
    scale = inverse if weight is None else inverse * weight
    made: Tensor = torch.native_batch_norm(
        x.contiguous(), scale, bias, mean, torch.ones_like(mean), False, 0.0, 0.0
    )[0]
    return made


def _normalise_channels(node: Node, statistics: Any, box: Box, tensors: Tensors) -> Tensor:
    held, channels = dict(zip(node.sources, tensors, strict=True)), slice(*box[1])

    def vector(name: str) -> Tensor | None:
        source = node.argument(name)
        tensor = None if source is None else held[source.index]
        return None if tensor is None else tensor[channels]

    mean, inverse = (statistic[channels] for statistic in statistics)
    x = held[node.argument("input").index]
    assert x is not None
    return _normalised(x, mean, inverse, vector("weight"), vector("bias"))


@lru_cache(1)
def _channels_agree() -> bool:
    """Whether this build of torch takes moments of channels as the fold does."""
    x = numbers(1, 5, 23, 61)
    weight, bias = numbers(x.shape[1]), numbers(x.shape[1], 1)[:, 0]
    made, *expected = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)
    mean, inverse = folded(ChannelMoments(tuple(x.shape), 1e-5), x)
    same = torch.equal(mean, expected[0]) and torch.equal(inverse, expected[1])
    return same and torch.equal(_normalised(x[:, :, :7], mean, inverse, weight, bias), made[:, :, :7])


BARRIERS: dict[type, Barrier] = {
    BatchNorm: Barrier(_channel_moments, _serves_channels, _normalise_channels, ChannelMoments.walks),
}
