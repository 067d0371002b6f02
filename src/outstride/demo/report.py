"""Measure what the network is worth: quality on the held-out region, time and difference layer by layer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor, nn

from outstride.demo.data import Photo, luma
from outstride.demo.network import bicubic, shrink

ROUNDS = 5
ROUND_SECONDS = 0.01


@dataclass(frozen=True)
class Quality:
    """The held-out region four times, colour (3, H, W) in 0 to 1, and PSNR of its brightness in dB."""

    small: Tensor
    bicubic: Tensor
    network: Tensor
    truth: Tensor
    bicubic_db: float
    network_db: float


@dataclass(frozen=True)
class LayerTime:
    """One layer on one input: milliseconds of both, and the largest difference of their results."""

    name: str
    layer: str
    input_shape: tuple[int, ...]
    torch_ms: float
    outstride_ms: float
    largest_difference: float


def psnr(picture: Tensor, truth: Tensor, border: int) -> float:
    """Peak signal-to-noise ratio in dB for values in 0 to 1, `border` pixels on each side left out."""
    inside = (..., slice(border, -border), slice(border, -border))
    error = (picture.clamp(0, 1) - truth)[inside].double().square().mean().item()
    return -10 * math.log10(error) if error else math.inf


def enlarge(network: nn.Module, small: Tensor, scale: int) -> Tensor:
    """Enlarge a colour picture: its brightness by the network, its colour differences by bicubic."""
    colour, bright = bicubic(small, scale), luma(small)
    with torch.inference_mode():
        sharper = cast(Tensor, network(bright)) - bicubic(bright, scale)
    # Adding the same to red, green and blue changes the brightness by it and leaves the differences alone.
    return (colour + sharper).clamp(0, 1)


def assess(network: nn.Module, photo: Photo, scale: int) -> Quality:
    """Reduce the held-out region, enlarge it again both ways and compare with the truth."""
    truth = photo.held_out.cut(photo.colour)
    small = shrink(truth, scale)
    plain, sharp = bicubic(small, scale).clamp(0, 1), enlarge(network, small, scale)
    bright = luma(truth)
    return Quality(
        small[0],
        plain[0],
        sharp[0],
        truth[0],
        psnr(luma(plain), bright, scale),
        psnr(luma(sharp), bright, scale),
    )


def time_layers(ours: nn.Module, stock: nn.Module, picture: Tensor) -> list[LayerTime]:
    """Time every convolution of two equal networks on what reaches it when `picture` passes through.

    Args:
        ours: the network on outstride.
        stock: the same network on torch's own layers.
        picture: (N, 1, H, W).

    Returns:
        A row a layer, in order, and a last one for the whole network.
    """
    reached: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: reached.__setitem__(name, inputs[0])

    layers = {
        name: layer
        for name, layer in stock.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d))
    }
    handles = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    with torch.inference_mode():
        stock(picture)
    for handle in handles:
        handle.remove()
    rows = [
        _compare(name, layer, ours.get_submodule(name), reached[name], str(layer))
        for name, layer in layers.items()
    ]
    return [*rows, _compare("whole network", stock, ours, picture, type(stock).__name__)]


def _compare(name: str, stock: nn.Module, ours: nn.Module, x: Tensor, text: str) -> LayerTime:
    with torch.inference_mode():
        difference = (ours(x) - stock(x)).abs().max().item()
        seconds: dict[nn.Module, list[float]] = {stock: [], ours: []}
        for number in range(ROUNDS):
            # In turn, and each first as often as second: both see the same caches and the same neighbours.
            for module in (stock, ours) if number % 2 == 0 else (ours, stock):
                seconds[module].append(_seconds(module, x))
    return LayerTime(
        name, text, tuple(x.shape), median(seconds[stock]) * 1e3, median(seconds[ours]) * 1e3, difference
    )


def _seconds(module: nn.Module, x: Tensor) -> float:
    begin, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < ROUND_SECONDS or calls == 0:
        module(x)
        calls += 1
    return elapsed / calls
