"""Recurrent layers as one operator, where torch would take a step for each element of a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from outstride.models.operators.recurrent import KINDS, sequence_axis

_SCHEMA = (
    "recurrent(Tensor input, Tensor[] state, Tensor[] weights, str mode, bool has_biases, int layers, "
    "bool bidirectional, bool batch_first, bool trains) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY = torch.library.Library("outstride", "FRAGMENT")
_LIBRARY.define(_SCHEMA)
_STATES = {"LSTM": 2}
"""Tensors that a layer goes on from, where they are not one."""


def _run(
    input: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], mode: str, has_biases: bool,
    layers: int, bidirectional: bool, batch_first: bool, trains: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """``trains``: whether the weights ask for gradients, which torch folds products otherwise for."""
    weights = [weight.detach().requires_grad_(trains) for weight in weights]
    function: Any = getattr(torch._VF, mode.lower())  # noqa: SLF001 - as nn.LSTM calls it
    first: Any = list(state) if mode in _STATES else state[0]
    result, *states = function(
        input, first, weights, has_biases, layers, 0.0, False, bidirectional, batch_first
    )
    return result, states[0], states[1] if len(states) > 1 else states[0].clone()


def _shapes(
    input: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], mode: str, has_biases: bool,
    layers: int, bidirectional: bool, batch_first: bool, trains: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    del weights, mode, has_biases, layers, trains
    first, second, _ = input.shape
    sizes = (second, first) if batch_first else (first, second)  # steps come first in memory
    made = input.new_empty(*sizes, state[0].shape[-1] * (1 + bidirectional))
    return (
        made.transpose(0, 1) if batch_first else made,
        torch.empty_like(state[0]),
        torch.empty_like(state[-1]),
    )


_LIBRARY.impl("recurrent", _run, "CPU")
_LIBRARY.impl("recurrent", _shapes, "Meta")


def as_one_operator(model: torch.nn.Module) -> torch.nn.Module:
    """The same model, whose recurrent layers call one operator. It is changed in place."""
    for module in model.modules():
        if type(module) in KINDS:
            module.forward = partial(_forward, module, module.forward)
    return model


def _forward(layer: Any, original: Callable[..., Any], input: Any, hx: Any = None) -> Any:
    """What the layer returns."""
    if not isinstance(input, Tensor) or input.dim() != 3 or input.shape[-1] != layer.input_size:
        return original(input, hx)  # packed sequences, and what the layer refuses
    directions = 1 + layer.bidirectional
    batch = input.shape[1 - sequence_axis(layer, 3)]
    if hx is None:
        sizes = [layer.proj_size or layer.hidden_size, layer.hidden_size][: _STATES.get(layer.mode, 1)]
        hx = [torch.zeros(layer.num_layers * directions, batch, n, dtype=input.dtype) for n in sizes]
    state = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    weights = [getattr(layer, name) for name in layer._flat_weights_names]  # noqa: SLF001 - torch has no other
    result, *states = torch.ops.outstride.recurrent(
        input, state, weights, layer.mode, layer.bias, layer.num_layers, layer.bidirectional,
        layer.batch_first, any(weight.requires_grad for weight in weights),
    )  # fmt: skip
    return result, tuple(states) if layer.mode in _STATES else states[0]
