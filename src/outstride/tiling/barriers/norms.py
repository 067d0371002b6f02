"""Norms whose statistics are those of the map that they normalise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.norms import BatchNorm, GroupNorm, LayerNorm, Norm
from outstride.tiling.barriers.interface import Barrier, is_map, lies_in_order
from outstride.tiling.barriers.trials import folded, numbers
from outstride.tiling.box import Box
from outstride.tiling.folds.chains import ChannelMoments
from outstride.tiling.folds.interface import Fold
from outstride.tiling.folds.moments import GroupMoments
from outstride.tiling.rules.interface import Boxes, Tensors


def _operator(node: Node) -> Norm:
    found: Norm = describe(node)
    return found


# Of each channel.
def _serves_channels(node: Node) -> bool:
    operator: BatchNorm = describe(node)
    known = node.dtype == torch.float32 and is_map(node) and lies_in_order(node)
    return known and operator.training and node.result == 0 and _channels_agree()


def _channel_moments(node: Node) -> Fold:
    return ChannelMoments(node.source_shapes[0], _operator(node).eps)


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


def _held(node: Node, tensors: Tensors) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The box of the map, and the parts of weight and bias."""
    held, operator = dict(zip(node.sources, tensors, strict=True)), _operator(node)
    sources = operator.input, operator.weight, operator.bias
    x, weight, bias = (None if source is None else held[source.index] for source in sources)
    assert x is not None
    return x, weight, bias


def _of(vector: Tensor | None, channels: slice) -> Tensor | None:
    return None if vector is None else vector[channels]


def _normalise_channels(node: Node, statistics: Any, box: Box, tensors: Tensors) -> Tensor:
    x, weight, bias = _held(node, tensors)
    channels = slice(*box[1])
    mean, inverse = (statistic[channels] for statistic in statistics)
    return _normalised(x, mean, inverse, _of(weight, channels), _of(bias, channels))


@lru_cache(1)
def _channels_agree() -> bool:
    """Whether this build of torch takes moments of channels as the fold does."""
    x, weight, bias = _tried(1, 5)
    made, *expected = torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)
    mean, inverse = folded(ChannelMoments(tuple(x.shape), 1e-5), x)
    return _agree((mean, inverse), expected) and torch.equal(
        _normalised(x[:, :, :7], mean, inverse, weight, bias), made[:, :, :7]
    )


# Of groups of channels at all positions.
def _serves_groups(node: Node) -> bool:
    known = node.dtype == torch.float32 and is_map(node) and lies_in_order(node)
    return known and node.result == 0 and _groups_agree()


def _group_moments(node: Node) -> Fold:
    operator: GroupNorm = describe(node)
    return GroupMoments(node.source_shapes[0], operator.groups, operator.eps, wide_root=True)


def _channels_of_groups(node: Node) -> int:
    operator: GroupNorm = describe(node)
    return node.source_shapes[0][1] // operator.groups


def _normalise_groups(node: Node, statistics: Any, box: Box, tensors: Tensors) -> Tensor:
    x, weight, bias = _held(node, tensors)
    operator: GroupNorm = describe(node)
    width = node.source_shapes[0][1] // operator.groups
    groups, channels = torch.arange(*box[1]) // width, slice(*box[1])
    made = [
        _normalised_group(
            part[None], mean[groups], inverse[groups], _of(weight, channels), _of(bias, channels)
        )
        for part, mean, inverse in zip(
            x, *(statistic[slice(*box[0])] for statistic in statistics), strict=True
        )
    ]
    return torch.cat(made)


def _normalised_group(
    x: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """One image as torch's group norm rounds it."""
    if weight is None and bias is None:
        shape = (1, -1, *(1 for _ in x.shape[2:]))
        return (x - mean.view(shape)) * inverse.view(shape)
    scale = inverse if weight is None else inverse * weight
    shift = torch.addcmul(torch.zeros_like(mean) if bias is None else bias, -scale, mean)
    return _normalised(x, torch.zeros_like(mean), scale, None, shift)


@lru_cache(1)
def _groups_agree() -> bool:
    """Whether this build of torch takes moments of groups as the fold does."""
    x, weight, bias = _tried(2, 5)
    made, *expected = torch.native_group_norm(x, weight, bias, 2, 5, x[0, 0].numel(), 5, 1e-5)
    mean, inverse = folded(GroupMoments(tuple(x.shape), 5, 1e-5, wide_root=True), x)
    return _agree((mean, inverse), expected) and torch.equal(
        _normalised_group(x[:1, :, :7], mean[0], inverse[0], weight, bias), made[:1, :, :7]
    )


# Of all positions, with the channels or without.
def _serves_layers(node: Node) -> bool:
    operator: LayerNorm = describe(node)
    known = node.dtype == torch.float32 and is_map(node) and lies_in_order(node)
    over_positions = operator.axes in (len(node.shape) - 2, len(node.shape) - 1)
    return known and over_positions and node.result == 0 and _layers_agree()


def _with_channels(node: Node) -> bool:
    operator: LayerNorm = describe(node)
    return operator.axes == len(node.shape) - 1 and node.shape[1] > 1


def _channels_of_layers(node: Node) -> int:
    return node.shape[1] if _with_channels(node) else 1


def _layer_moments(node: Node) -> Fold:
    groups = 1 if _with_channels(node) else node.shape[1]
    return GroupMoments(node.source_shapes[0], groups, _operator(node).eps, wide_root=False)


def _layer_demand(node: Node, box: Box) -> Boxes:
    """The same box of the map, and of weight and bias, which lie along the last axes."""
    return [box, *(box[len(box) - len(shape) :] for shape in node.source_shapes[1:])]


def _normalise_layers(node: Node, statistics: Any, box: Box, tensors: Tensors) -> Tensor:
    x, weight, bias = _held(node, tensors)
    places = (slice(*box[0]), slice(None) if _with_channels(node) else slice(*box[1]))
    mean, inverse = (statistic[places] for statistic in statistics)
    return _normalised_layer(x, mean, inverse, weight, bias)


def _normalised_layer(
    x: Tensor, mean: Tensor, inverse: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """As torch's layer norm rounds it: all parts in order, for the last step is fused."""
    shape = (*mean.shape, *(1 for _ in x.shape[2:]))
    made = (x - mean.view(shape)) * inverse.view(shape)
    if weight is not None and bias is not None:
        return torch.addcmul(*(t.expand_as(made).contiguous() for t in (bias, made, weight)))
    scaled = made if weight is None else made * weight
    return scaled if bias is None else scaled + bias


@lru_cache(1)
def _layers_agree() -> bool:
    """Whether this build of torch takes moments of layers as the fold does."""
    x = _tried(2, 5)[0]
    weight, bias = numbers(*x.shape[2:]), numbers(*x.shape[2:]).flip(0)
    made, *expected = torch.native_layer_norm(x, list(weight.shape), weight, bias, 1e-5)
    mean, inverse = folded(GroupMoments(tuple(x.shape), 5, 1e-5, wide_root=False), x)
    return _agree((mean, inverse), [each[..., 0, 0] for each in expected]) and torch.equal(
        _normalised_layer(x[:, :, :7], mean, inverse, weight[:7], bias[:7]), made[:, :, :7]
    )


def _tried(images: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """A map, and a weight and a bias of its channels."""
    return numbers(images, channels, 23, 61), numbers(channels), numbers(channels, 1)[:, 0].contiguous()


def _agree(got: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


BARRIERS: dict[type, Barrier] = {
    BatchNorm: Barrier(_channel_moments, _serves_channels, _normalise_channels, ChannelMoments.walks),
    GroupNorm: Barrier(_group_moments, _serves_groups, _normalise_groups, in_turn=_channels_of_groups),
    LayerNorm: Barrier(
        _layer_moments, _serves_layers, _normalise_layers, in_turn=_channels_of_layers, demand=_layer_demand
    ),
}
