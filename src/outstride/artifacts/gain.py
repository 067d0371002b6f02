"""Ripple: what a constant input comes to in each phase of a layer or chain with its weights as they are."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from outstride.artifacts.phases import phased, sub_pixel
from outstride.artifacts.signals import Course, run
from outstride.errors import OutstrideError, ShapeError
from outstride.layer import arguments as argument
from outstride.layer.spec import ConvSpec
from outstride.models.operators import convolution, pooling
from outstride.output.tables import html_text

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ripple:
    """The gain of each phase and what of it is pattern.

    ``gain`` is (channels, sources, *period): what a constant 1 in one source channel gives in each phase of
    each channel. For ``of`` "output" the channels are the layer's outputs; for "gradient" they are its inputs
    and the sources its outputs' gradients. With groups the sources are those of the channel's own group.
    ``bias`` is (channels, *period), the output for zeros: a sub-pixel layer can hold a pattern in it.
    """

    of: Literal["output", "gradient"]
    name: str
    gain: Floats
    bias: Floats

    @property
    def value(self) -> float:
        """The pattern's share of the response to random constants, from 0 (even) to 1 (nothing but pattern).

        ||gain - its mean over the phases|| / ||gain||: for constants drawn independently for each source, the
        root mean square of the pattern over that of the whole output.
        """
        return _share(self.gain)

    @property
    def per_channel(self) -> Floats:
        """The same for each channel, (channels,)."""
        return np.array([_share(one[None]) for one in self.gain])

    @property
    def spread(self) -> Floats:
        """(largest - smallest) / |mean| of each pair's gains, (channels, sources); inf for a mean of 0."""
        flat = self.gain.reshape(*self.gain.shape[:2], -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.ptp(flat, -1) / np.abs(flat.mean(-1))
        return np.where(np.ptp(flat, -1) == 0, 0.0, found)

    @property
    def lines(self) -> Floats:
        """Root mean square amplitude over all pairs at each frequency j / period, (*period); the first is the
        mean.

        The discrete Fourier transform of the gains over the phases: a kernel leaves no pattern exactly if its
        frequency response is zero at every whole multiple of 1 / stride but 0.
        """
        axes = tuple(range(2, self.gain.ndim))
        spectrum = np.fft.fftn(self.gain, axes=axes, norm="forward")
        return np.asarray(np.sqrt((np.abs(spectrum) ** 2).mean((0, 1))))

    @property
    def bias_pattern(self) -> float:
        """Root mean square of the pattern in the output for zeros, in the output's units."""
        level = self.bias.mean(tuple(range(1, self.bias.ndim)), keepdims=True)
        return float(np.sqrt(((self.bias - level) ** 2).mean()))

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain numbers, without the gains themselves."""
        return {
            "of": self.of,
            "layer": self.name,
            "ripple": self.value,
            "per_channel": self.per_channel.tolist(),
            "lines": self.lines.tolist(),
            "bias_pattern": self.bias_pattern,
        }

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        worst = int(self.per_channel.argmax())
        period = " x ".join(map(str, self.gain.shape[2:]))
        lines = [
            f"{self.name}: ripple of its {self.of} {self.value:.3g} (0 is even, 1 nothing but pattern)",
            f"  phases {period}; worst channel {worst} with {self.per_channel[worst]:.3g}",
        ]
        if self.bias_pattern > 0:
            lines.append(f"  the biases alone leave a pattern of {self.bias_pattern:.3g}")
        return "\n".join(lines)


def ripple(
    layer: nn.Module,
    input: Tensor | None = None,
    *,
    shuffle: int | None = None,
    of: Literal["output", "gradient"] | None = None,
) -> Ripple:
    """Measure the checkerboard that a layer or chain with these weights makes of constant input.

    Args:
        layer: a convolution of any kind, or any model of convolutions, pooling, PixelShuffle, resizing,
            padding, norms in evaluation mode, sums and concatenations and, with ``input``, functions of
            single elements; layers or functions, in branches too. Its own ``forward`` is run on one period.
        input: (channels,) one constant per input channel: the pattern on just this input, biases and
            nonlinear layers included. None: every channel by itself, of a linear chain.
        shuffle: the factor, if a PixelShuffle follows a Conv2d that is given alone.
        of: "output" or "gradient", the pattern of d(sum of outputs)/d(input) that striding leaves. None:
            the output of a chain that enlarges, the gradient of any other.

    Returns:
        A ``Ripple``. For one layer gain[o, c, phase] is the sum of the weights whose k * dilation - low
        leaves ``phase`` on division by stride, per axis.

    Raises:
        UnsupportedError: the chain has a layer whose response is not known, or is not linear and ``input`` is
            missing.

    Law: far from the borders the layer's output for a constant 1 is the gain, repeated.

    Example:
        >>> layer = torch.nn.ConvTranspose1d(1, 1, 3, stride=2, bias=False)
        >>> _ = torch.nn.init.constant_(layer.weight, 1)
        >>> ripple(layer).gain.tolist(), round(ripple(layer).value, 3)
        ([[[2.0, 1.0]]], 0.316)

    Source: Sugawara, Shiota, Kiya, Super-Resolution using Convolutional Neural Networks without Any
    Checkerboard Artifacts, arXiv:1806.02658, for the condition on one layer; chains, gradients and the share
    are ours.
    """
    argument.module("layer", layer)
    alone, factor = sub_pixel(layer, shuffle)
    single = isinstance(alone, convolution.LAYERS)
    if not single:
        return _of_chain(layer, input, of, _name(layer))
    shuffled = f" + PixelShuffle({factor})" if factor else ""
    laid = phased(alone, factor)
    name = f"{ConvSpec.of(alone)!r}{shuffled}"
    if input is None and of in (None, laid.of):
        gain = laid.gains.unflatten(-1, laid.stride).cpu().numpy()
        return Ripple(laid.of, name, gain, _phase_bias(laid.bias, gain, factor))
    chain = alone if factor is None else nn.Sequential(alone, nn.PixelShuffle(factor))
    return _of_chain(chain, input, of or laid.of, name)


def _of_chain(
    chain: nn.Module, input: Tensor | None, of: Literal["output", "gradient"] | None, name: str
) -> Ripple:
    """Run a chain on one period of a constant, whatever number of channels it takes."""
    known = channels_of(chain)
    if input is not None and (
        input.dim() != 1 or (isinstance(chain, nn.Sequential) and len(input) != known[0])
    ):
        raise ShapeError(
            f"'input' must hold one constant per input channel: got shape {tuple(input.shape)}; legal: "
            f"({known[0]},)"
        )
    tried = known if input is None else [len(input)]
    for nd, channels in product(axes_of(chain), tried):
        constants = None if input is None else input.detach().to("cpu", torch.float64)
        try:
            found, course = _output(chain, channels, nd, constants, name)
            if of == "gradient" or (of is None and not course.enlarges):
                return _gradient(chain, channels, course.period, constants, name)
        except RuntimeError as error:
            if isinstance(error, OutstrideError):
                raise
            continue  # torch does not take so many channels or axes
        return found
    raise ShapeError(
        f"'input' must hold one constant per input channel: got {input if input is None else len(input)} "
        f"for {name}, which takes no {' or '.join(map(str, tried))} channels; legal: torch.ones(channels)"
    )


def _output(
    chain: nn.Module, channels: int, nd: int, constants: Tensor | None, name: str
) -> tuple[Ripple, Course]:
    with torch.no_grad():
        if constants is not None:
            response, course = run(chain, constants.view(1, -1, *(1,) * nd), False)
            gain = np.moveaxis(response.cpu().numpy(), 0, 1)
            return Ripple("output", name, gain, np.zeros((len(gain), *gain.shape[2:]))), course
        units = torch.eye(channels, dtype=torch.float64).view(channels, channels, *(1,) * nd)
        response, course = run(chain, units, True)
        gain = np.moveaxis(response.cpu().numpy(), 0, 1)
        bias = run(chain, torch.zeros_like(units[:1]), False)[0][0].cpu().numpy()
    return Ripple("output", name, gain, bias), course


def _gradient(
    chain: nn.Module, channels: int, period: tuple[int, ...], constants: Tensor | None, name: str
) -> Ripple:
    level = torch.zeros(channels, dtype=torch.float64) if constants is None else constants
    signal = level.view(1, -1, *(1,) * len(period)).repeat(1, 1, *period).requires_grad_()
    with torch.enable_grad():
        out, _ = run(chain, signal, constants is None)
        sums = out.flatten(2).sum(-1)[0]
        # One period of inputs may make several of outputs; each input's gradient is counted as often.
        rows = [torch.autograd.grad(one, signal, retain_graph=True)[0][0] for one in sums]
    gain = torch.stack(rows, 1).cpu().numpy()
    return Ripple("gradient", name, gain, np.zeros((channels, *period)))


def channels_of(chain: nn.Module) -> list[int]:
    """Numbers of channels that a chain may take, the likeliest first."""
    found: list[int] = []
    for part in chain.modules():
        if isinstance(part, nn.PixelShuffle):
            found.append(part.upscale_factor**2)
        number = getattr(part, "in_channels", None) or getattr(part, "num_features", None)
        if isinstance(number, int):
            found.append(number)
    return list(dict.fromkeys([*found, 1, 3]))


def axes_of(chain: nn.Module) -> tuple[int, ...]:
    """Numbers of spatial axes that a chain may have: that of its layers, or any where none says."""
    layers = (part for part in chain.modules() if isinstance(part, (*convolution.LAYERS, *pooling.LAYERS)))
    return next(((ConvSpec.of(part).nd,) for part in layers), (2, 1, 3))


def _phase_bias(bias: Tensor | None, gain: Floats, factor: int | None) -> Floats:
    shape = (gain.shape[0], *gain.shape[2:])
    if bias is None or (factor is None and bias.numel() != gain.shape[0]):
        return np.zeros(shape)
    values = bias.cpu().numpy()
    if factor is not None:
        return np.asarray(values.reshape(shape))
    return np.broadcast_to(values.reshape(-1, *(1,) * (len(shape) - 1)), shape)


def _share(gain: Floats) -> float:
    pattern = gain - gain.mean(tuple(range(2, gain.ndim)), keepdims=True)
    norm = float(np.linalg.norm(gain))
    return float(np.linalg.norm(pattern)) / norm if norm else 0.0


def _name(layer: nn.Module) -> str:
    if isinstance(layer, nn.Sequential):
        return " > ".join(type(part).__name__ for part in layer)
    return type(layer).__name__ if any(True for _ in layer.children()) else str(layer)
