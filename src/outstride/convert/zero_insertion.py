"""A transposed convolution as an ordinary one: zeros between the elements, a border, the kernel turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride.convert.models import rewritten
from outstride.convert.parts import border, copied, known_weights, swapped
from outstride.engine.borders import fold
from outstride.errors import ArgumentError
from outstride.geometry import resolve, resolved_padding
from outstride.layer import arguments as argument
from outstride.layer.arguments import Pairs
from outstride.layer.spec import ConvSpec
from outstride.models.operators import convolution, padding


@overload
def to_conv(layer: convolution.ConvolutionLayer) -> nn.Sequential: ...
@overload
def to_conv(layer: nn.Module) -> nn.Module: ...
def to_conv(layer: nn.Module) -> nn.Module:
    """Write a transposed convolution as an ordinary convolution of plain torch layers.

    Args:
        layer: a transposed convolution of torch or of this package, with any parameters, its weights known.
            An ordinary convolution is taken too: its padding becomes a layer of its own. Or a model that
            holds transposed convolutions; the model itself is left as it is.

    Returns:
        Sequential of what is needed of ``insert_zeros`` (stride - 1 zeros after each element), ``border``
        (dilation * (kernel_size - 1) - padding on each side, output_padding more on the high one; a negative
        border cuts off), ``conv`` (stride 1, every kernel turned round, the channels swapped) and ``fold``
        (a padding mode's adjoint). The weights are copies. For a model a copy with such a Sequential in the
        place of each transposed convolution.

    Raises:
        ArgumentError: the layer is no convolution, or a lazy one that has seen no input yet.

    Law: to_conv(layer)(x) = layer(x) for every x: the sums have the same products and zeros besides.

    Example:
        >>> list(to_conv(nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1))._modules)
        ['insert_zeros', 'border', 'conv']

    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285,
    section 4.
    """
    argument.module("layer", layer)
    if not isinstance(layer, convolution.LAYERS) and any(
        isinstance(p, convolution.TRANSPOSED) for p in layer.modules()
    ):
        return rewritten(
            layer, lambda p: isinstance(p, convolution.TRANSPOSED), to_conv, "a transposed convolution"
        )
    spec = ConvSpec.of(layer)
    if spec.is_pool:
        raise ArgumentError(
            f"'layer' must be a convolution: got {spec!r}; legal: Conv1d to 3d and ConvTranspose1d to 3d"
        )
    spec, weight, bias = known_weights(layer)
    parts = _transposed(spec, weight, bias) if spec.kind == "conv_transpose" else _plain(spec, weight, bias)
    converted = nn.Sequential()
    for name, part in parts.items():
        converted.add_module(name, part)
    return converted.train(layer.training)


class SamePad(nn.Module):
    """The border of padding="same" at a stride above 1, which depends on the size of the input."""

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mode = "constant" if spec.padding_mode == "zeros" else spec.padding_mode

    def forward(self, input: Tensor) -> Tensor:
        """Pad (N, C, *size) or (C, *size)."""
        sizes = input.shape[-self.spec.nd :]
        traced = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call] # public, not declared
        pairs = self._traced(sizes) if traced else resolved_padding(self.spec, sizes)
        if traced and self.mode == "circular":
            return _wrapped(input, pairs)
        ends = [end for pair in reversed(pairs) for end in pair]
        if self.mode == "constant" or input.dim() == self.spec.nd + 2:
            return F.pad(input, ends, mode=self.mode)
        return F.pad(input.unsqueeze(0), ends, mode=self.mode).squeeze(0)

    def _traced(self, sizes: Sequence[Any]) -> Pairs:
        """The same by arithmetic alone, so that a trace follows the size and keeps no decision about it."""
        pairs = []
        for size, s, w in zip(sizes, self.spec.stride, self.spec.window, strict=True):
            total = torch.clamp(torch.as_tensor(((size + s - 1) // s - 1) * s + w - size), min=0)
            low = total // 2
            pairs.append((low, total - low))
        return cast(Pairs, pairs)

    def extra_repr(self) -> str:
        return repr(self.spec)


def _wrapped(input: Tensor, pairs: Pairs) -> Tensor:
    """Circular padding as a choice of elements: torch's own is traced with the size that it sees."""
    for axis, (low, high) in enumerate(pairs, input.dim() - len(pairs)):
        size = input.shape[axis]
        places = torch.arange(cast(Any, size + low + high), device=input.device) - low
        input = input.index_select(axis, torch.remainder(places, size))
    return input


class Fold(nn.Module):
    """A padding mode on a transposed layer: the border is added to what it stands for."""

    def __init__(self, pairs: Pairs, mode: str) -> None:
        super().__init__()
        self.pairs, self.mode = pairs, mode

    def forward(self, output: Tensor) -> Tensor:
        """Fold (N, C, *size) or (C, *size)."""
        if output.dim() == len(self.pairs) + 1:
            return fold(output.unsqueeze(0), self.pairs, self.mode).squeeze(0)
        return fold(output, self.pairs, self.mode)

    def extra_repr(self) -> str:
        return f"{self.pairs}, mode={self.mode!r}"


class Bias(nn.Module):
    """One number per channel, added after the border was folded: before it, it would be added twice."""

    def __init__(self, bias: Tensor, nd: int) -> None:
        super().__init__()
        self.bias = copied(bias)
        self.nd = nd

    def forward(self, output: Tensor) -> Tensor:
        """Add to (N, C, *size) or (C, *size)."""
        return output + self.bias.view(-1, *[1] * self.nd)


def _transposed(spec: ConvSpec, weight: Tensor, bias: Tensor | None) -> dict[str, nn.Module]:
    # With "same" the numbers do not depend on the input's size, so any will do.
    pairs = resolve(spec, 1).padding if spec.padding == "same" else spec.padding
    extra = resolve(spec, 1).output_padding
    folded = spec.padding_mode != "zeros" and any(map(any, pairs))
    cut: Pairs = ((0, 0),) * spec.nd if folded else cast(Pairs, pairs)
    around = []
    for (low, high), beyond, s, window in zip(cut, extra, spec.stride, spec.window, strict=True):
        # insert_zeros leaves stride - 1 zeros after the last element too, which the high side takes back.
        around.append((window - 1 - low, window - 1 - high + beyond - (s - 1)))
    parts: dict[str, nn.Module] = {}
    if any(s > 1 for s in spec.stride):
        parts["insert_zeros"] = _zero_insertion(spec.stride)
    if any(map(any, around)):
        parts["border"] = border("zeros", around)
    turned = swapped(weight, spec.groups).flip([*range(2, weight.dim())])
    parts["conv"] = _conv(spec, turned, None if folded else bias, stride=1)
    if folded:
        parts["fold"] = Fold(cast(Pairs, pairs), spec.padding_mode)
        if bias is not None:
            parts["bias"] = Bias(bias, spec.nd)
    return parts


def _plain(spec: ConvSpec, weight: Tensor, bias: Tensor | None) -> dict[str, nn.Module]:
    parts: dict[str, nn.Module] = {}
    if spec.padding == "same" and any(s > 1 for s in spec.stride):
        parts["border"] = SamePad(spec)
    else:
        pairs = cast(Pairs, resolve(spec, 1).padding if spec.padding == "same" else spec.padding)
        if any(map(any, pairs)):
            parts["border"] = border(spec.padding_mode, pairs)
    return parts | {"conv": _conv(spec, weight, bias, spec.stride)}


def _zero_insertion(stride: Sequence[int]) -> nn.Sequential:
    """Every axis in turn: each element becomes a row of one, zeros follow it there, the rows are joined."""
    steps: list[nn.Module] = []
    for position, s in enumerate(reversed(stride), 1):
        if s > 1:
            zeros = [0, 0] * (position - 1) + [0, s - 1]
            steps += [
                nn.Unflatten(-position, (-1, 1)),
                padding.LAYERS["constant"][position - 1](tuple(zeros), 0.0),
            ]
            steps += [nn.Flatten(-position - 1, -position)]
    return nn.Sequential(*steps)


def _conv(spec: ConvSpec, weight: Tensor, bias: Tensor | None, stride: Any) -> nn.Module:
    channels = (weight.shape[1] * spec.groups, weight.shape[0])
    conv: nn.Module = convolution.CONVOLUTIONS[spec.nd - 1](
        *channels,
        cast(Any, spec.kernel_size),
        stride,
        dilation=cast(Any, spec.dilation),
        groups=spec.groups,
        bias=bias is not None,
        device="meta",
    )
    conv.weight = copied(weight)
    if bias is not None:
        conv.bias = copied(bias)
    return conv
