"""Layers that look at the whole image are named, and those that do not are not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride import check
from tests.inspection.models_to_check import Fn, last, quick


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        return x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()


def self_attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    out = F.scaled_dot_product_attention(tokens, tokens, tokens)
    return out.transpose(1, 2).reshape(x.shape)


class Stretched(nn.Module):
    """Places computed from the image say where the image is read."""

    def forward(self, x: Tensor) -> Any:
        return F.grid_sample(x, x[:, 0, :, :2].unsqueeze(1), align_corners=False)


WHOLE: dict[str, tuple[nn.Module, str]] = {
    "global pooling": (nn.AdaptiveAvgPool2d(1), "mean"),
    "adaptive windows": (nn.AdaptiveAvgPool2d(3), "follow the size"),
    "instance norm": (nn.InstanceNorm2d(2), "instance norm"),
    "group norm": (nn.GroupNorm(1, 2), "group norm"),
    "attention": (Fn(self_attention), "attention"),
    "softmax over space": (Fn(lambda x: x.flatten(2).softmax(-1).view(x.shape)), "softmax"),
    "flatten and linear": (nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 8, 5)), "flattened"),
    "squeeze and excite": (Gated(), "mean"),
    "running sum": (Fn(lambda x: x.cumsum(2)), "one after the other"),
    "fourier": (Fn(lambda x: torch.fft.rfft2(x).real), "Fourier"),
    "one position": (Fn(lambda x: x[:, :, 0, 0]), "one by one"),
    "norm over the image": (nn.LayerNorm((2, 8, 8)), "layer norm"),
    "sampled where the image says": (Stretched(), "wherever a grid of places says"),
    "sorted": (Fn(lambda x: x.flatten(2).sort()[0]), "in order"),
    "the largest": (Fn(lambda x: x.flatten(2).topk(3, -1)[0]), "in order"),
    "learned queries": (
        Fn(
            lambda x: F.scaled_dot_product_attention(
                x.new_zeros(1, 5, 2), *[x.flatten(2).transpose(1, 2)] * 2
            )
        ),
        "attention",
    ),
    "rows by a list": (Fn(lambda x: x.index_select(2, torch.arange(4, device=x.device)).sum(3)), "a list"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_layers_that_look_at_the_whole_image_are_named(name: str) -> None:
    model, why = WHOLE[name]
    report = quick(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), model), 1, 2, 8, 8)
    assert report.not_understood == ()
    texts = [note.text for row in report.global_layers for note in row.notes]
    assert any(why in text for text in texts), texts
    assert all(halo.low is None and halo.why for halo in report.halo) or name == "running sum"


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(2), nn.LayerNorm(8), nn.Dropout(), nn.GELU()])
def test_layers_that_do_not_are_not(layer: nn.Module) -> None:
    model = Fn(lambda x, a: a(x.transpose(1, 3)), a=layer) if isinstance(layer, nn.LayerNorm) else layer
    shape = (1, 8, 6, 2) if isinstance(layer, nn.LayerNorm) else (1, 2, 6, 8)
    assert quick(model, *shape).global_layers == ()


def test_a_gate_keeps_the_local_field() -> None:
    row = last(quick(Gated(), 1, 2, 8, 8))
    assert row.whole == (0, 1)
    assert row.fields[0].sizes == (3,)


def test_recurrent_layers_read_everything_before() -> None:
    report = check(nn.LSTM(3, 4, batch_first=True), (1, 10, 3), axes=(1,), sizes=False)
    assert report.layers[0].whole == (0,)
    assert report.layers[0].fields[0].sizes == (1,)
