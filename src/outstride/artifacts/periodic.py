"""Layers on signals that repeat for ever: one period in, one period out, exactly.

A layer that commutes with shifts by its stride maps a constant to a periodic signal and a periodic signal to
another. So one period says all about a chain of layers far from the borders, point by point functions
included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride.artifacts.coverage import phase_lows
from outstride.artifacts.resampling import factors_of, resized
from outstride.errors import UnsupportedError
from outstride.layer.spec import ConvSpec
from outstride.models.operators import convolution, norms, padding, pointwise, pooling

Rule = Callable[[Any, Tensor, bool], Tensor]
SERVED = (
    "convolutions, transposed convolutions, pooling, PixelShuffle, Upsample by whole factors, "
    "padding and BatchNorm"
)


def rule_of(layer: nn.Module) -> Rule | None:
    """What the layer makes of one period of a signal, (N, C, *period) in float64; None if that is not known.

    A rule takes the layer, the signal and whether to be ``linear``: then biases are left out and what is not
    linear is refused. The output's period starts at output 0 where the input's starts at input 0.
    """
    return next((rule for kinds, rule in RULES if isinstance(layer, kinds)), None)


def steps(layer: nn.Module, nd: int) -> tuple[Fraction, ...]:
    """Inputs per output along each axis: above 1 where the layer reduces, below where it enlarges."""
    if isinstance(layer, nn.PixelShuffle):
        return (Fraction(1, layer.upscale_factor),) * nd
    if isinstance(layer, nn.PixelUnshuffle):
        return (Fraction(layer.downscale_factor),) * nd
    if isinstance(layer, nn.Upsample):
        return tuple(Fraction(1, factor) for factor in factors_of(layer, nd))
    if isinstance(layer, convolution.TRANSPOSED):
        return tuple(Fraction(1, s) for s in ConvSpec.of(layer).stride)
    if isinstance(layer, (*convolution.CONVOLUTIONS, *pooling.LAYERS)):
        return tuple(map(Fraction, ConvSpec.of(layer).stride))
    return (Fraction(1),) * nd


def _parameters(layer: Any, signal: Tensor, linear: bool) -> tuple[Tensor, Tensor | None]:
    weight, bias = layer.weight.detach(), layer.bias
    keep = None if linear or bias is None else bias.detach().to(signal)
    return weight.to(signal), keep


def _repeated(signal: Tensor, starts: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """``lengths`` elements of the signal along each axis, from ``starts`` on."""
    for axis, (start, length) in enumerate(zip(starts, lengths, strict=True), 2):
        period = signal.shape[axis]
        signal = signal.index_select(axis, torch.arange(start, start + length, device=signal.device) % period)
    return signal


def _windows(spec: ConvSpec, signal: Tensor) -> Tensor:
    """As much of the signal as the windows of one output period see."""
    periods = signal.shape[2:]
    outs = [math.lcm(p, s) // s for p, s in zip(periods, spec.stride, strict=True)]
    lengths = [(o - 1) * s + w for o, s, w in zip(outs, spec.stride, spec.window, strict=True)]
    return _repeated(signal, [-low for low in phase_lows(spec)], lengths)


def _conv(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    spec = ConvSpec.of(layer)
    weight, bias = _parameters(layer, signal, linear)
    seen = _windows(spec, signal)
    function = convolution.FORWARD_FUNCTIONS[spec.nd - 1]
    return function(seen, weight, bias, spec.stride, 0, spec.dilation, spec.groups)


def _conv_transpose(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    spec = ConvSpec.of(layer)
    weight, bias = _parameters(layer, signal, linear)
    lows, strides = phase_lows(spec), spec.stride
    # Output u takes input i where u = i * stride + k * dilation - low: every i from the first to the last
    # that reaches an output of the period; one more, so that the scatter covers it even where it ends in
    # holes.
    firsts = [(low - window + 1) // s for low, window, s in zip(lows, spec.window, strides, strict=True)]
    outs = [period * s for period, s in zip(signal.shape[2:], strides, strict=True)]
    lasts = [(out - 1 + low) // s + 1 for out, low, s in zip(outs, lows, strides, strict=True)]
    seen = _repeated(signal, firsts, [last - first + 1 for first, last in zip(firsts, lasts, strict=True)])
    function = convolution.TRANSPOSED_FUNCTIONS[spec.nd - 1]
    full = function(seen, weight, bias, strides, 0, 0, spec.groups, spec.dilation)
    for axis, (out, low, first, s) in enumerate(zip(outs, lows, firsts, strides, strict=True), 2):
        full = full.narrow(axis, low - first * s, out)
    return full


def _avg_pool(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    del linear
    spec = ConvSpec.of(layer)
    mean: Tensor = pooling.AVERAGE_FUNCTIONS[spec.nd - 1](
        _windows(spec, signal), spec.kernel_size, spec.stride
    )
    taps = math.prod(spec.kernel_size)
    return mean * (taps / (spec.divisor_override or taps))


def _max_pool(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    refuse_if(linear, type(layer).__name__)
    spec = ConvSpec.of(layer)
    function = pooling.MAX_FUNCTIONS[spec.nd - 1]
    return function(_windows(spec, signal), spec.kernel_size, spec.stride, 0, spec.dilation)


def _pixel_shuffle(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    del linear
    return F.pixel_shuffle(signal, layer.upscale_factor)


def _pixel_unshuffle(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    del linear
    factor = layer.downscale_factor
    lengths = [math.lcm(period, factor) for period in signal.shape[2:]]
    return F.pixel_unshuffle(_repeated(signal, [0] * len(lengths), lengths), factor)


def _upsample(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    del linear
    return resized(layer, signal)


def _pad(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    del linear
    return rolled(signal, layer.padding)


def rolled(signal: Tensor, amounts: Sequence[int]) -> Tensor:
    """What padding does far from the borders: it moves the origin. ``amounts`` are in F.pad's order."""
    for number, low in enumerate(amounts[0::2]):
        signal = torch.roll(signal, low, -1 - number)
    return signal


def _batch_norm(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    if layer.training or layer.running_var is None:
        raise UnsupportedError(
            "'layer' must be in evaluation mode, where its norm is a fixed factor: "
            f"got {layer!r} in training mode; legal: layer.eval()"
        )
    shape = (1, -1, *(1,) * (signal.dim() - 2))
    weight, bias = _affine(layer, signal)
    scale: Tensor = (layer.running_var.to(signal) + layer.eps).rsqrt()
    scale = scale if weight is None else scale * weight
    if linear:
        return signal * scale.view(shape)
    shift: Tensor = -layer.running_mean.to(signal) * scale + (0 if bias is None else bias)
    return signal * scale.view(shape) + shift.view(shape)


def _affine(layer: Any, signal: Tensor) -> tuple[Tensor | None, Tensor | None]:
    weight, bias = layer.weight, layer.bias
    return (
        None if weight is None else weight.detach().to(signal),
        None if bias is None else bias.detach().to(signal),
    )


def _same(layer: nn.Module, signal: Tensor, linear: bool) -> Tensor:
    del layer, linear
    return signal


def _point(layer: nn.Module, signal: Tensor, linear: bool) -> Tensor:
    """Functions of single elements, and norms over a whole channel, which one period stands for."""
    refuse_if(linear, type(layer).__name__)
    # The instance's forward may be the rule that is being followed: the class's own is meant.
    out = type(layer).forward(layer, several(signal))
    assert isinstance(out, Tensor)
    return out


def several(signal: Tensor) -> Tensor:
    """The signal with more than one element: torch refuses a norm over one."""
    return signal if math.prod(signal.shape[2:]) > 1 else signal.repeat(1, 1, *(2,) * (signal.dim() - 2))


def refuse_if(linear: bool, name: str) -> None:
    """Say what a chain that is not linear wants."""
    if linear:
        raise UnsupportedError(
            f"'input' must be given for a chain that is not linear: got none with {name}; "
            f"legal: one constant per channel, such as the mean of the features that the chain meets"
        )


RULES: tuple[tuple[tuple[type, ...], Rule], ...] = (
    (convolution.TRANSPOSED, _conv_transpose),
    (convolution.CONVOLUTIONS, _conv),
    (pooling.AVERAGE_POOLS, _avg_pool),
    (pooling.MAX_POOLS, _max_pool),
    ((nn.PixelShuffle,), _pixel_shuffle),
    ((nn.PixelUnshuffle,), _pixel_unshuffle),
    ((nn.Upsample,), _upsample),
    (tuple(chain.from_iterable(padding.LAYERS.values())), _pad),
    (norms.BATCH_NORMS, _batch_norm),
    (pointwise.IDENTITIES, _same),
    ((*pointwise.ACTIVATIONS, *norms.OVER_POSITIONS), _point),
)
