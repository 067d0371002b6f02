"""Whole models that people run on processors: `outstride bench --models bench/models.py` times them all.

Each function makes one, from its published description, with an input of a size that a core or two can take.
Weights are drawn at random, for only times, memory and roundings are looked at. Those of timm and of
segmentation_models_pytorch are there after `pip install "outstride[models]"`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from outstride.bench.targets import library

Made = tuple[nn.Module, Tensor]


def resnet50() -> Made:
    """ResNet-50, classification: He et al. 2016, https://arxiv.org/abs/1512.03385."""
    return _timm("resnet50")


def mobilenetv2() -> Made:
    """MobileNetV2, classification on phones: Sandler et al. 2018, https://arxiv.org/abs/1801.04381."""
    return _timm("mobilenetv2_100")


def efficientnet_b0() -> Made:
    """EfficientNet-B0, classification: Tan and Le 2019, https://arxiv.org/abs/1905.11946."""
    return _timm("efficientnet_b0")


def convnext_tiny() -> Made:
    """ConvNeXt-T, classification: Liu et al. 2022, https://arxiv.org/abs/2201.03545."""
    return _timm("convnext_tiny")


def unet() -> Made:
    """U-Net, padded and normalised: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597."""
    return UNet([64, 128, 256, 512, 1024], 3, 2), torch.randn(1, 3, 256, 256)


def smp_unet() -> Made:
    """U-Net over ResNet-34, segmentation: https://github.com/qubvel-org/segmentation_models.pytorch."""
    smp = library("segmentation_models_pytorch")
    return smp.Unet("resnet34", encoder_weights=None), torch.randn(1, 3, 256, 256)


def dcgan() -> Made:
    """DCGAN's generator, sixteen pictures: Radford et al. 2016, https://arxiv.org/abs/1511.06434."""
    widths = [100, 512, 256, 128, 64]
    layers: list[nn.Module] = []
    for step, (wide, narrow) in enumerate(pairwise(widths)):
        stride, padding = (1, 0) if step == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(wide, narrow, 4, stride, padding, bias=False)]
        layers += [nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
    layers += [nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh()]
    return nn.Sequential(*layers), torch.randn(16, 100, 1, 1)


def fsrcnn() -> Made:
    """FSRCNN, twice the resolution: Dong et al. 2016, https://arxiv.org/abs/1608.00367."""
    layers = [nn.Conv2d(1, 56, 5, padding=2), nn.PReLU(56), nn.Conv2d(56, 12, 1), nn.PReLU(12)]
    for _ in range(4):
        layers += [nn.Conv2d(12, 12, 3, padding=1), nn.PReLU(12)]
    layers += [
        nn.Conv2d(12, 56, 1),
        nn.PReLU(56),
        nn.ConvTranspose2d(56, 1, 9, 2, padding=4, output_padding=1),
    ]
    return nn.Sequential(*layers), torch.randn(1, 1, 360, 640)


def cyclegan() -> Made:
    """CycleGAN's generator of nine blocks: Zhu et al. 2017, https://arxiv.org/abs/1703.10593."""

    def normed(layer: nn.Module, channels: int) -> list[nn.Module]:
        return [layer, nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]

    layers = [nn.ReflectionPad2d(3), *normed(nn.Conv2d(3, 64, 7), 64)]
    for width in (64, 128):
        layers += normed(nn.Conv2d(width, 2 * width, 3, 2, padding=1), 2 * width)
    layers += [ReflectedBlock(256) for _ in range(9)]
    for width in (256, 128):
        up = nn.ConvTranspose2d(width, width // 2, 3, 2, padding=1, output_padding=1)
        layers += normed(up, width // 2)
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(64, 3, 7), nn.Tanh()]
    return nn.Sequential(*layers), torch.randn(1, 3, 256, 256)


def hifigan() -> Made:
    """HiFi-GAN V1, from a spectrogram to sound: Kong et al. 2020, https://arxiv.org/abs/2010.05646."""
    return Vocoder(512, ((8, 16), (8, 16), (2, 4), (2, 4)), Branch, nn.LeakyReLU(0.1)), torch.randn(1, 80, 64)


def srvgg() -> Made:
    """SRVGGNetCompact, four times the resolution: https://github.com/xinntao/Real-ESRGAN."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), nn.PReLU(64)]
    for _ in range(16):
        layers += [nn.Conv2d(64, 64, 3, padding=1), nn.PReLU(64)]
    layers += [nn.Conv2d(64, 3 * 4 * 4, 3, padding=1), nn.PixelShuffle(4)]
    return nn.Sequential(*layers), torch.randn(1, 3, 128, 128)


def unet3d() -> Made:
    """A 3-d U-Net as nnU-Net makes them: Isensee et al. 2018, https://arxiv.org/abs/1809.10486."""
    return UNet3d([16, 32, 64, 128], 1, 3), torch.randn(1, 1, 64, 64, 64)


def bigvgan() -> Made:
    """BigVGAN, snakes between up- and downsampling, narrow: Lee et al. 2023, https://arxiv.org/abs/2206.04658."""
    ups = ((4, 8), (4, 8), (2, 4), (2, 4), (2, 4), (2, 4))
    return Vocoder(256, ups, SnakeBranch, None), torch.randn(1, 80, 64)


def deeplab_head() -> Made:
    """DeepLabV3's head over a ResNet's features, dilated: Chen et al. 2017, https://arxiv.org/abs/1706.05587."""
    return AtrousHead(2048, 256, 21, (12, 24, 36)), torch.randn(1, 2048, 28, 28)


def segresnet() -> Made:
    """SegResNet, tumours in volumes: Myronenko 2018, https://arxiv.org/abs/1810.11654."""
    return SegResNet(16, 1, 3), torch.randn(1, 1, 64, 64, 64)


def vae_decoder() -> Made:
    """Stable Diffusion's decoder, on a tile: Rombach et al. 2022, https://arxiv.org/abs/2112.10752."""
    return LatentDecoder(128, (4, 4, 2, 1)), torch.randn(1, 4, 12, 12)


def _timm(name: str) -> Made:
    return library("timm").create_model(name), torch.randn(1, 3, 224, 224)


def twice(wide: int, narrow: int) -> nn.Sequential:
    """Convolution, batch norm and ReLU, two times."""

    def once(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, narrow, 3, padding=1), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]

    return nn.Sequential(*once(wide), *once(narrow))


class Joined(nn.Module):
    """What comes down is kept, and joined to what comes up again."""

    first: nn.Module
    down: nn.ModuleList
    up: nn.ModuleList
    join: nn.ModuleList
    last: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        seen = []
        for down in self.down:
            seen.append(x)
            x = down(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([seen.pop(), up(x)], 1))
        y: Tensor = self.last(x)
        return y


class UNet(Joined):
    """Down by max pooling, up by layers of kernel = stride."""

    def __init__(self, widths: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.first = twice(channels, widths[0])
        self.down = nn.ModuleList(nn.Sequential(nn.MaxPool2d(2), twice(*pair)) for pair in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(wide, narrow, 2, 2) for narrow, wide in reversed(pairs))
        self.join = nn.ModuleList(twice(wide, narrow) for narrow, wide in reversed(pairs))
        self.last = nn.Conv2d(widths[0], classes, 1)


class ReflectedBlock(nn.Module):
    """Two convolutions of reflected borders with instance norms, around which the input passes."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def once() -> list[nn.Module]:
            return [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), nn.InstanceNorm2d(channels)]

        self.block = nn.Sequential(*once(), nn.ReLU(inplace=True), *once())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.block(x)
        return y


class Vocoder(nn.Module):
    """Transposed layers that spread a spectrogram in time, after each of them three branches, averaged.

    `between` is the activation before each transposed layer, or None for none, as BigVGAN has it.
    """

    def __init__(
        self,
        width: int,
        ups: Sequence[tuple[int, int]],
        branch: type[nn.Module],
        between: nn.Module | None,
    ) -> None:
        super().__init__()
        self.first = nn.Conv1d(80, width, 7, padding=3)
        self.between = nn.Identity() if between is None else between
        self.up, self.branches = nn.ModuleList(), nn.ModuleList()
        for stride, kernel in ups:
            self.up.append(
                nn.ConvTranspose1d(width, width // 2, kernel, stride, padding=(kernel - stride) // 2)
            )
            width //= 2
            self.branches.append(nn.ModuleList(branch(width, kernel) for kernel in (3, 7, 11)))
        self.before_last = nn.LeakyReLU() if between is not None else Snake(width)
        self.last = nn.Conv1d(width, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for up, branches in zip(self.up, self.branches, strict=True):
            x = up(self.between(x))
            first, *others = cast(nn.ModuleList, branches)
            total = first(x)
            for branch in others:
                total = total + branch(x)
            x = total / (1 + len(others))
        return torch.tanh(self.last(self.before_last(x)))


class Branch(nn.Module):
    """Pairs of a dilated and a plain convolution, around each of which the input passes."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()

        def layer(dilation: int) -> nn.Module:
            padding = dilation * (kernel - 1) // 2
            return nn.Conv1d(channels, channels, kernel, padding=padding, dilation=dilation)

        self.dilated = nn.ModuleList(layer(dilation) for dilation in (1, 3, 5))
        self.plain = nn.ModuleList(layer(1) for _ in range(3))
        self.activations = nn.ModuleList(self.activation(channels) for _ in range(6))

    @staticmethod
    def activation(channels: int) -> nn.Module:
        """What stands before each convolution."""
        del channels
        return nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        for i, (dilated, plain) in enumerate(zip(self.dilated, self.plain, strict=True)):
            y = dilated(self.activations[2 * i](x))
            x = x + plain(self.activations[2 * i + 1](y))
        return x


class SnakeBranch(Branch):
    """The same with snakes."""

    @staticmethod
    def activation(channels: int) -> nn.Module:
        return Snake(channels)


class Snake(nn.Module):
    """x + sin(ax)^2 / a at twice the rate: up by a filter, the function, down by the filter, each channel."""

    TAPS = 12
    filter: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(1, channels, 1))
        # A low-pass filter for half the rate: sinc in a Kaiser window.
        times = torch.arange(self.TAPS) - (self.TAPS - 1) / 2
        low_pass = torch.sinc(times / 2) * torch.kaiser_window(self.TAPS, periodic=False, beta=4.66)
        self.register_buffer("filter", (low_pass / low_pass.sum()).expand(channels, 1, self.TAPS).clone())

    def forward(self, x: Tensor) -> Tensor:
        channels, border = x.shape[1], self.TAPS // 2 - 1
        x = F.pad(x, (border, border), mode="replicate")
        x = 2 * F.conv_transpose1d(x, self.filter, stride=2, groups=channels)
        cut = border * 2 + (self.TAPS - 2) // 2
        x = x[..., cut : x.shape[-1] - cut]
        x = x + torch.sin(self.rate * x).square() / (self.rate + 1e-9)
        x = F.pad(x, (border, border + 1), mode="replicate")
        return F.conv1d(x, self.filter, stride=2, groups=channels)


class UNet3d(Joined):
    """Down by strides in three dimensions, with instance norms and leaky ReLUs."""

    def __init__(self, widths: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.first = self.twice(channels, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv3d(narrow, narrow, 2, 2), self.twice(narrow, wide)) for narrow, wide in pairs
        )
        self.up = nn.ModuleList(nn.ConvTranspose3d(wide, narrow, 2, 2) for narrow, wide in reversed(pairs))
        self.join = nn.ModuleList(self.twice(2 * narrow, narrow) for narrow, _ in reversed(pairs))
        self.last = nn.Conv3d(widths[0], classes, 1)

    @staticmethod
    def twice(wide: int, narrow: int) -> nn.Sequential:
        """Convolution, instance norm and leaky ReLU, two times."""
        layers: list[nn.Module] = []
        for channels in (wide, narrow):
            layers += [nn.Conv3d(channels, narrow, 3, padding=1), nn.InstanceNorm3d(narrow, affine=True)]
            layers += [nn.LeakyReLU(0.01, inplace=True)]
        return nn.Sequential(*layers)


class AtrousHead(nn.Module):
    """One point, three dilations and the mean of all places beside each other; then the classes."""

    def __init__(self, channels: int, width: int, classes: int, dilations: Sequence[int]) -> None:
        super().__init__()

        def layer(wide: int, kernel: int, dilation: int = 1) -> nn.Sequential:
            padding = dilation * (kernel // 2)
            conv = nn.Conv2d(wide, width, kernel, padding=padding, dilation=dilation, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))

        self.beside = nn.ModuleList([layer(channels, 1), *(layer(channels, 3, d) for d in dilations)])
        self.mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), layer(channels, 1))
        self.join = nn.Sequential(layer((2 + len(dilations)) * width, 1), layer(width, 3))
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x).expand(-1, -1, *x.shape[2:])
        y: Tensor = self.last(self.join(torch.cat([*(layer(x) for layer in self.beside), mean], 1)))
        return y


class NormedBlock(nn.Module):
    """Group norm, activation and convolution, twice, around which the input passes; in any dimension."""

    def __init__(
        self, conv: type[nn.Module], wide: int, narrow: int, groups: int, activation: type[nn.Module]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (wide, narrow):
            layers += [nn.GroupNorm(groups, channels), activation(), conv(channels, narrow, 3, padding=1)]
        self.block = nn.Sequential(*layers)
        self.around = conv(wide, narrow, 1) if wide != narrow else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.around(x) + self.block(x)
        return y


class SegResNet(nn.Module):
    """Residual blocks with group norms: down by strides, up by interpolation, sums instead of joins."""

    def __init__(self, width: int, channels: int, classes: int) -> None:
        super().__init__()

        def blocks(width: int, count: int) -> list[nn.Module]:
            return [NormedBlock(nn.Conv3d, width, width, 8, nn.ReLU) for _ in range(count)]

        self.first = nn.Sequential(nn.Conv3d(channels, width, 3, padding=1), *blocks(width, 1))
        self.down, self.up, self.after = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for count in (2, 2, 4):
            strided = nn.Conv3d(width, 2 * width, 3, 2, padding=1)
            width *= 2
            self.down.append(nn.Sequential(strided, *blocks(width, count)))
        for _ in range(3):
            larger = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False)
            self.up.append(nn.Sequential(nn.Conv3d(width, width // 2, 1), larger))
            width //= 2
            self.after.append(nn.Sequential(*blocks(width, 1)))
        self.last = nn.Sequential(nn.GroupNorm(8, width), nn.ReLU(inplace=True), nn.Conv3d(width, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        seen = []
        for down in self.down:
            seen.append(x)
            x = down(x)
        for up, after in zip(self.up, self.after, strict=True):
            x = after(up(x) + seen.pop())
        y: Tensor = self.last(x)
        return y


class Attention(nn.Module):
    """Every place looks at every other, by one head over all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.asked, self.known, self.told, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        asked, known, told = (layer(normed).flatten(2) for layer in (self.asked, self.known, self.told))
        weights = torch.softmax(asked.transpose(1, 2) @ known / math.sqrt(x.shape[1]), -1)
        y: Tensor = x + self.out((told @ weights.transpose(1, 2)).reshape(x.shape))
        return y


class LatentDecoder(nn.Module):
    """From latents of four channels to a picture eight times as large, by blocks and nearest neighbours."""

    def __init__(self, width: int, times: Sequence[int]) -> None:
        super().__init__()

        def block(wide: int, narrow: int) -> nn.Module:
            return NormedBlock(nn.Conv2d, wide, narrow, 32, nn.SiLU)

        wide = width * times[0]
        layers: list[nn.Module] = [nn.Conv2d(4, 4, 1), nn.Conv2d(4, wide, 3, padding=1)]
        layers += [block(wide, wide), Attention(wide), block(wide, wide)]
        for step, factor in enumerate(times):
            if step > 0:
                layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(wide, wide, 3, padding=1)]
            for _ in range(3):
                layers.append(block(wide, width * factor))
                wide = width * factor
        layers += [nn.GroupNorm(32, wide), nn.SiLU(), nn.Conv2d(wide, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y
