"""A transposed convolution as an ordinary one at the low resolution and a pixel shuffle, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from outstride.convert import parts
from outstride.convert.models import rewritten, rewritten_if_any
from outstride.convert.zero_insertion import Bias, Fold
from outstride.errors import ArgumentError, UnsupportedError
from outstride.geometry import resolve
from outstride.layer import arguments as argument
from outstride.layer.arguments import Pairs
from outstride.layer.spec import ConvSpec
from outstride.models.operators import convolution

Taps = list[tuple[int, int]]
"""Per kernel index of one axis: the phase it acts in and its place in the phase's small kernel."""


def to_subpixel(layer: nn.Module) -> nn.Module:
    """Write a transposed convolution as an ordinary one and a pixel shuffle, of plain torch layers.

    Args:
        layer: a transposed convolution of torch or of this package with any parameters, or a model that holds
            some; the model itself is left as it is.

    Returns:
        For a layer a Sequential of what is needed of ``border``, ``conv`` (stride 1, stride times the
        channels per axis, ceil(window / stride) taps per axis or fewer), ``shuffle`` (PixelShuffle in the
        plane), ``crop`` and ``fold`` (a padding mode's adjoint). For a model a copy in which each transposed
        layer is such a Sequential under the old name. The weights are copies.

    Raises:
        ArgumentError: there is no transposed convolution, or one that has seen no input yet.

    Law: to_subpixel(layer)(x) = layer(x) for every x: the sums have the same products and zeros besides.

    Example:
        >>> to_subpixel(nn.ConvTranspose2d(64, 3, 2, stride=2)).conv
        Conv2d(64, 12, kernel_size=(1, 1), stride=(1, 1))

    Source: Shi et al., Is the deconvolution layer the same as a convolutional layer?, arXiv:1609.07009, for
    kernels that the stride divides; any kernel, padding and dilation is ours.
    """
    argument.module("layer", layer)
    return rewritten(layer, _is_transposed, _to_subpixel, "a transposed convolution")


def from_subpixel(layer: nn.Module, factor: int | Sequence[int] | None = None) -> nn.Module:
    """Write a convolution and the pixel shuffle behind it as one transposed convolution.

    Args:
        layer: ``Sequential(conv, PixelShuffle)``, a convolution of stride 1 with ``factor`` given, or a model
            that holds such pairs side by side in a Sequential; the model itself is left as it is.
        factor: of the shuffle that follows the convolution, one number or one per axis.

    Returns:
        For a pair a Sequential of what is needed of ``border``, ``conv_transpose`` (stride = factor, kernel
        factor * window), ``crop`` and ``bias`` (where the phases' biases differ, as no transposed layer's
        do). For a model a copy with such a Sequential in place of each convolution and nothing in place of
        the shuffle.

    Raises:
        ArgumentError: there is no such pair, or the factor does not fit the channels.
        UnsupportedError: the convolution's groups cut through the channels of one output.

    Law: from_subpixel(pair)(x) = pair(x) for every x.

    Example:
        >>> from_subpixel(nn.Conv2d(64, 12, 1, bias=False), 2).conv_transpose
        ConvTranspose2d(64, 3, kernel_size=(2, 2), stride=(2, 2), bias=False)
    """
    argument.module("layer", layer)
    if factor is not None:
        spec = ConvSpec.of(layer)
        steps = (factor,) * spec.nd if isinstance(factor, int) else tuple(factor)
        return _from_subpixel(layer, steps)
    return rewritten(
        layer, _is_pair, _from_pair, "a Sequential with a convolution and a PixelShuffle behind it"
    )


def _is_transposed(layer: nn.Module) -> bool:
    return isinstance(layer, convolution.TRANSPOSED)


def _to_subpixel(layer: nn.Module) -> nn.Module:
    spec, weight, bias = parts.known_weights(layer)
    # With "same" the numbers do not depend on the input's size, so any will do.
    resolved = resolve(spec, 1) if spec.padding == "same" else spec
    pads = cast(Pairs, resolved.padding)
    folded = spec.padding_mode != "zeros" and any(map(any, pads))
    cut: Pairs = ((0, 0),) * spec.nd if folded else pads
    rows = parts.swapped(weight, spec.groups)
    borders, crops, spacing = [], [], []
    for axis in range(spec.nd):
        cells = _cells(spec, axis, cut[axis], resolved.output_padding[axis])
        rows = _by_phase(rows, axis, spec.stride[axis], cells.taps)
        spacing.append(cells.gap)
        borders.append(cells.border)
        crops.append(cells.crop)
    # (O, C, s1, k1 to sn, kn): the phases go to the outputs, the last fastest, as a shuffle reads them.
    order = [0, *range(2, 2 * spec.nd + 2, 2), 1, *range(3, 2 * spec.nd + 2, 2)]
    small = rows.permute(order).flatten(0, spec.nd)
    phases = math.prod(spec.stride)
    spread = None if bias is None or folded else bias.repeat_interleave(phases)
    made = nn.Sequential()
    inside = all(low == high >= 0 for low, high in borders)
    if not inside:
        made.add_module("border", parts.border("zeros", borders))
    conv: nn.Module = convolution.CONVOLUTIONS[spec.nd - 1](
        small.shape[1] * spec.groups,
        small.shape[0],
        cast(Any, tuple(small.shape[2:])),
        padding=cast(Any, tuple(low for low, _ in borders)) if inside else 0,
        dilation=cast(Any, tuple(spacing)),
        groups=spec.groups,
        bias=spread is not None,
        device="meta",
    )
    made.add_module("conv", parts.filled(conv, small, spread))
    if phases > 1:
        made.add_module("shuffle", parts.shuffle(spec.stride))
    if any(map(any, crops)):
        made.add_module("crop", parts.border("zeros", [(-low, -high) for low, high in crops]))
    if folded:
        made.add_module("fold", Fold(pads, spec.padding_mode))
        if bias is not None:
            made.add_module("bias", Bias(bias, spec.nd))
    return made.train(layer.training)


class Cells(NamedTuple):
    """How one axis of a transposed layer is cut into cells of ``stride`` outputs, one for each phase.

    ``taps`` has the phase and the place in that phase's small kernel for each kernel index, ``gap`` is the
    small kernel's dilation, ``border`` the convolution's padding and ``crop`` what is cut behind the shuffle,
    (low, high) each.
    """

    taps: Taps
    gap: int
    border: tuple[int, int]
    crop: tuple[int, int]


def _cells(spec: ConvSpec, axis: int, cut: tuple[int, int], more: int) -> Cells:
    """The best of the ``stride`` ways to begin the first cell: the smallest kernel, then the fewest cells."""
    (low, high), stride, window = cut, spec.stride[axis], spec.window[axis]

    def cost(skipped: int) -> tuple[int, int, int]:
        first, last, beyond = _reach(low - skipped, stride, window, window + more - high)
        return last - first, beyond, skipped

    skipped = min(range(stride), key=cost)
    base = low - skipped
    first, last, beyond = _reach(base, stride, window, window + more - high)
    steps = [divmod(k * spec.dilation[axis] - base, stride) for k in range(spec.kernel_size[axis])]
    gap = math.gcd(*(j - first for j, _ in steps)) or 1
    # The convolution's kernel runs against j: the farthest input is its first element.
    taps = [(phase, (last - j) // gap) for j, phase in steps]
    border = last, beyond - 1 - first
    return Cells(taps, gap, border, (skipped, base + beyond * stride - window - more + high))


def _reach(base: int, stride: int, window: int, kept: int) -> tuple[int, int, int]:
    """The nearest and the farthest j, and how many cells there are more than the inputs less one.

    Of the uncropped output u the layer keeps low <= u < (i - 1) * stride + kept for i inputs. Cells begin at
    base <= low: u = base + stride * q + phase, and the kernel index k meets the input q - j there with k *
    dilation - base = phase + stride * j. So j runs from -base // stride to (window - 1 - base) // stride, and
    q to i - 2 + the number of strides from base to kept, rounded up.
    """
    return -base // stride, (window - 1 - base) // stride, -((base - kept) // stride)


def _by_phase(rows: Tensor, axis: int, stride: int, taps: Taps) -> Tensor:
    """The axis's kernel as (phases, small kernel), zeros where a phase has no tap there.

    ``rows`` is (O, C / groups, and per axis done so far two, else one); axis a's kernel is at 2 + 2 * a then.
    """
    place = 2 + 2 * axis
    size = max(tap for _, tap in taps) + 1
    shape = list(rows.shape)
    shape[place] = stride * size
    index = torch.tensor([phase * size + tap for phase, tap in taps], device=rows.device)
    spread: Tensor = rows.new_zeros(shape).index_copy(place, index, rows).unflatten(place, (stride, size))
    return spread


def _is_pair(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Sequential) and bool(_pairs(layer))


def _pairs(layer: nn.Sequential) -> dict[str, str]:
    """The name of each convolution of stride 1 and of the shuffle right behind it."""
    return {
        first: second
        for (first, conv), (second, after) in pairwise(layer.named_children())
        if isinstance(conv, convolution.CONVOLUTIONS)
        and all(s == 1 for s in conv.stride)
        and isinstance(after, (nn.PixelShuffle, parts.Shuffle))
    }


def _from_pair(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, nn.Sequential)
    made = nn.Sequential()
    found = _pairs(layer)
    for name, child in layer.named_children():
        if name in found:
            steps = layer.get_submodule(found[name])
            factor = getattr(steps, "stride", None) or (getattr(steps, "upscale_factor", 1),) * parts.PLANE
            made.add_module(name, _from_subpixel(child, factor))
        elif name not in found.values():
            made.add_module(name, rewritten_if_any(child, _is_pair, _from_pair))
    return made[0] if len(made) == 1 else made.train(layer.training)


def _from_subpixel(layer: nn.Module, factor: Sequence[int]) -> nn.Module:
    spec, weight, bias = parts.known_weights(layer)
    outputs = _outputs(spec, weight, factor)
    pads = cast(Pairs, resolve(spec, 1).padding if spec.padding == "same" else spec.padding)
    windows = spec.window
    # Padding up to window - 1 is the transposed layer's own: it keeps that much more of what it stamps.
    inside = spec.padding_mode == "zeros" and all(
        max(pair) < window for pair, window in zip(pads, windows, strict=True)
    )
    inner: Pairs = pads if inside else ((0, 0),) * spec.nd
    cut = [
        tuple(r * (w - 1 - end) for end in pair) for pair, w, r in zip(inner, windows, factor, strict=True)
    ]
    both = [min(pair) for pair in cut]
    rest = [(low - most, high - most) for (low, high), most in zip(cut, both, strict=True)]
    phases = math.prod(factor)
    by_phase = None if bias is None else bias.unflatten(0, (outputs, phases))
    even = by_phase is not None and bool((by_phase == by_phase[:, :1]).all())
    kernel = _stretched(weight, spec, factor)
    conv = convolution.TRANSPOSED[spec.nd - 1](
        weight.shape[1] * spec.groups,
        outputs,
        cast(Any, tuple(kernel.shape[2:])),
        stride=cast(Any, tuple(factor)),
        padding=cast(Any, tuple(both)),
        groups=spec.groups,
        bias=even,
        device="meta",
    )
    made = nn.Sequential()
    if not inside and any(map(any, pads)):
        made.add_module("border", parts.border(spec.padding_mode, pads))
    own = by_phase[:, 0] if even and by_phase is not None else None
    made.add_module("conv_transpose", parts.filled(conv, parts.swapped(kernel, spec.groups), own))
    if any(map(any, rest)):
        made.add_module("crop", parts.border("zeros", [(-low, -high) for low, high in rest]))
    if by_phase is not None and not even:
        made.add_module("bias", parts.PhaseBias(by_phase, factor))
    return made.train(layer.training)


def _outputs(spec: ConvSpec, weight: Tensor, factor: Sequence[int]) -> int:
    phases = math.prod(factor)
    if spec.kind != "conv" or any(s != 1 for s in spec.stride):
        raise ArgumentError(
            f"'layer' must be a convolution of stride 1: got {spec!r}; legal: such as Conv2d(3, 12, 3)"
        )
    if len(factor) != spec.nd or phases < 1 or weight.shape[0] % phases:
        raise ArgumentError(
            "'factor' must have one entry per axis, and their product must divide 'out_channels': "
            f"got {tuple(factor)} for {spec!r}; legal: such as {(1,) * spec.nd}"
        )
    outputs = weight.shape[0] // phases
    if outputs % spec.groups:
        raise UnsupportedError(
            "'groups' must divide the channels behind the shuffle, or a transposed layer has no such "
            f"groups: got groups={spec.groups} with {outputs} channels; legal: a divisor of {outputs}"
        )
    return outputs


def _stretched(weight: Tensor, spec: ConvSpec, factor: Sequence[int]) -> Tensor:
    """The kernels of all phases as one of (O, C / groups, *factor * window).

    Output factor * q + phase meets the input q + j * dilation - low through the element j. As a transposed
    layer it is stamped at t with factor * i + t = factor * q + phase in the uncropped output, so
    t = phase + factor * (window - 1 - j * dilation).
    """
    nd = spec.nd
    rows: Tensor = weight.unflatten(0, (-1, *factor))
    # (O, r1 to rn, C, k1 to kn) as (O, C, k1, r1 to kn, rn).
    order = [0, nd + 1, *(place for axis in range(nd) for place in (nd + 2 + axis, 1 + axis))]
    rows = rows.permute(order)
    for axis, (r, k, d, w) in enumerate(
        zip(factor, spec.kernel_size, spec.dilation, spec.window, strict=True)
    ):
        place = 2 + axis
        flat = rows.flatten(place, place + 1)
        index = [phase + r * (w - 1 - j * d) for j in range(k) for phase in range(r)]
        shape = list(flat.shape)
        shape[place] = r * w
        rows = flat.new_zeros(shape).index_copy(place, torch.tensor(index, device=flat.device), flat)
    return rows
