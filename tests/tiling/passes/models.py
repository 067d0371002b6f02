"""Models that look at whole maps: what each adds is in its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.tiling.models_to_tile import Function, Residual

chain = nn.Sequential
_Stride = int | tuple[int, int, int]


class NNUNet(nn.Module):
    """nnU-Net's default network: two convolutions with instance norms and leaky ReLUs a stage."""

    def __init__(
        self, features: Sequence[int] = (32, 64, 128, 256, 320, 320),
        strides: Sequence[_Stride] = (1, 2, 2, 2, (2, 2, 1), (2, 2, 1)), classes: int = 3,
    ) -> None:  # fmt: skip
        super().__init__()

        def block(inputs: int, outputs: int, stride: _Stride = 1) -> nn.Module:
            return nn.Sequential(
                nn.Conv3d(inputs, outputs, 3, stride, 1), nn.InstanceNorm3d(outputs, affine=True),
                nn.LeakyReLU(0.01, inplace=True),
            )  # fmt: skip

        before = (1, *features[:-1])
        stages = zip(before, features, strides, strict=True)
        self.down = nn.ModuleList(nn.Sequential(block(i, o, s), block(o, o)) for i, o, s in stages)
        deep = list(zip(features[:0:-1], features[-2::-1], strides[:0:-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(i, o, s, s) for i, o, s in deep)
        self.again = nn.ModuleList(nn.Sequential(block(2 * o, o), block(o, o)) for _, o, _ in deep)
        self.head = nn.Conv3d(features[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        for up, stage, skip in zip(self.up, self.again, skips[-2::-1], strict=True):
            x = stage(torch.cat([up(x), skip], 1))
        result: Tensor = self.head(x)
        return result


class SqueezeExcite(nn.Module):
    """Channels weighed by what their means say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 3, 1), nn.Conv2d(3, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))))


def inverted(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """A block of EfficientNet: expand, look near, weigh, project."""
    wide = 3 * inputs
    return nn.Sequential(
        nn.Conv2d(inputs, wide, 1), nn.BatchNorm2d(wide), nn.SiLU(),
        nn.Conv2d(wide, wide, 3, stride, 1, groups=wide), nn.BatchNorm2d(wide), nn.SiLU(),
        SqueezeExcite(wide), nn.Conv2d(wide, outputs, 1), nn.BatchNorm2d(outputs),
    )  # fmt: skip


def pyramid(x: Tensor) -> Tensor:
    """What lies around, at four scales."""
    pooled = [F.adaptive_avg_pool2d(x, n) for n in (1, 2, 3, (6, 5))]
    return torch.cat([x, *(F.interpolate(p, x.shape[2:], mode="nearest") for p in pooled)], 1)


def generator(width: int = 8) -> nn.Module:
    """CycleGAN's, smaller."""
    deep = 3 * width // 2

    def block(channels: int) -> nn.Module:
        layers = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]
        again = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]
        return Residual(*layers, nn.ReLU(), *again)

    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, deep, 3, 2, 1), nn.InstanceNorm2d(deep), nn.ReLU(), *(block(deep) for _ in range(3)),
        nn.ConvTranspose2d(deep, width, 3, 2, 1, 1), nn.InstanceNorm2d(width), nn.ReLU(),
        nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh(),
    )  # fmt: skip


#: Model and input shape.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "instance_norms": (lambda: chain(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.LeakyReLU(),
                                     nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4)), (1, 3, 40, 37)),
    "instance_norms_of_images": (lambda: chain(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), nn.GELU()),
                                 (2, 3, 40, 37)),
    "instance_norms_of_lines": (lambda: chain(nn.Conv1d(2, 3, 5), nn.InstanceNorm1d(3)), (2, 2, 900)),
    "channels_last": (lambda: chain(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4), SqueezeExcite(4)).to(
        memory_format=torch.channels_last), (1, 3, 40, 37)),  # type: ignore[call-overload]
    "generator": (generator, (1, 3, 48, 44)),
    "nnunet": (lambda: NNUNet((4, 6, 8), (1, 2, (2, 2, 1))), (1, 1, 24, 16, 20)),
    "efficient": (lambda: chain(nn.Conv2d(3, 8, 3, 2, 1), inverted(8, 8), Residual(inverted(8, 8)),
                                inverted(8, 12, 2), nn.Conv2d(12, 4, 1), nn.Upsample(scale_factor=4)),
                  (1, 3, 64, 56)),
    "classifier": (lambda: chain(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), (2, 3, 64, 56)),
    "group_norms": (lambda: chain(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 3),
                                  nn.GroupNorm(4, 4, affine=False)), (2, 3, 40, 37)),
    "group_norms_of_volumes": (lambda: chain(nn.GroupNorm(1, 2), nn.Conv3d(2, 6, 3), nn.GroupNorm(3, 6)),
                               (1, 2, 12, 14, 20)),
    "layer_norms": (lambda: chain(nn.Conv2d(3, 4, 3), nn.LayerNorm([4, 78, 75]), nn.Conv2d(4, 4, 3),
                                  nn.LayerNorm([76, 73]), nn.LayerNorm([4, 76, 73], bias=False)),
                    (2, 3, 80, 77)),
    "layer_norms_of_lines": (lambda: chain(nn.Conv1d(2, 3, 5), nn.LayerNorm(4996), nn.Conv1d(3, 2, 5)),
                             (1, 2, 5000)),
    "pyramid": (lambda: chain(nn.Conv2d(3, 4, 3), Function(pyramid), nn.Conv2d(20, 3, 3)), (1, 3, 50, 44)),
    "largest": (lambda: Function(lambda x: x / x.amax((2, 3), keepdim=True) - x.min()), (2, 3, 30, 31)),
    "two_pools": (lambda: Function(lambda x: x * (F.adaptive_max_pool2d(x, 1) + F.adaptive_avg_pool2d(x, 1))),
                  (2, 3, 30, 31)),
    "sums": (lambda: Function(lambda x: x - x.sum((2, 3), keepdim=True) / 1000), (1, 3, 200, 331)),
    "attention": (lambda: Function(lambda x: F.instance_norm(x) + x.flatten(2).softmax(2).view_as(x)),
                  (1, 3, 30, 31)),
}  # fmt: skip
