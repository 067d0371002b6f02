"""Models for the tests of `check`: layers and graphs of one axis, and how a model is checked there."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import outstride
from outstride import check
from outstride.inspection import Report
from outstride.inspection.figures import LayerFigures

HALF = Fraction(1, 2)


def quick(model: nn.Module, *shape: int, **options: Any) -> Report:
    return check(model, shape, sizes=False, **options)


def last(report: Report) -> LayerFigures:
    return report.layers[-1]


class Fn(nn.Module):
    """A function as a model, with layers of its own."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x, **self._modules)


def up(**options: Any) -> nn.Module:
    return nn.ConvTranspose1d(2, 2, **{"kernel_size": 4, "stride": 2, "padding": 1, **options})


def conv(**options: Any) -> nn.Module:
    return nn.Conv1d(2, 2, **{"kernel_size": 3, "padding": 1, **options})


def pixel_shuffle(x: Tensor) -> Tensor:
    """Two channels a position to two positions."""
    n, c, length = x.shape
    return x.view(n, c // 2, 2, length).transpose(2, 3).reshape(n, c // 2, 2 * length)


def windows_of_attention(x: Tensor) -> Tensor:
    """Attention inside windows of four positions."""
    n, c, length = x.shape
    tokens = x.view(n, c, length // 4, 4).permute(0, 2, 3, 1)
    weights = (tokens @ tokens.transpose(-2, -1)).softmax(-1)
    return (weights @ tokens).permute(0, 3, 1, 2).reshape(n, c, length)


def interleave(x: Tensor, even: nn.Module, odd: nn.Module) -> Tensor:
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2])
    out[:, :, ::2] = even(x)
    out[:, :, 1::2] = odd(x)
    return out


def with_class_token(x: Tensor, after: nn.Module) -> Any:
    tokens = torch.cat([x.new_zeros(x.shape[0], 1, x.shape[1]), x.transpose(1, 2)], 1)
    return after((tokens * 2)[:, 1:].transpose(1, 2))


GRAPHS: dict[str, nn.Module] = {
    "residual": Fn(lambda x, a, b: b(a(x)) + x, a=conv(stride=2), b=up()),
    "unet": Fn(
        lambda x, a, b, c, d: d(torch.cat([a(x), c(b(a(x)))], 1)),
        a=conv(), b=conv(stride=2), c=up(), d=nn.Conv1d(4, 1, 3, padding=1),
    ),
    "max pool": nn.Sequential(nn.MaxPool1d(3, 2, 1), conv(), nn.MaxPool1d(2, ceil_mode=True)),
    "average pool": nn.Sequential(nn.AvgPool1d(4, 2), conv(), nn.Upsample(scale_factor=2)),
    "nearest by 3/2": nn.Sequential(conv(), nn.Upsample(scale_factor=1.5), conv()),
    "nearest to a size": nn.Sequential(conv(stride=2), nn.Upsample(size=33), conv(stride=2)),
    "pixel shuffle": nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), Fn(pixel_shuffle), conv(stride=3)),
    "shuffle at the end": Fn(lambda x, a: pixel_shuffle(a(x)), a=nn.Conv1d(2, 4, 3, padding=1)),
    "shuffle beside a skip": Fn(
        lambda x, a, b: pixel_shuffle(a(x)) + b(x).expand(-1, 2, -1),
        a=nn.Conv1d(2, 4, 3, padding=1), b=nn.ConvTranspose1d(2, 1, 4, 2, 1),
    ),
    "space to depth": Fn(lambda x, a: a(torch.cat([x[..., ::2], x[..., 1::2]], 1)), a=nn.Conv1d(4, 2, 3)),
    "space to depth by views": Fn(
        lambda x, a: a(x.view(x.shape[0], 2, -1, 2).transpose(2, 3).reshape(x.shape[0], 4, -1)),
        a=nn.Conv1d(4, 2, 3),
    ),
    "windows": nn.Sequential(conv(), Fn(windows_of_attention), conv(stride=2)),
    "crop": Fn(lambda x, a: a(x[..., 3:-2]), a=conv(stride=2)),
    "borders": nn.Sequential(nn.ConstantPad1d((3, 1), 0.0), conv(padding=0), nn.ReflectionPad1d(2), conv()),
    "same": nn.Sequential(outstride.nn.Conv1d(2, 2, 4, stride=3, padding="same"), conv()),
    "same up": nn.Sequential(
        outstride.nn.Conv1d(2, 2, 3, stride=2, padding=1), outstride.nn.ConvTranspose1d(2, 2, 5, 2, "same")
    ),
    "interleaved": Fn(interleave, even=conv(), odd=nn.Conv1d(2, 2, 5, padding=2)),
    "class token": Fn(with_class_token, after=conv()),
    "split and joined": Fn(lambda x, a: torch.cat([a(x[..., :22]), x[..., 20:]], 2), a=conv(padding=0)),
    "tensor unfold": Fn(lambda x: x.unfold(2, 5, 2).mean(-1)),
    "turned by halves": Fn(lambda x, a: torch.rot90(a(x)[:, :, None], 2, (2, 3))[:, :, 0], a=conv(stride=2)),
    "turned round": Fn(lambda x, a: a(x.flip(2)), a=conv(stride=2, padding=0)),
    "flat and back": Fn(lambda x, a: a(x.flatten(1).view(x.shape)), a=conv(dilation=2)),
    "normalised channels": nn.Sequential(
        conv(), Fn(lambda x: F.layer_norm(x.transpose(1, 2), (2,)).transpose(1, 2)), conv(stride=2)
    ),
    "unpooled": Fn(lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), [2])),
}  # fmt: skip
