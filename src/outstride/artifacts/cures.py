"""Cures by weights: equal gains by the least change, or from the start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from outstride.artifacts.phases import Phased, parameter, phased, rows_of, weight_of
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from outstride.layer import arguments as argument
from outstride.layer.spec import ConvSpec

Layer = TypeVar("Layer", bound=nn.Module)

FEATURE_AXES = 2
FEATURE_NOISE = 1e-5
"""Directions weaker than this against the strongest are rounding of float32 features."""


def equalize_(
    layer: Layer,
    *,
    features: Tensor | None = None,
    shuffle: int | None = None,
    keep: Literal["nearest", "mean"] = "nearest",
) -> Layer:
    """Change trained weights as little as possible so that every phase has the same gain.

    Args:
        layer: a transposed convolution, a strided convolution (for its gradient), or a sub-pixel layer:
            ``Sequential(Conv2d, PixelShuffle)``, or the ``Conv2d`` with ``shuffle`` given.
        features: (n, channels) what the layer meets in flat places, such as ``features(model, layer, flat)``;
            then only their span is evened out, which changes a trained layer far less. For a strided
            convolution the channels are its outputs. None: every channel by itself, whatever comes.
        shuffle: the factor of the PixelShuffle that follows.
        keep: "nearest": the nearest weights of all with equal gains. "mean": the nearest of those whose gain
            is the mean of the old gains, so that brightness stays.

    Returns:
        The same layer, changed in place. With g[p] the gain and n[p] the taps of phase p, (m - g[p]) / n[p]
        is added to each of its taps; m is sum(g / n) / sum(1 / n), or the mean of g. A sub-pixel layer's bias
        becomes its mean over the phases.

    Raises:
        UnsupportedError: some phase has no taps (holes stay at 0), or the weight is computed from other
            parameters.

    Law: ``ripple(equalize_(layer)).value`` is zero up to the rounding of the weights.

    Example:
        >>> layer = equalize_(torch.nn.ConvTranspose1d(1, 1, 3, stride=2))
        >>> bool((layer.weight[0, 0, [0, 2]].sum() - layer.weight[0, 0, 1]).abs() < 1e-6)
        True
    """
    if keep not in ("nearest", "mean"):
        raise ArgumentError(f"'keep' must be one of nearest, mean: got {keep!r}; legal: 'nearest'")
    laid = phased(layer, shuffle)
    _refuse_holes(laid)
    rows = projected(laid.rows, laid.mask, keep)
    if features is not None:
        rows = laid.rows + _within(features, rows - laid.rows, laid)
    laid.put(rows, _even_bias(laid))
    return layer


def icnr_(
    layer: Layer, *, shuffle: int | None = None, init: Callable[[Tensor], Any] = nn.init.kaiming_normal_
) -> Layer:
    """Initialise an enlarging layer so that it begins as nearest-neighbour enlargement and one convolution.

    Args:
        layer: a transposed convolution, or a sub-pixel layer as for ``equalize_``.
        shuffle: the factor of the PixelShuffle that follows.
        init: fills a weight in place; it is shown that of the small kernel that all phases share.

    Returns:
        The same layer, changed in place: every phase has the same taps in the same order. A transposed layer
        whose stride does not divide its kernel has phases with fewer taps: they get the first ones, and then
        the least change that makes the gains equal.

    Raises:
        ArgumentError: the layer does not enlarge.
        UnsupportedError: some phase has no taps, or the weight is computed from other parameters.

    Example:
        >>> layer = icnr_(torch.nn.ConvTranspose1d(1, 1, 4, stride=2))
        >>> bool(layer.weight[0, 0, 0] == layer.weight[0, 0, 1])
        True

    Source: Aitken et al., Checkerboard artifact free sub-pixel convolution, arXiv:1707.02937, for sub-pixel
    layers.
    """
    laid = phased(layer, shuffle)
    if laid.of != "output" or max(laid.stride) == 1:
        raise ArgumentError(
            f"'layer' must enlarge: got {ConvSpec.of(laid.layer)!r}; legal: a transposed convolution with a "
            "stride above 1, or a convolution before a PixelShuffle"
        )
    _refuse_holes(laid)
    # The number of each tap within its phase, in kernel order: what all phases share is a kernel of so many
    # taps.
    number = ((laid.mask.cumsum(1) - 1) * laid.mask).sum(0).long()
    small = torch.empty(*laid.rows.shape[:2], int(number.max()) + 1, dtype=laid.rows.dtype)
    init(small)
    rows = small.to(laid.rows.device)[:, :, number]
    counts = laid.mask.sum(1)
    if bool((counts != counts[0]).any()):
        rows = projected(rows, laid.mask, "nearest")
    laid.put(rows, _even_bias(laid))
    return layer


def constrain_(layer: Layer, *, shuffle: int | None = None) -> Layer:
    """Keep the gains of a layer's phases equal while it is trained.

    Args:
        layer: as for ``equalize_``.
        shuffle: the factor of the PixelShuffle that follows.

    Returns:
        The same layer, its weight (and a sub-pixel layer's bias) a torch parametrization: what is trained is
        projected as ``equalize_`` does whenever it is used.
        ``torch.nn.utils.parametrize.remove_parametrizations`` makes it plain again and leaves the projected
        weight.

    Raises:
        UnsupportedError: some phase has no taps.

    Law: ``ripple(constrain_(layer)).value`` is zero up to rounding, before, during and after training.

    Example:
        >>> layer = constrain_(torch.nn.ConvTranspose1d(1, 1, 3, stride=2))
        >>> layer.weight.sum().backward()
    """
    laid = phased(layer, shuffle)
    _refuse_holes(laid)
    parametrize.register_parametrization(laid.layer, "weight", EqualGains(laid), unsafe=True)
    if laid.shuffled and laid.bias is not None:
        parametrize.register_parametrization(laid.layer, "bias", EqualBiases(len(laid.mask)), unsafe=True)
    return layer


class EqualGains(nn.Module):
    """The projection of a weight on those whose phases have equal gains."""

    mask: Tensor

    def __init__(self, laid: Phased) -> None:
        super().__init__()
        self.groups, self.shuffled_phases = laid.groups, laid.shuffled_phases
        self.register_buffer("mask", laid.mask.to(parameter(laid.layer, "weight")), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Project a weight."""
        rows = rows_of(weight, self.groups, self.shuffled_phases)
        even = projected(rows, self.mask, "nearest")
        return weight_of(even, weight.shape, self.groups, self.shuffled_phases)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What is set is projected when it is used."""
        return weight


class EqualBiases(nn.Module):
    """One bias for all phases of a channel: their mean."""

    def __init__(self, phases: int) -> None:
        super().__init__()
        self.phases = phases

    def forward(self, bias: Tensor) -> Tensor:
        """Replace each phase's bias by the mean."""
        return bias.view(-1, self.phases).mean(1).repeat_interleave(self.phases)

    def right_inverse(self, bias: Tensor) -> Tensor:
        """What is set is evened out when it is used."""
        return bias


@torch.no_grad()
def features(model: nn.Module, layer: nn.Module, input: Tensor) -> Tensor:
    """Return what a layer meets in the middle of pictures, to be evened out by ``equalize_``.

    Args:
        model: any module that holds the layer; run once, in evaluation mode, and left as it is.
        layer: of the model, such as its transposed convolution.
        input: (n, C, *size), best n flat pictures that differ in brightness or colour and are large enough
            that the middle does not see the border.

    Returns:
        (n, channels): the mean over the middle half of what reaches the layer.

    Raises:
        ArgumentError: the layer did not run.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ConvTranspose2d(3, 1, 3, stride=2))
        >>> features(model, model[1], torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 3])
    """
    argument.module("model", model)
    met: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: met.append(inputs[0]))
    was_training = model.training
    try:
        model.eval()(input)
    finally:
        hook.remove()
        model.train(was_training)
    if not met:
        raise ArgumentError(
            f"'layer' must be one that runs in the model: got a {type(layer).__name__} that did not; "
            f"legal: such as model.get_submodule(name)"
        )
    middle = met[0]
    for axis in range(2, middle.dim()):
        size = middle.shape[axis]
        middle = middle.narrow(axis, size // 4, size - 2 * (size // 4))
    return middle.flatten(2).mean(-1)


def projected(rows: Tensor, mask: Tensor, keep: str) -> Tensor:
    """The nearest rows with equal gains.

    Minimise sum(d^2) subject to sum(d over the taps of phase p) = m - g[p]: each phase shares its difference
    evenly, d = (m - g[p]) / n[p], which costs sum((m - g[p])^2 / n[p]); its minimum over m is the mean of g
    weighted by 1 / n.
    """
    counts, gains = mask.sum(1), rows @ mask.T
    share = 1 / counts if keep == "nearest" else torch.ones_like(counts)
    level = (gains * share).sum(-1, keepdim=True) / share.sum()
    return rows + ((level - gains) / counts) @ mask


def _within(features: Tensor, change: Tensor, laid: Phased) -> Tensor:
    """The part of a change of weights that acts on the span of some features.

    The gains' differences are linear in the sources, one problem for each direction of an orthonormal basis;
    a direction in which nothing is wanted is left as it is, so the rest is still the least change.
    """
    sources = change.shape[1]
    if (
        features.dim() != FEATURE_AXES
        or features.shape[1] % sources
        or change.shape[0] % (features.shape[1] // sources)
    ):
        raise ShapeError(
            f"'features' must have a column for each channel: got shape {tuple(features.shape)} for "
            f"{ConvSpec.of(laid.layer)!r}; legal: (n, channels)"
        )
    per_group = features.to(change).unflatten(1, (-1, sources)).transpose(0, 1)
    _, strengths, directions = torch.linalg.svd(per_group, full_matrices=False)
    kept = (strengths > strengths[:, :1] * FEATURE_NOISE).to(change)
    projector = directions.mT @ (kept.unsqueeze(-1) * directions)
    split = change.unflatten(0, (len(projector), -1))
    return torch.einsum("gbc,gact->gabt", projector, split).flatten(0, 1)


def _refuse_holes(laid: Phased) -> None:
    holes = int((laid.mask.sum(1) == 0).sum())
    if holes:
        raise UnsupportedError(
            "'layer' must reach every phase, or weights cannot make its gains equal: "
            f"got {ConvSpec.of(laid.layer)!r}, which leaves {holes} of {len(laid.mask)} phases empty; "
            "legal: kernel_size at least stride, and no common factor of stride and dilation, or "
            "artifacts.smooth(layer)"
        )


def _even_bias(laid: Phased) -> Tensor | None:
    if laid.bias is None or not laid.shuffled:
        return None
    phases = len(laid.mask)
    return laid.bias.view(-1, phases).mean(1, keepdim=True).expand(-1, phases)
