"""What runs in tiles take beside what plans say: ``python bench/tiles.py``, minutes on one core.

The table goes into the guide, between its marks. Times are processor times of one thread, the system's among
them: the better of two runs after a first one, which compiles.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from streams import GUIDE, put
from torch import Tensor, nn

from models import (
    AtrousHead,
    LatentDecoder,
    SegResNet,
    UNet,
    UNet3d,
    bigvgan,
    cyclegan,
    fsrcnn,
    hifigan,
    srvgg,
)
from outstride.bench.markdown import cells, head
from outstride.tiling.running import TileRun

BEGIN, END = "<!-- measured beside plans -->", "<!-- end of what is measured beside plans -->"
RUNS = 3


class Block(nn.Module):
    """ConvNeXt's: a depthwise layer, a norm and two linear layers over channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.mix = nn.Sequential(
            nn.LayerNorm(channels), nn.Linear(channels, 4 * channels), nn.GELU(),
            nn.Linear(4 * channels, channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.mix(self.near(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y


def two(channels: int) -> list[nn.Module]:
    """Blocks."""
    return [Block(channels), Block(channels)]


class Excited(nn.Module):
    """EfficientNet's: channels are widened, looked at nearby and weighed by their means."""

    def __init__(self, channels: int, wide: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(
            nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide), nn.SiLU(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide), nn.SiLU(),
        )  # fmt: skip
        self.less, self.more = nn.Conv2d(wide, 8, 1), nn.Conv2d(8, wide, 1)
        self.last = nn.Sequential(nn.Conv2d(wide, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(x)
        weights = self.more(nn.functional.silu(self.less(y.mean((2, 3), keepdim=True)))).sigmoid()
        result: Tensor = x + self.last(y * weights)
        return result


def excited() -> nn.Module:
    """An encoder with squeeze-excite."""
    steps = [nn.Conv2d(16, 32, 3, 2, 1), Excited(32, 96), Excited(32, 96), nn.Conv2d(32, 64, 3, 2, 1)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), Excited(16, 48), *steps, Excited(64, 192))


def dilated() -> nn.Module:
    """DeepLab's head behind a stem, and its classes as large as the picture."""
    stem = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(32, 64, 3, 2, 1)]
    return nn.Sequential(
        *stem, AtrousHead(64, 64, 21, (6, 12, 18)), nn.Upsample(scale_factor=8, mode="bilinear")
    )


def normed(*norms: nn.Module) -> nn.Module:
    """Convolutions of 16 channels with norms between them."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1)]
    for norm in norms:
        layers += [norm, nn.GELU(), nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*layers)


@dataclass(frozen=True)
class Tiled:
    """A model, the shape of its input, and the memory that is named."""

    words: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    memory: str


TILED = {
    "unet": Tiled("U-Net, 32 to 256", lambda: UNet([32, 64, 128, 256], 3, 2), (1, 3, 1536, 1536), "200MB"),
    "unet3d": Tiled("U-Net in 3-d, instance norms", lambda: UNet3d([16, 32, 64], 1, 3),
                    (1, 1, 96, 128, 128), "100MB"),
    "segresnet": Tiled("SegResNet, group norms", lambda: SegResNet(16, 1, 3), (1, 1, 96, 96, 96), "100MB"),
    "cyclegan": Tiled("CycleGAN's generator", lambda: cyclegan()[0], (1, 3, 512, 512), "60MB"),
    "decoder": Tiled("a latent decoder", lambda: LatentDecoder(64, (4, 4, 2, 1)), (1, 4, 40, 40), "300MB"),
    "srvgg": Tiled("SRVGG", lambda: srvgg()[0], (1, 3, 512, 512), "100MB"),
    "fsrcnn": Tiled("FSRCNN", lambda: fsrcnn()[0], (1, 1, 1440, 2560), "60MB"),
    "excited": Tiled("an encoder with squeeze-excite", excited, (1, 3, 2048, 2048), "60MB"),
    "dilated": Tiled("DeepLab's head", dilated, (1, 3, 2048, 2048), "60MB"),
    "convnext": Tiled("ConvNeXt's blocks", lambda: nn.Sequential(nn.Conv2d(3, 48, 4, 4), *two(48)),
                      (1, 3, 2048, 2048), "100MB"),
    "layer_norms": Tiled("layer norms of maps", lambda: normed(*[nn.LayerNorm([1024] * 2)] * 2),
                         (1, 3, 1024, 1024), "60MB"),
    "group_norms": Tiled("group norms", lambda: normed(nn.GroupNorm(4, 16), nn.GroupNorm(4, 16)),
                         (1, 3, 1024, 1024), "100MB"),
    "hifigan": Tiled("HiFi-GAN V1", lambda: hifigan()[0], (1, 80, 1000), "200MB"),
    "bigvgan": Tiled("BigVGAN", lambda: bigvgan()[0], (1, 80, 1000), "60MB"),
}  # fmt: skip


def measured(case: Tiled) -> tuple[float, float]:
    """Seconds as planned, and as taken."""
    torch.manual_seed(0)
    run = TileRun(case.make().eval(), torch.randn(case.shape), None, case.memory)
    out, taken = np.empty(run.plan.output_shape, np.float32), list[float]()
    for _ in range(RUNS):
        begin = time.process_time()
        run(out)
        taken.append(time.process_time() - begin)
    return run.plan.seconds, min(taken[1:])


def table(names: Sequence[str]) -> Iterator[str]:
    """A line for each model, as it is found."""
    yield from head("model", "input", "memory", "planned, s", "taken, s", "taken, planned = 1")
    for name in names:
        case = TILED[name]
        planned, taken = measured(case)
        size = " x ".join(map(str, case.shape[1:]))
        yield cells(case.words, size, case.memory, f"{planned:.2f}", f"{taken:.2f}", f"{taken / planned:.2f}")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, measure, and write the table."""
    parser = argparse.ArgumentParser(description="What runs in tiles take beside what plans say.")
    parser.add_argument("--models", nargs="+", choices=TILED, default=list(TILED), help="default: all")
    parser.add_argument("--guide", type=Path, help=f"the page that the table goes into, such as {GUIDE.name}")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = []
    for line in table(given.models):
        print(line, flush=True)  # noqa: T201
        lines.append(line)
    if given.guide is not None:
        put(lines, given.guide, BEGIN, END)


if __name__ == "__main__":
    main()
