"""Networks for the laws of compiled models: each small, with one way in which operators meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two layers and what went in, added."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) if norm else nn.Identity() for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        made = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(made + x)


class Branches(nn.Module):
    """A vocoder's block: activations before layers, branches summed and divided."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose1d(channels, channels, 4, 2, 1)
        self.branches = nn.ModuleList(
            nn.Conv1d(channels, channels, k, padding=d * (k - 1) // 2, dilation=d)
            for k, d in ((3, 1), (7, 3))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(F.leaky_relu(x, 0.1))
        total = sum(branch(F.leaky_relu(x, 0.1)) + x for branch in self.branches)
        return torch.tanh(F.leaky_relu(total / len(self.branches)))


class Skips(nn.Module):
    """A small U-Net: pooling, a transposed layer, concatenation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(True)
        )
        self.low = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU6())
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, 2)
        self.out = nn.Sequential(nn.Conv2d(2 * channels, channels, 3, padding=1), nn.PReLU(channels))

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        made: Tensor = self.out(torch.cat([high, self.up(self.low(high))], 1))
        return made


class Shared(nn.Module):
    """One layer in two places, two inputs, a dict of results."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        self.slope = nn.PReLU()

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        a, b = self.slope(self.layer(x)), F.hardswish(self.layer(y))
        return {"sum": a + 2 * b, "again": self.layer(a) - b, "a": a}


def instance_norms() -> nn.Module:
    """Norms whose statistics are those of the input, between padding layers."""
    return nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(True),
        nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.2, True),
        nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.GroupNorm(2, 4), nn.Hardtanh(),
    )  # fmt: skip


def mobile() -> nn.Module:
    """Depthwise and pointwise layers with norms and activations that end."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(True),
        nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.Hardswish(),
        nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24), nn.SiLU(),
        nn.Conv2d(24, 24, 5, 2, 2, groups=24), nn.Hardsigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, 5),
    )  # fmt: skip


class Gate(nn.Module):
    """Channels scaled by what their means say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, 4, 1), nn.SiLU(), nn.Conv2d(4, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x * self.inner(x.mean((2, 3), keepdim=True))
        return made


def gates() -> nn.Module:
    """Activations that torch computes in vectors, where they fill them and where not."""
    return nn.Sequential(
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU(), Gate(16),
        nn.Conv2d(16, 8, 1), nn.SiLU(), nn.Conv2d(8, 3, (2, 3)), nn.SiLU(), nn.Conv2d(3, 16, 1), nn.Sigmoid(),
        nn.Conv2d(16, 5, 1), nn.ELU(), nn.Conv2d(5, 16, 2), nn.SELU(), nn.CELU(0.6),
    )  # fmt: skip


def borders() -> nn.Module:
    """Padding that layers apply themselves."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.Mish(),
        nn.Conv2d(4, 4, 3, padding=2, padding_mode="circular", dilation=2), nn.GELU(),
        nn.Conv2d(4, 4, 4, padding="same"), nn.Sigmoid(),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"), nn.AvgPool2d(2),
    )  # fmt: skip


def paddings() -> nn.Module:
    """Padding layers between layers of one axis, as vocoders have them."""
    return nn.Sequential(
        nn.ReflectionPad1d(3), nn.Conv1d(3, 4, 7), nn.LeakyReLU(0.2), nn.ReplicationPad1d((2, 1)),
        nn.Conv1d(4, 4, 3), nn.ConstantPad1d(2, 0.5), nn.ConvTranspose1d(4, 3, 4, 2, 1),
    )  # fmt: skip


def volumes() -> nn.Module:
    """Three axes."""
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.LeakyReLU(0.01),
        nn.MaxPool3d(2), nn.ConvTranspose3d(8, 4, 2, 2), nn.ReLU(),
    )  # fmt: skip


def shuffle() -> nn.Module:
    """Upsampling without a transposed layer."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(4, 3, 5, padding=2),
        nn.Upsample(scale_factor=2), nn.Conv2d(3, 3, 3, padding=1),
    )  # fmt: skip


class Resizing(nn.Module):
    """The ways in which torch resizes, between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        size = (2 * x.shape[2] + 1, x.shape[3])
        x = F.interpolate(self.layers[0](x), scale_factor=1.5, mode="nearest")
        x = F.interpolate(F.relu(self.layers[1](x)), size=size, mode="bilinear")
        x = F.interpolate(self.layers[2](x), scale_factor=(2.0, 0.6), mode="bicubic", align_corners=True)
        return F.interpolate(self.layers[3](x), size=size, mode="nearest-exact")


class Groups(nn.Module):
    """A block of a segmentation network of volumes: group norms behind layers, a sum, resizing, means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv3d(channels, channels, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList([nn.GroupNorm(4, channels), nn.GroupNorm(2, channels, affine=False)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made = F.relu(self.norms[0](self.layers[0](x)))
        made = self.norms[1](self.layers[1](made)) + x
        return F.interpolate(made, scale_factor=2.0, mode="trilinear"), F.adaptive_avg_pool3d(made, 1)


class Permuted(nn.Module):
    """A layer of many channels, whose norm and matrix want channels last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.matrix = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.matrix(self.norm(self.layer(x).permute(0, 2, 3, 1)))
        return x + made.permute(0, 3, 1, 2)


class Tokens(nn.Module):
    """Half a transformer's block: a norm, features that widen and narrow, scaled and added."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm, self.scale = nn.LayerNorm(features), nn.Parameter(torch.rand(features))
        self.wide, self.narrow = nn.Linear(features, 3 * features), nn.Linear(3 * features, features)
        self.drop, self.head = nn.Dropout(0.0), nn.Linear(features, 9, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made = self.drop(self.narrow(self.drop(F.hardswish(self.wide(self.norm(x))))))
        made = x + self.scale * made
        return made, F.relu(self.head(made.mean(1)))


class Stage(nn.Module):
    """A ConvNeXt block: features between permutations, a scale of channels and the image added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, channels, 2, 2), nn.LayerNorm(channels)
        self.layer = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.wide, self.narrow = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.scale = nn.Parameter(torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        made = self.narrow(F.gelu(self.wide(self.layer(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
        return F.relu(made * self.scale.view(-1, 1, 1) + x)


def perceptron() -> nn.Module:
    """Rows of features alone: steps on them and before them, a norm, a layer of few features."""
    return nn.Sequential(
        nn.Linear(24, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 16), nn.LeakyReLU(0.2),
        nn.Linear(16, 8), nn.SiLU(), nn.Linear(8, 3), nn.Tanh(),
    )  # fmt: skip


class Windows(nn.Module):
    """Features of windows, whose rows are put in another order before they are added."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(features, features), nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tiles = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        made = self.outer(F.relu(self.inner(tiles))) + tiles
        back: Tensor = made.reshape(n, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4)
        return back.reshape(n, c, h, w) * 0.5 + x


@dataclass(frozen=True)
class Network:
    """What makes a model, and the shapes of its inputs."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    tokens: bool = False
    """Whether features are last: larger inputs have more rows of them."""

    def build(self) -> nn.Module:
        """The same model each time, its norms as after some training."""
        torch.manual_seed(0)
        model = self.make()
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                nn.init.normal_(module.running_mean)  # type: ignore[arg-type]  # these norms have one
                nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
                nn.init.normal_(module.weight, 1.0)
                nn.init.normal_(module.bias)
        return model.eval()

    def inputs(self, seed: int = 1, batch: int = 0, more: int = 0) -> list[Tensor]:
        """Inputs of the shapes, or with another batch, or so much larger."""
        generator = torch.Generator().manual_seed(seed)
        return [
            torch.randn((batch or n, *self._larger(size, more)), generator=generator)
            for n, *size in self.shapes
        ]

    def _larger(self, size: list[int], more: int) -> list[int]:
        kept, grown = (size[1:], size[:1]) if self.tokens else (size[:1], size[1:])
        larger = [n + more for n in grown]
        return [*larger, *kept] if self.tokens else [*kept, *larger]


NETWORKS = {
    "residual": Network(lambda: Residual(16, norm=True), ((2, 16, 15, 17),)),
    "plain residual": Network(lambda: Residual(4, norm=False), ((1, 4, 9, 8),)),
    "branches": Network(lambda: Branches(8), ((1, 8, 33),)),
    "skips": Network(lambda: Skips(8), ((1, 3, 16, 20),)),
    "shared": Network(Shared, ((1, 4, 8, 8), (1, 4, 8, 8))),
    "instance norms": Network(instance_norms, ((2, 3, 14, 12),)),
    "mobile": Network(mobile, ((2, 3, 24, 32),)),
    "resizing": Network(Resizing, ((2, 3, 12, 14),)),
    "gates": Network(gates, ((1, 16, 16, 8),)),
    "borders": Network(borders, ((1, 3, 12, 14),)),
    "permuted": Network(lambda: Permuted(12), ((2, 12, 9, 7),)),
    "tokens": Network(lambda: Tokens(16), ((2, 11, 16),), tokens=True),
    "stage": Network(lambda: Stage(16), ((1, 3, 20, 16),)),
    "perceptron": Network(perceptron, ((6, 24),)),
    "windows": Network(lambda: Windows(12), ((2, 12, 8, 6),)),
    "paddings": Network(paddings, ((2, 3, 21),)),
    "volumes": Network(volumes, ((1, 1, 8, 6, 10),)),
    "groups": Network(lambda: Groups(8), ((2, 8, 5, 6, 7),)),
    "shuffle": Network(shuffle, ((1, 3, 10, 9),)),
}
