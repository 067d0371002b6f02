"""Kernels that a model has learned, for photographs: those of its first layer over pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outstride.errors import ArgumentError
from outstride.layer.spec import ConvSpec
from outstride.pictures.saved_weights import convolution_weights, read_weights
from outstride.studio.photographs import png
from outstride.studio.questions import MOST_NUMBERS

STATES = (".pt", ".pth", ".safetensors")
#: Kernels that are offered, and digits of their numbers, which a link keeps.
_MOST_KERNELS, _DIGITS = 64, 5


@dataclass(frozen=True)
class Learned:
    """The first layer's kernels as a grey picture meets them: summed over the channels that come in."""

    name: str
    spec: ConvSpec
    kernels: torch.Tensor

    def start(self) -> Mapping[str, str]:
        """What the page is to show first: the first of them on a photograph."""
        numbers = ",".join(map(str, self._numbers(0)))
        return {"layer": repr(self.spec), "size": "", "w": numbers, "mode": "picture", "learned": self.name}

    def answers(self) -> Mapping[str, Callable[[Mapping[str, Any]], Any]]:
        """The question that a page may ask."""
        return {"learned": self.described}

    def described(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Every kernel with its numbers and as a small picture, its smallest number black."""
        del question
        shown = range(min(len(self.kernels), _MOST_KERNELS))
        rows = [{"numbers": self._numbers(n), "png": png(_grey(self.kernels[n].numpy()))} for n in shown]
        return {"name": self.name, "layer": repr(self.spec), "kernels": rows}

    def _numbers(self, number: int) -> list[float]:
        return [float(f"{value:.{_DIGITS}g}") for value in self.kernels[number].ravel().tolist()]


def learned_of(model: torch.nn.Module) -> Learned | None:
    """Those of the first layer over pictures of a model; None where it has none, or none with numbers."""
    for name, layer in model.named_modules():
        if not isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            continue
        weight = layer.weight
        if weight.is_meta or not weight.numel() or weight[0, 0].numel() > MOST_NUMBERS:
            return None
        alone = replace(ConvSpec.of(layer), in_channels=1, out_channels=1, groups=1, bias=False)
        kind = 0 if alone.kind == "conv_transpose" else 1
        return Learned(name or type(layer).__name__, alone, weight.detach().double().cpu().sum(kind))
    return None


def learned_in(path: Path) -> Learned:
    """Those of a saved state, whose layer is taken as one of stride 1 that keeps the size.

    Raises:
        ArgumentError: it cannot be read, or has no layer over pictures.
        UnsupportedError: safetensors is not installed.
    """
    weights = read_weights(path)
    for name, weight in convolution_weights(weights).items():
        if weight.dim() == 4 and weight.is_floating_point() and weight[0, 0].numel() <= MOST_NUMBERS:
            size = tuple(weight.shape[2:])
            pads = tuple(((n - 1) // 2, n // 2) for n in size)
            spec = ConvSpec("conv", size, padding=pads, in_channels=1, out_channels=1, bias=False)
            return Learned(name, spec, weight.double().sum(1))
    raise ArgumentError(
        f"'MODEL' must have a convolution over pictures: got {str(path)!r} with {len(weights)} tensors, none "
        f"of them with 4 axes and at most {MOST_NUMBERS} elements a kernel; legal: a state with one"
    )


def _grey(kernel: Any) -> Any:
    low, high = float(np.min(kernel)), float(np.max(kernel))
    return (kernel - low) / ((high - low) or 1.0)
