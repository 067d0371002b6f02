"""Models for the tests of tiling: what each adds is in its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from outstride import accelerate


class UNet(nn.Module):
    """Three scales with skips, by torch's own layers."""

    def __init__(
        self, up: str = "transposed", act: Callable[[], nn.Module] = nn.ReLU, down: str = "pool"
    ) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), act(),
                nn.Conv2d(outputs, outputs, 3, padding=1), act(),
            )  # fmt: skip

        def upward(inputs: int, outputs: int) -> nn.Module:
            if up == "nearest":
                return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 1))
            if up == "shuffle":
                return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))
            kernel, padding, extra = {"transposed": (2, 0, 0), "overlapping": (4, 1, 0), "odd": (3, 1, 1)}[up]
            return nn.ConvTranspose2d(inputs, outputs, kernel, 2, padding, output_padding=extra)

        def downward(channels: int) -> nn.Module:
            if down == "strided":
                return nn.Conv2d(channels, channels, 3, 2, padding=1)
            return nn.AvgPool2d(2) if down == "mean" else nn.MaxPool2d(2)

        self.first, self.second, self.third = block(3, 8), block(8, 16), block(16, 24)
        self.down1, self.down2 = downward(8), downward(16)
        self.up2, self.up1 = upward(24, 16), upward(16, 8)
        self.fourth, self.fifth, self.head = block(32, 16), block(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        b = self.second(self.down1(a))
        c = self.third(self.down2(b))
        d = self.fourth(torch.cat([self.up2(c), b], 1))
        result: Tensor = self.head(self.fifth(torch.cat([self.up1(d), a], 1)))
        return result


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Residual(nn.Module):
    """Layers with their input added, cropped or padded to size where they change it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        for axis, size in enumerate(y.shape[2:], 2):
            x = x.narrow(axis, 0, size)
        y += x
        return y


def settled(model: nn.Module, seed: int = 0) -> nn.Module:
    """A model in inference mode whose norms do something."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return model.eval()


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A model with the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return settled(make(), seed)


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def whole_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        result = accelerate(model)(x)
    assert isinstance(result, Tensor)
    return result


def conv(*args: Any, **kwargs: Any) -> nn.Module:
    return seeded(lambda: nn.Conv2d(*args, **kwargs))
