"""Layers on signals that repeat for ever: one period in, one period out, exactly.

A layer that commutes with shifts by its stride maps a constant to a periodic signal and a periodic signal to
another. So one period says all about a chain of layers far from the borders, point by point functions
included.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride.artifacts.coverage import phase_lows
from outstride.errors import UnsupportedError
from outstride.spec import ConvSpec

CONV = (F.conv1d, F.conv2d, F.conv3d)
CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVG_POOL: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)

SERVED = (
    "convolutions, transposed convolutions, pooling, PixelShuffle, Upsample by whole factors, padding and "
    "BatchNorm"
)


def respond(layer: nn.Module, signal: Tensor, linear: bool) -> Tensor:
    """Return one period of a layer's output for one period of its input.

    ``signal`` is (N, C, *period) in float64. With ``linear`` biases are left out and what is not linear is
    refused. The output's period starts at output 0 where the input's started at input 0.
    """
    if isinstance(layer, nn.Sequential):
        for part in layer:
            signal = respond(part, signal, linear)
        return signal
    for kinds, rule in RULES:
        if isinstance(layer, kinds):
            return rule(layer, signal, linear)
    raise UnsupportedError(
        f"'layer' must be made of layers whose response to a repeating signal is known: got "
        f"{type(layer).__name__}; "
        f"legal: {SERVED}, and with 'input' functions of single elements too"
    )


def upscale(layers: nn.Module) -> bool:
    """Whether some layer of a chain has more outputs than inputs along an axis."""
    return any(
        isinstance(part, (nn.PixelShuffle, nn.Upsample))
        or (isinstance(part, TRANSPOSED) and any(s > 1 for s in ConvSpec.of(part).stride))
        for part in layers.modules()
    )


def downscale(layers: nn.Module, nd: int) -> tuple[int, ...]:
    """Inputs per output of a chain, along each axis, its enlarging layers left aside."""
    factors = [1] * nd
    for part in layers.modules():
        if isinstance(part, nn.PixelUnshuffle):
            factors = [factor * part.downscale_factor for factor in factors]
        elif isinstance(part, (*CONVS, *POOLS)):
            factors = [factor * s for factor, s in zip(factors, ConvSpec.of(part).stride, strict=True)]
    return tuple(factors)


def in_channels(layers: nn.Module) -> int:
    """Channels that a chain takes; 1 where none of its layers says."""
    for part in layers.modules():
        if isinstance(part, nn.PixelShuffle):
            return part.upscale_factor**2
        found = getattr(part, "in_channels", None) or getattr(part, "num_features", None)
        if isinstance(found, int):
            return found
    return 1


def axes_of(layers: nn.Module) -> int:
    """Spatial axes of a chain; 2 where none of its layers says."""
    for part in layers.modules():
        if isinstance(part, (*CONVS, *TRANSPOSED, *POOLS)):
            return ConvSpec.of(part).nd
    return 2


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
    return CONV[spec.nd - 1](seen, weight, bias, spec.stride, 0, spec.dilation, spec.groups)


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
    full = CONV_TRANSPOSE[spec.nd - 1](seen, weight, bias, strides, 0, 0, spec.groups, spec.dilation)
    for axis, (out, low, first, s) in enumerate(zip(outs, lows, firsts, strides, strict=True), 2):
        full = full.narrow(axis, low - first * s, out)
    return full


def _avg_pool(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    del linear
    spec = ConvSpec.of(layer)
    mean = AVG_POOL[spec.nd - 1](_windows(spec, signal), spec.kernel_size, spec.stride)
    taps = math.prod(spec.kernel_size)
    return mean * (taps / (spec.divisor_override or taps))


def _max_pool(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    _refuse_if(linear, layer)
    spec = ConvSpec.of(layer)
    return MAX_POOL[spec.nd - 1](_windows(spec, signal), spec.kernel_size, spec.stride, 0, spec.dilation)


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
    nd = signal.dim() - 2
    given = layer.scale_factor
    factors = tuple(given) if isinstance(given, (tuple, list)) else (given,) * nd
    if layer.align_corners or any(
        factor is None or factor != int(factor) or factor < 1 for factor in factors
    ):
        raise UnsupportedError(
            f"'layer' must enlarge by whole factors with align_corners=False, or its output does not repeat: "
            f"got {layer!r}; legal: scale_factor=2"
        )
    for axis, factor in enumerate(factors, 2):
        signal = _resampled(signal, axis, int(factor), layer.mode)
    return signal


def _resampled(signal: Tensor, axis: int, factor: int, mode: str) -> Tensor:
    """One axis enlarged: output ``factor * q + f`` mixes the inputs around q with the weights of phase f."""
    phases = []
    for phase in range(factor):
        mixed: Tensor | float = 0.0
        for offset, weight in resampling_taps(phase, factor, mode):
            mixed = mixed + weight * torch.roll(signal, -offset, axis)
        assert isinstance(mixed, Tensor)
        phases.append(mixed)
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)


def resampling_taps(phase: int, factor: int, mode: str) -> list[tuple[int, float]]:
    """The (input offset, weight) pairs of one phase of torch's resampling, align_corners=False.

    Output factor * q + phase lies at input q + (phase + 1/2) / factor - 1/2. Linear weights are the distances
    to the two neighbours; cubic ones are Keys' kernel with torch's a = -3/4.
    """
    if mode.startswith("nearest"):
        return [(0, 1.0)]
    place = (phase + 0.5) / factor - 0.5
    first = math.floor(place)
    t = place - first
    if mode.endswith("linear"):
        return [(first, 1 - t), (first + 1, t)]
    a = -0.75

    def near(x: float) -> float:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [(first - 1, far(1 + t)), (first, near(t)), (first + 1, near(1 - t)), (first + 2, far(2 - t))]


def _pad(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    del linear
    amounts = list(layer.padding)
    for number, low in enumerate(amounts[0::2]):
        # F.pad's order: the last axis first. Far from the border padding only moves the origin.
        signal = torch.roll(signal, low, -1 - number)
    return signal


def _batch_norm(layer: Any, signal: Tensor, linear: bool) -> Tensor:
    if layer.training or layer.running_var is None:
        raise UnsupportedError(
            f"'layer' must be in evaluation mode, where its norm is a fixed factor: got {layer!r} in "
            f"training mode; "
            f"legal: layer.eval()"
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
    _refuse_if(linear, layer)
    if math.prod(signal.shape[2:]) == 1:
        signal = signal.repeat(
            1, 1, *(2,) * (signal.dim() - 2)
        )  # a norm over one element is refused by torch
    out = copy.deepcopy(layer).to(signal.device, signal.dtype)(signal)
    assert isinstance(out, Tensor)
    return out


def _refuse_if(linear: bool, layer: nn.Module) -> None:
    if linear:
        raise UnsupportedError(
            f"'input' must be given for a chain that is not linear: got none with {type(layer).__name__}; "
            f"legal: one constant per channel, such as the mean of the features that the chain meets"
        )


CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_PADS = (
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),  # ZeroPad*d derive from these
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
)
_POINTS = (
    *(
        nn.ReLU,
        nn.ReLU6,
        nn.LeakyReLU,
        nn.PReLU,
        nn.ELU,
        nn.SELU,
        nn.CELU,
        nn.GELU,
        nn.SiLU,
        nn.Mish,
        nn.Softplus,
    ),
    *(nn.Sigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Softsign),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm),
)
Rule = Callable[[Any, Tensor, bool], Tensor]
RULES: tuple[tuple[tuple[type, ...], Rule], ...] = (
    (TRANSPOSED, _conv_transpose),
    (CONVS, _conv),
    ((nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _avg_pool),
    ((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), _max_pool),
    ((nn.PixelShuffle,), _pixel_shuffle),
    ((nn.PixelUnshuffle,), _pixel_unshuffle),
    ((nn.Upsample,), _upsample),
    (_PADS, _pad),
    ((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    ((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d), _same),
    (_POINTS, _point),
)
