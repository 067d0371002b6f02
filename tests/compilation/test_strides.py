"""Pixels of one image that went through a linear layer, seen as an image again.

Torch takes them for contiguous. The stride of the batch holds no element; torch's tracer by itself has
another one, and takes them for channels_last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import outstride
from outstride.compilation.strides import torchs_strides
from outstride.models.layouts import _viewed
from tests.tolerance import assert_same_bits

CHANNELS = 16
THEN: dict[str, Callable[[], nn.Module]] = {
    "nothing": nn.Identity,
    "a convolution": lambda: nn.Conv2d(CHANNELS, 8, 3),
    "a norm of groups": lambda: nn.GroupNorm(4, CHANNELS),
    "a step and such a norm": lambda: nn.Sequential(nn.SiLU(), nn.GroupNorm(4, CHANNELS)),
    "slopes and such a norm": lambda: nn.Sequential(nn.PReLU(CHANNELS), nn.GroupNorm(4, CHANNELS)),
    "a factor and such a norm": lambda: nn.Sequential(Twice(), nn.GroupNorm(4, CHANNELS)),
    "a batch norm and such a norm": lambda: nn.Sequential(
        nn.BatchNorm2d(CHANNELS), nn.GroupNorm(4, CHANNELS)
    ),
    "a mean": lambda: nn.AdaptiveAvgPool2d(1),
    "resizing": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "a pool": lambda: nn.MaxPool2d(2),
}


class Twice(nn.Module):
    """A product with a number."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Pixels(nn.Module):
    """A linear layer over pixels, perhaps added to the image, and a layer of images behind it."""

    def __init__(self, then: nn.Module, adds: bool) -> None:
        super().__init__()
        self.linear, self.then, self.adds = nn.Linear(CHANNELS, CHANNELS), then, adds

    def forward(self, x: Tensor) -> Tensor:
        rows = self.linear(x.flatten(2).transpose(1, 2))
        image = rows.transpose(1, 2).reshape(x.shape)
        result: Tensor = self.then(image + x if self.adds else image)
        return result


@pytest.mark.parametrize("adds", [False, True], ids=["seen", "added"])
@pytest.mark.parametrize("then", THEN)
def test_one_image_of_rows_lies_as_without_a_tracer(then: str, adds: bool) -> None:
    torch.manual_seed(0)
    model = Pixels(THEN[then](), adds).eval()
    served = outstride.accelerate(model)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch._dynamo.reset()
        fast = torch.compile(model, backend="outstride")
        for size in ((8, 8), (7, 13), (9, 6)):  # from the second on they are symbols
            x = torch.randn(1, CHANNELS, *size).contiguous(memory_format=memory_format)
            with torch.no_grad():
                expected = served(x)
                for _ in range(3):
                    found = fast(x)
                    assert_same_bits(found, expected, f"{size}, {memory_format}")
                    assert found.stride() == expected.stride(), f"{size}, {memory_format}"


def test_the_strides_of_views_are_torchs() -> None:
    torch.manual_seed(0)
    met = 0
    for _ in range(2000):
        shape = torch.randint(1, 4, (4,)).tolist()
        order = torch.randperm(4).tolist()
        tensor = torch.empty([shape[axis] for axis in order], device="meta")
        tensor = tensor.permute([order.index(axis) for axis in range(4)])
        strides = [7 if n == 1 else s for n, s in zip(shape, tensor.stride(), strict=True)]
        tensor = torch.empty_strided(shape, strides, device="meta")
        for sizes in ([shape[0], 1, -1], [1, shape[0], shape[1], -1], [-1, shape[2] * shape[3], 1]):
            try:
                view = tensor.view(sizes)
            except RuntimeError:
                continue
            met += 1
            assert _viewed(shape, strides, view.shape) == view.stride()
    assert met > 100


class Residual(nn.Module):
    """A vector added to an image, a norm of its pixels and layers behind it, as in ConvNeXt of 1x1 layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(channels, 1, 1))
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm, self.mixing = nn.LayerNorm(channels), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.norm(self.depthwise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        result: Tensor = x + self.mixing(self.mixing(pixels) + self.vector)
        return result


def test_gradients_behind_a_norm_of_pixels_are_added_up_as_without_a_tracer() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = nn.Sequential(Residual(320), Residual(320), nn.Flatten())
    x = torch.randn(2, 320, 3, 2)
    gradients = list[list[Tensor]]()
    for run in (torch.compile(model, backend="outstride"), outstride.accelerate(model)):
        gradients.append(list(torch.autograd.grad(run(x).square().sum(), list(model.parameters()))))
    for found, expected in zip(*gradients, strict=True):
        assert_same_bits(found, expected)


def test_the_gradient_of_a_layer_norm_is_contiguous_where_it_is_traced() -> None:
    pixels = torch.randn(2, 8, 3, 5).permute(0, 2, 3, 1)
    image, mean, scale = torch.randn(2, 3, 5, 8), torch.zeros(2, 3, 5, 1), torch.ones(2, 3, 5, 1)
    given: list[Any] = [pixels, pixels, [8], mean, scale, torch.ones(8), torch.zeros(8), [True] * 3]
    operator = torch.ops.aten.native_layer_norm_backward.default
    mode = FakeTensorMode()
    fakes = [mode.from_tensor(value) if isinstance(value, Tensor) else value for value in given]
    with torchs_strides(fakes), mode:
        traced = operator(*fakes)
    assert traced[0].stride() == operator(*given)[0].stride() == image.stride()
