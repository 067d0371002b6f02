"""The demo from the photograph to the saved pictures, and what it tells while it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

import outstride
from outstride.demo import data, pictures, report
from outstride.demo.network import SuperResolution
from outstride.demo.training import Budget, Training, train
from outstride.output.files import check_writable

PICTURES = ("panel.png", "timing.png", "enlarged.png")


@dataclass(frozen=True)
class Options:
    """What a user chooses."""

    out: Path
    image: Path | None = None
    scale: int = 2
    seed: int = 0
    budget: Budget = Budget(70.0)  # noqa: RUF009 - frozen, so one object serves everybody


class Screen(Protocol):
    """Who is told how far it is."""

    def say(self, text: str) -> None: ...
    def training(self, used: float, steps: int, loss: float) -> None: ...
    def trained(self) -> None: ...


@dataclass(frozen=True)
class Result:
    """Everything the demo found, and the files it left."""

    photo: data.Photo
    training: Training
    quality: report.Quality
    layers: list[report.LayerTime]
    files: list[Path]

    def to_dict(self) -> dict[str, Any]:
        return {
            "photo": self.photo.credit,
            "held_out": asdict(self.photo.held_out),
            "training": asdict(self.training),
            "psnr_of": "luma (BT.601) of the held-out region",
            "bicubic_db": _finite(self.quality.bicubic_db),
            "network_db": _finite(self.quality.network_db),
            "threads": torch.get_num_threads(),
            "layers": [asdict(row) for row in self.layers],
            "files": [str(path) for path in self.files],
        }


def _finite(decibels: float) -> float | None:
    """JSON has no infinity, which is what a picture without any error reaches."""
    return decibels if math.isfinite(decibels) else None


def run(options: Options, screen: Screen) -> Result:
    """Train, assess, time and save.

    Args:
        options: the picture, the scale, the seed, the budget and the folder for what is saved.
        screen: is told how far it is.

    Returns:
        The figures and the saved files.

    Raises:
        ArgumentError: the picture is missing, unreadable or too small.
        KeyboardInterrupt: Ctrl-C before the first step, or a second time.
    """
    photo = data.load(options.image, options.scale)
    options.out.mkdir(parents=True, exist_ok=True)
    check_writable(options.out / PICTURES[0])
    screen.say(f"photograph: {photo.credit}, {photo.colour.shape[-1]}x{photo.colour.shape[-2]}")
    torch.manual_seed(options.seed)
    stock = SuperResolution(options.scale)
    # The same parameters, computed by this engine: what it learns, the stock network knows.
    network = outstride.accelerate(stock)
    patches = data.Patches(photo, options.scale, options.seed)
    training = train(network.train(), patches, options.budget, screen.training)
    screen.trained()
    network.eval()
    stock.eval()
    quality = report.assess(network, photo, options.scale)
    screen.say(
        f"{training.steps} steps in {training.seconds:.0f} s; now the layers one by one, then the pictures"
    )
    layers = report.time_layers(network, stock, data.luma(photo.colour))
    return Result(photo, training, quality, layers, _save(options, photo, network, quality, layers))


def _save(
    options: Options,
    photo: data.Photo,
    network: torch.nn.Module,
    quality: report.Quality,
    layers: list[report.LayerTime],
) -> list[Path]:
    threads = torch.get_num_threads()
    savers: tuple[Callable[[Path], None], ...] = (
        lambda path: pictures.save_panel(path, quality, options.scale),
        lambda path: pictures.save_timing(path, layers, threads),
        lambda path: pictures.save_picture(path, report.enlarge(network, photo.colour, options.scale)[0]),
    )
    files = [options.out / name for name in PICTURES]
    for path, save in zip(files, savers, strict=True):
        save(path)
    return files
