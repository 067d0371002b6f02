"""A layer with its weights on one input size, without its bias: a linear map, applied forwards and backwards.

Both directions are the engine's, with explicit sizes on both sides. So the way back needs no guess about the
inputs that a stride leaves open, and a transposed layer whose ``output_padding`` reaches a whole stride or
more has an exact adjoint as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import UninitializedParameter

from outstride import functional, geometry
from outstride.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from outstride.layer.arguments import Pairs
from outstride.layer.spec import ConvSpec

Ints = tuple[int, ...]
_NO_LAYER = (
    "'layer' must be a convolution or a transposed convolution, which are linear and have weights: got {}; "
    "legal: Conv1d, 2d, 3d and ConvTranspose1d, 2d, 3d"
)
_EXACT_INTEGERS = frozenset({torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8})


@dataclass(frozen=True, eq=False)
class LayerMap:
    """The linear part of a convolution or transposed convolution on one input size."""

    spec: ConvSpec
    """The layer, its padding and output_padding in numbers."""
    input_size: Ints
    output_size: Ints
    """What the layer gives, or the first part of it: see ``adjoint``."""
    weight: Tensor
    algorithm: str = "auto"

    @classmethod
    def of(
        cls,
        spec: ConvSpec,
        weight: Tensor,
        input_size: geometry.SizesLike,
        output_size: geometry.SizesLike | None,
        algorithm: str = "auto",
    ) -> LayerMap:
        """The map of a layer that knows its channels."""
        size = tuple(input_size) if isinstance(input_size, Iterable) else (input_size,) * spec.nd
        resolved = geometry.resolve(spec, size, output_size)
        input_size, output_size = tuple(map(int, size)), geometry.output_size(resolved, size)
        return cls(resolved, input_size, output_size, weight, algorithm)

    @property
    def transposed(self) -> bool:
        return self.spec.kind == "conv_transpose"

    @property
    def pairs(self) -> Pairs:
        return cast(Pairs, self.spec.padding)

    @property
    def input_shape(self) -> Ints:
        """Channels and size of what goes in."""
        return (cast(int, self.spec.in_channels), *self.input_size)

    @property
    def output_shape(self) -> Ints:
        """Channels and size of what comes out."""
        return (cast(int, self.spec.out_channels), *self.output_size)

    @property
    def cropped(self) -> bool:
        """Whether the layer of ``spec`` gives more than the map keeps."""
        return geometry.output_size(self.spec, self.input_size) != self.output_size

    @property
    def terms(self) -> int:
        """At least the products in the longest sum of an element, in either direction."""
        spec = self.spec
        channels = max(cast(int, spec.in_channels), cast(int, spec.out_channels)) // spec.groups
        folds = 1 if spec.padding_mode == "zeros" else prod(1 + low + high for low, high in self.pairs)
        return prod(spec.kernel_size) * channels * folds

    def with_weight(self, weight: Tensor) -> LayerMap:
        """The map of the same layer with another weight."""
        return replace(self, weight=weight)

    def forward(self, batch: Tensor) -> Tensor:
        """(N, *input_shape) -> (N, *output_shape)."""
        return self._scatter(batch, self.output_size) if self.transposed else self._gather(batch)

    def backward(self, batch: Tensor) -> Tensor:
        """(N, *output_shape) -> (N, *input_shape): the adjoint of ``forward``."""
        return self._gather(batch) if self.transposed else self._scatter(batch, self.input_size)

    def adjoint(self) -> LayerMap:
        """The adjoint as a map of its own: the layer that stands on the same geometry, seen the other way.

        A transposed layer whose ``output_padding`` is at least its stride (it may be, where the dilation is
        larger) leaves room for windows that it never stamped. The convolution must not look through them:
        less padding on the high side hides them where there is enough of it, else they are cut off.
        """
        own = self.spec
        swapped: dict[str, Any] = {
            "in_channels": own.out_channels,
            "out_channels": own.in_channels,
            "bias": False,
        }
        ins, outs = self.output_size, self.input_size
        if not self.transposed:
            spec = geometry.resolve(replace(own, kind="conv_transpose", **swapped), ins, outs)
            return replace(self, spec=spec, input_size=ins, output_size=outs)
        spec = replace(own, kind="conv", output_padding=(0,) * own.nd, **swapped)
        windows = geometry.output_size(spec, ins)
        rows = zip(self.pairs, windows, outs, own.stride, strict=True)
        nearer = tuple((low, high - (there - out) * s) for (low, high), there, out, s in rows)
        if own.padding_mode == "zeros" and min(high for _, high in nearer) >= 0:
            spec = replace(spec, padding=nearer)
        return replace(self, spec=spec, input_size=ins, output_size=outs)

    def _gather(self, batch: Tensor) -> Tensor:
        spec = self.spec
        conv: Callable[..., Tensor] = getattr(functional, f"conv{spec.nd}d")
        size = self.input_size if self.transposed else self.output_size
        found = conv(
            *(batch, self.weight, None, spec.stride, spec.padding, spec.dilation, spec.groups),
            padding_mode=spec.padding_mode,
            algorithm=self.algorithm,
        )
        for axis, n in enumerate(size, 2):
            found = found.narrow(axis, 0, n)
        return found

    def _scatter(self, batch: Tensor, size: Ints) -> Tensor:
        spec = self.spec
        conv_transpose: Callable[..., Tensor] = getattr(functional, f"conv_transpose{spec.nd}d")
        return conv_transpose(
            *(batch, self.weight, None, spec.stride, spec.padding, 0, spec.groups, spec.dilation),
            output_size=size,
            padding_mode=spec.padding_mode,
            algorithm=self.algorithm,
        )


def described(layer: object, weight: object, bias: object) -> tuple[ConvSpec, Tensor, Tensor | None]:
    """The layer's description and its parameters, copied, from a layer or from a description and arrays."""
    if not isinstance(layer, ConvSpec):
        if weight is not None or bias is not None:
            raise ArgumentError(
                f"'weight' and 'bias' must be left out where 'layer' holds its own: got them beside "
                f"{type(layer).__name__}; legal: None"
            )
        try:
            spec, held = ConvSpec.of(layer), cast(Any, layer)
        except ArgumentError as error:
            raise ArgumentError(_NO_LAYER.format(type(layer).__name__)) from error
        if not spec.is_pool:
            weight, bias = held.weight, held.bias
    else:
        spec = layer
    if spec.is_pool:
        raise ArgumentError(_NO_LAYER.format(repr(spec)))
    unknown = weight is None or isinstance(weight, UninitializedParameter)
    if unknown or (isinstance(weight, Tensor) and weight.is_meta):
        raise ArgumentError(
            f"'weight' must be known: got none for {spec!r}; legal: an array of shape "
            f"{_named_weight_shape(spec)}, or a layer that holds its own"
        )
    kept = _copied("weight", weight)
    spec = _with_channels(spec, kept)
    offset = None if bias is None else _copied("bias", bias)
    if offset is not None and tuple(offset.shape) != (spec.out_channels,):
        raise ShapeError(
            f"'bias' must have one number per output channel: got shape {tuple(offset.shape)}; legal: "
            f"({spec.out_channels},)"
        )
    return replace(spec, bias=offset is not None), kept, offset


def to_module(layer_map: LayerMap, bias: Tensor | None) -> torch.nn.Module:
    """A layer of this package that computes the map, with a bias if one is given."""
    from outstride import nn

    spec = layer_map.spec
    if layer_map.cropped:
        raise UnsupportedError(
            f"'to_layer' must find a layer that gives {layer_map.output_size} for {layer_map.input_size}: "
            f"{spec!r} gives {geometry.output_size(spec, layer_map.input_size)}, of which this operator "
            f"keeps the first; legal: a transposed layer with output_padding below its stride"
        )
    options: dict[str, Any] = {"output_padding": spec.output_padding} if layer_map.transposed else {}
    kind: Callable[..., torch.nn.Module] = getattr(
        nn, f"{'ConvTranspose' if layer_map.transposed else 'Conv'}{spec.nd}d"
    )
    # One number for both sides is what torch's own layers can hold and export.
    even = all(low == high for low, high in layer_map.pairs)
    padding = tuple(low for low, _ in layer_map.pairs) if even else layer_map.pairs
    made: Any = kind(
        *(spec.in_channels, spec.out_channels, spec.kernel_size, spec.stride, padding),
        dilation=spec.dilation,
        groups=spec.groups,
        bias=bias is not None,
        padding_mode=spec.padding_mode,
        dtype=layer_map.weight.dtype,
        algorithm=layer_map.algorithm,
        **options,
    )
    with torch.no_grad():
        made.weight.copy_(layer_map.weight)
        if bias is not None:
            made.bias.copy_(bias)
    return cast(torch.nn.Module, made)


def _copied(name: str, value: object) -> Tensor:
    """A copy on the CPU, so that training the layer does not change the operator under a solver."""
    # Lists become doubles, as in NumPy.
    tensor = value.detach().to("cpu") if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    if tensor.dtype in _EXACT_INTEGERS:
        tensor = tensor.double()
    if not tensor.is_floating_point():
        raise DTypeError(f"{name!r} must hold real numbers: got {tensor.dtype}; legal: floats, integers")
    return tensor.clone(memory_format=torch.contiguous_format)


def _with_channels(spec: ConvSpec, weight: Tensor) -> ConvSpec:
    """The description with both channel counts, read off a weight that fits it."""
    fits = weight.dim() == spec.nd + 2 and tuple(weight.shape[2:]) == spec.kernel_size
    first, second = (weight.shape[0], weight.shape[1] * spec.groups) if weight.dim() > 1 else (0, 0)
    ins, outs = (first, second) if spec.kind == "conv_transpose" else (second, first)
    fits = fits and min(ins, outs) > 0 and first % spec.groups == 0
    fits = fits and spec.in_channels in (None, ins) and spec.out_channels in (None, outs)
    if not fits:
        raise ShapeError(
            f"'weight' must fit {spec!r} and have at least one channel: got shape {tuple(weight.shape)}; "
            f"legal: {_named_weight_shape(spec)}"
        )
    return replace(spec, in_channels=ins, out_channels=outs)


def _named_weight_shape(spec: ConvSpec) -> str:
    names = ("out_channels", "in_channels")
    first, second = reversed(names) if spec.kind == "conv_transpose" else names
    share = f"{second} / {spec.groups}" if spec.groups > 1 else second
    return f"({first}, {share}, {', '.join(map(str, spec.kernel_size))})"
