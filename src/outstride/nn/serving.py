"""The engine in the place of a layer's ``forward``: the layer's class, and so what it is to others, stays.

Whatever knows layers by their class alone (quantisation, fusion, counters, exporters) finds torch's. Copies
and pickles of a layer take the engine with them, and ``torch.jit.script`` reads torch's own source.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: F401  # a name of the source that torch.jit.script is given
from torch import Tensor


class Serving:
    """What computes one of torch's layers, as ``served``, one of this package's classes, computes it."""

    algorithm = "auto"  # of layers that were pickled before there was another

    def __init__(self, layer: Any, served: Any, algorithm: str) -> None:
        self.layer = layer
        self.served = served
        self.algorithm = algorithm
        self.function = served.function

    def linear(self, input: Tensor) -> Tensor:
        """``forward`` of the linear layer."""
        weight, bias = operands(self.layer)
        result: Tensor = self.function(input, weight, bias)
        return result

    def conv(self, input: Tensor) -> Tensor:
        """``forward`` of the three convolutions."""
        layer = self.layer
        if "_conv_forward" in layer.__dict__:  # put there since: torch's ``forward`` asks for it
            return type(layer).forward(layer, input)  # type: ignore[no-any-return]
        weight, bias = operands(layer)
        result: Tensor = self.function(
            input, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups,
            padding_mode=layer.padding_mode, algorithm=self.algorithm,
        )  # fmt: skip
        return result

    # One for each number of axes: what torch.jit.script reads in their place differs.
    def conv_transpose1d(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``forward`` of the transposed convolution."""
        return self._transposed(input, output_size)

    def conv_transpose2d(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``forward`` of the transposed convolution."""
        return self._transposed(input, output_size)

    def conv_transpose3d(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """``forward`` of the transposed convolution."""
        return self._transposed(input, output_size)

    def _transposed(self, input: Tensor, output_size: Sequence[int] | None) -> Tensor:
        layer = self.layer
        if "_output_padding" in layer.__dict__:  # put there since: torch's ``forward`` asks for it
            return type(layer).forward(layer, input, output_size)  # type: ignore[no-any-return]
        weight, bias = operands(layer)
        extra = layer.output_padding if output_size is None else 0
        result: Tensor = self.function(
            input, weight, bias, layer.stride, layer.padding, extra, layer.groups, layer.dilation,
            output_size=output_size, padding_mode=layer.padding_mode, algorithm=self.algorithm,
        )  # fmt: skip
        return result


def _reads_as(method: Any, stock: Any) -> None:
    """Let signatures and torch.jit.script see torch's function."""
    method.__wrapped__ = stock


_reads_as(Serving.linear, torch.nn.Linear.forward)
_reads_as(Serving.conv, torch.nn.Conv2d.forward)
_reads_as(Serving.conv_transpose1d, torch.nn.ConvTranspose1d.forward)
_reads_as(Serving.conv_transpose2d, torch.nn.ConvTranspose2d.forward)
_reads_as(Serving.conv_transpose3d, torch.nn.ConvTranspose3d.forward)


def serve(layer: Any, served: Any, algorithm: str = "auto") -> None:
    """Put the engine in the place of a layer's ``forward``."""
    vars(layer)["forward"] = getattr(Serving(layer, served, algorithm), served.serves)


def serving_of(layer: Any) -> Serving | None:
    """What serves a layer, if that is the engine."""
    forward = vars(layer).get("forward") if isinstance(layer, torch.nn.Module) else None
    owner = forward.__self__ if isinstance(forward, MethodType) else None
    return owner if isinstance(owner, Serving) else None


def operands(layer: Any) -> tuple[Any, Any]:
    """Weight and bias, found where attribute lookup finds them, in half the time."""
    # A module looks its parameters up last, after a search that costs a tenth of a small layer; here first.
    # What is not among them (parametrised, pruned, swapped for a call) is an attribute, and so is what was
    # put before them.
    own = layer.__dict__
    if "weight" in own or "bias" in own:
        return layer.weight, layer.bias
    held = own["_parameters"]
    try:
        return held["weight"], held["bias"]
    except KeyError:
        return layer.weight, layer.bias


class Served(type):
    """The class of this package's layers: an instance is what the engine serves as such a layer."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if super().__instancecheck__(instance):
            return True
        serving = serving_of(instance)
        return serving is not None and issubclass(serving.served, cls)


def algorithm_of(layer: Any) -> str:
    """What a layer asks to be computed by: "auto" for one that the engine does not serve."""
    holder = serving_of(layer) or layer
    served = isinstance(holder, Serving) or isinstance(type(holder), Served)
    return holder.algorithm if served else "auto"
