"""What the tutorials print of convolutions and pooling, from the engine."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
import pytest
import torch

import outstride
from outstride import ConvSpec, functional, geometry, nn, reference
from outstride.errors import OutstrideError
from tests.docs.tutorial_layers import K2, X3, drawn, flat, holding
from tests.tolerance import assert_same_bits


def test_cross_correlation() -> None:
    assert flat(functional.conv2d(X3, K2)) == [[19, 25], [37, 43]]
    assert flat(functional.conv2d(X3, K2 + 1)) == [[27, 37], [57, 67]]
    assert reference.corr2d(X3[0, 0].numpy(), K2[0, 0].numpy()).tolist() == [[19, 25], [37, 43]]


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_a_kernel_over_d_axes_slides_over_d_axes(nd: int) -> None:
    size = (5, 6, 7)[:nd]
    layer = holding(getattr(nn, f"Conv{nd}d")(1, 1, 3), torch.ones(1, 1, *[3] * nd))
    x = drawn(1, 1, *size)
    windows = x
    for axis in range(2, nd + 2):
        windows = windows.unfold(axis, 3, 1)
    assert layer(x).shape == (1, 1, *[n - 2 for n in size])
    assert flat(layer(x)) == flat(windows.flatten(nd + 2).sum(-1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": (1, 3)},
        {"padding": 1},
        {"padding": (2, 0)},
        {"padding": "same"},
        {"dilation": 2},
        {"dilation": (1, 3), "padding": (0, 3)},
        {"groups": 2},
        {"groups": 4},
        {"bias": False},
        {"padding": 2, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "replicate"},
        {"padding": 2, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_every_parameter_of_conv2d(options: dict[str, Any]) -> None:
    stock = torch.nn.Conv2d(4, 8, 3, **options)
    for number, parameter in enumerate(stock.parameters()):
        parameter.data = drawn(*parameter.shape, seed=number)
    layer = nn.Conv2d(4, 8, 3, **options)
    layer.load_state_dict(stock.state_dict())
    x = drawn(2, 4, 9, 10, seed=9)
    assert_same_bits(layer(x), stock(x).contiguous())
    assert repr(layer) == repr(stock)


def test_the_usual_layer() -> None:
    assert nn.Conv2d(3, 64, 3, 1, 1)(torch.randn(1, 3, 32, 32)).shape == (1, 64, 32, 32)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kernel_size": 3, "padding": 1}, (8, 8)),
        ({"kernel_size": (5, 3), "padding": (2, 1)}, (8, 8)),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (4, 4)),
        ({"kernel_size": (3, 5), "padding": (0, 1), "stride": (3, 4)}, (2, 2)),
    ],
)
def test_output_size(options: dict[str, Any], expected: tuple[int, int]) -> None:
    layer = nn.Conv2d(1, 1, **options)
    assert layer(torch.rand(1, 1, 8, 8)).shape[2:] == expected
    assert geometry.output_size(ConvSpec.of(layer), 8) == expected


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_formula_has_the_dilation_in_it(d: int) -> None:
    i, p, k, s = 15, 2, 3, 2
    out = nn.Conv1d(1, 1, k, stride=s, padding=p, dilation=d)(torch.rand(1, 1, i)).shape[-1]
    assert out == floor((i + 2 * p - d * (k - 1) - 1) / s) + 1
    # Without it, as it is often given, the formula is right at dilation 1 alone.
    assert (out == floor((i + 2 * p - k) / s) + 1) == (d == 1)


def test_channels() -> None:
    x, w = drawn(1, 3, 5, 6), drawn(2, 3, 2, 2, seed=1)
    by_hand = [
        sum(reference.corr2d(x[0, ic].numpy(), w[oc, ic].numpy()) for ic in range(3)) for oc in range(2)
    ]
    assert functional.conv2d(x, w)[0].tolist() == np.stack(by_hand).tolist()
    shared = drawn(4, 3, 1, 1, seed=2)
    product = (shared[:, :, 0, 0] @ x.view(3, 30)).view(1, 4, 5, 6)
    assert flat(functional.conv2d(x, shared)) == flat(product)


def test_learning_a_kernel() -> None:
    X = torch.ones(1, 1, 6, 8)
    X[..., 2:6] = 0
    Y = torch.from_numpy(reference.corr2d(X[0, 0].numpy(), [[1.0, -1.0]])).float().view(1, 1, 6, 7)
    assert Y[0, 0, 0].tolist() == [0, 1, 0, 0, 0, -1, 0]
    finals = []
    for seed in range(20):
        torch.manual_seed(seed)
        layer, printed = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False), []
        for step in range(10):
            loss = ((layer(X) - Y) ** 2).sum()
            layer.zero_grad()
            loss.backward()
            weight, grad = layer.weight, layer.weight.grad
            assert grad is not None
            weight.data -= 3e-2 * grad
            if (step + 1) % 2 == 0:
                printed.append(loss.item())
        assert printed == sorted(printed, reverse=True)
        finals.append(layer.weight.detach().flatten())
    distances = torch.stack(finals) - torch.tensor([1.0, -1.0])
    assert distances.abs().max() < 0.25
    assert distances.abs().mean() < 0.06


def test_layer_and_function_agree() -> None:
    layer = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    x = torch.randn(2, 3, 9, 9)
    assert_same_bits(layer(x), functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1))
    up = nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)
    assert_same_bits(up(x), functional.conv_transpose2d(x, up.weight, up.bias, stride=2, padding=1))


def test_a_picture_of_the_kernels() -> None:
    layer = nn.Conv2d(3, 64, 11, stride=4)
    edge = torch.zeros(3, 11, 11)
    edge[0, :, :5], edge[0, :, 6:] = 1, -1
    with torch.no_grad():
        layer.weight[0] = edge
    picture = outstride.kernels(layer)
    assert (picture.shown, picture.total, picture.colour) == (64, 64, True)
    rows = (picture.pixels.shape[0] - 2) / (11 * 4 + 2)
    assert rows == 8
    first = picture.pixels[2:46:4, 2:46:4]
    # Red where the red channel is positive, its complement where it is negative, grey elsewhere.
    assert first[0, [0, 5, 10]].tolist() == [[255, 128, 128], [128, 128, 128], [0, 128, 128]]


def test_pooling() -> None:
    assert reference.pool2d(X3[0, 0].numpy(), (2, 2)).tolist() == [[4, 5], [7, 8]]
    assert reference.pool2d(X3[0, 0].numpy(), (2, 2), "avg").tolist() == [[2, 3], [5, 6]]
    assert flat(nn.MaxPool2d(2, stride=1)(X3)) == [[4, 5], [7, 8]]
    assert flat(nn.AvgPool2d(2, stride=1)(X3)) == [[2, 3], [5, 6]]
    X4 = torch.arange(16.0).view(1, 1, 4, 4)
    assert nn.MaxPool2d(3)(X4).tolist() == [[[[10]]]]
    assert flat(nn.MaxPool2d(3, padding=1, stride=2)(X4)) == [[5, 7], [13, 15]]
    assert flat(nn.MaxPool2d((2, 3), stride=(2, 3), padding=(0, 1))(X4)) == [[5, 7], [13, 15]]
    both = torch.cat((X4, X4 + 1), dim=1)
    assert flat(nn.MaxPool2d(3, padding=1, stride=2)(both)) == [[[5, 7], [13, 15]], [[6, 8], [14, 16]]]


def test_a_window_of_padding_alone_is_refused_with_the_reason() -> None:
    said = (
        "'padding' must be at most half the window on every axis, or a window could see padding only: got "
        r"padding=\(2, 1\) with kernel_size=\(2, 3\), dilation=\(1, 1\); legal: at most \(1, 1\)"
    )
    for layer in (nn.MaxPool2d, nn.AvgPool2d):
        with pytest.raises(ValueError, match=said) as refusal:
            layer((2, 3), stride=(2, 3), padding=(2, 1))
        assert isinstance(refusal.value, OutstrideError)
    # What torch says of the same layer, and only once it is called.
    with pytest.raises(RuntimeError, match="pad should be at most half"):
        torch.nn.MaxPool2d((2, 3), stride=(2, 3), padding=(2, 1))(torch.zeros(1, 1, 4, 4))
