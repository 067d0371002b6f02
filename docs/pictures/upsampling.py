"""The pictures of the fifth tutorial: overlaps, and what is said to cure checkerboards, measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cells
import numpy as np
import photograph
import torch
from cells import Sheet
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from outstride import ConvSpec, artifacts, nn

SEEDS, SIDE = 11, 120
STEPS = ((30, "#e08a2c"), (150, "#1f6fb4"))
FAINTEST = 1e-4
Build = Callable[[], torch.nn.Module]
Cure = Callable[[torch.nn.Sequential], object]
Row = tuple[str, int, Build, Cure | None]


def transposed(kernel: int, stride: int, padding: int | str = "same") -> Build:
    return lambda: nn.ConvTranspose2d(16, 1, kernel, stride=stride, padding=padding)


def bilinear() -> torch.nn.Module:
    """A transposed layer of kernel 4 and stride 2 that begins as bilinear enlargement of each channel."""
    layer = nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1)
    tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.mul_(0).add_(torch.randn(16, 1, 1, 1) / 4 * torch.outer(tent, tent))
    return layer


def resized() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(16, 1, 3, padding=1)
    )


def sub_pixel() -> torch.nn.Module:
    return torch.nn.Sequential(nn.Conv2d(16, 4, 3, padding=1), torch.nn.PixelShuffle(2))


def train(build: Build, stride: int, seed: int, steps: int = 150) -> tuple[torch.nn.Sequential, Tensor]:
    """Teach a small network to enlarge the photograph; return it and its input."""
    truth = photograph.grey(SIDE)
    small = F.avg_pool2d(truth, stride)
    torch.manual_seed(seed)
    network = torch.nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU(), build())
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(*_same_middle(network(small), truth)).backward()
        optimizer.step()
    return network, small


def pattern(network: torch.nn.Module, small: Tensor, stride: int) -> float:
    """Root mean square of what repeats with the stride in the network's picture, its border left out."""
    with torch.no_grad():
        result = _middle(network(small), SIDE)
    return artifacts.measure(result[..., 4:-4, 4:-4], stride).amplitude


def measured(build: Build, stride: int, cure: Cure | None, steps: int) -> list[float]:
    """The pattern for every seed, after so many steps and then the cure."""
    found = []
    for seed in range(SEEDS):
        network, small = train(build, stride, seed, steps)
        if cure is not None:
            cure(network)
        found.append(pattern(network, small, stride))
    return found


def _middle(picture: Tensor, side: int) -> Tensor:
    cut = (picture.shape[-1] - side) // 2
    return picture[..., cut : cut + side, cut : cut + side] if cut > 0 else picture


def _same_middle(result: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    side = min(result.shape[-1], truth.shape[-1])
    return _middle(result, side), _middle(truth, side)


def equalize(network: torch.nn.Sequential) -> None:
    artifacts.equalize_(network[2])


def smoothed(network: torch.nn.Sequential) -> None:
    network[2] = artifacts.smooth(network[2])


PANELS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        "larger stride (kernel 3)",
        tuple((f"stride {s}", s, transposed(3, s), None) for s in (2, 3, 4)),
    ),
    (
        "smaller kernel (stride 2)",
        tuple((f"kernel {k}", 2, transposed(k, 2), None) for k in (6, 5, 4, 3, 2, 1)),
    ),
    (
        "more padding (kernel 4, stride 2)",
        tuple((f"padding {p}", 2, transposed(4, 2, p), None) for p in (0, 1, 2, 3)),
    ),
    (
        "what helps (stride 2)",
        (
            ("kernel 3", 2, transposed(3, 2), None),
            ("  + equalize_", 2, transposed(3, 2), equalize),
            ("kernel 4", 2, transposed(4, 2), None),
            ("  + equalize_", 2, transposed(4, 2), equalize),
            ("  + smooth", 2, transposed(4, 2, 1), smoothed),
            ("icnr_ before", 2, lambda: artifacts.icnr_(transposed(4, 2)()), None),
            ("bilinear before", 2, bilinear, None),
            ("sub-pixel", 2, sub_pixel, None),
            ("sub-pixel, icnr_", 2, lambda: artifacts.icnr_(sub_pixel()), None),
            ("resize + conv", 2, resized, None),
        ),
    ),
)


def cures() -> Figure:
    """The pattern that is left after 30 and after 150 steps, for every seed, and its median as a bar."""
    figure = Figure(figsize=(10.4, 6.0), facecolor="white")
    places = (
        (0.07, 0.63, 0.2, 0.3),
        (0.31, 0.63, 0.38, 0.3),
        (0.73, 0.63, 0.26, 0.3),
        (0.07, 0.13, 0.92, 0.32),
    )
    for place, (title, rows) in zip(places, PANELS, strict=True):
        axes = figure.add_axes(place)
        for side, (steps, colour) in zip((-0.2, 0.2), STEPS, strict=True):
            for number, (_, stride, build, cure) in enumerate(rows):
                found = np.maximum(measured(build, stride, cure, steps), FAINTEST)
                middle = float(np.median(found))
                axes.plot([number + side] * len(found), found, "o", color=colour, alpha=0.3, ms=4)
                axes.plot([number + side - 0.17, number + side + 0.17], [middle] * 2, color=colour, lw=3)
            axes.plot([], [], color=colour, lw=3, label=f"{steps} steps")
        axes.set_yscale("log")
        axes.set_ylim(FAINTEST / 1.3, 1)
        axes.set_xticks(range(len(rows)), [row[0] for row in rows], fontsize=8, rotation=20)
        axes.tick_params(axis="y", labelsize=8)
        axes.set_title(title, fontsize=9)
        axes.grid(axis="y", alpha=0.3)
    for axes in (figure.axes[0], figure.axes[3]):
        axes.set_ylabel("pattern, root mean square", fontsize=8)
    figure.axes[3].legend(fontsize=8, loc="upper right")
    return figure


def overlaps() -> Sheet:
    """How many stamps meet each output: a 3 x 3 input under three kernels."""
    sheet = Sheet(12.6, 29.4, unit=0.34)
    left, counts_colours = 0.3, {0: "#ffffff", 1: "#dcebf8", 2: "#a9cdee", 4: "#5f9fd6"}
    for kernel, stride in ((4, 2), (3, 2), (3, 4)):
        spec = ConvSpec("conv_transpose", (kernel, kernel), stride)
        counts = artifacts.overlap(spec, (3, 3)).counts
        sheet.cells(counts, 0.3, left, lambda place, counts=counts: counts_colours[int(counts[place])])  # type: ignore[misc]
        sheet.text(f"kernel {kernel}, stride {stride}", len(counts) + 1.0, left + len(counts) / 2, size=1.1)
        left += len(counts) + 1.2
    return sheet


def faces() -> Figure:
    """What the networks draw: the middle of the photograph, by six upsamplers."""
    shown: list[tuple[str, Tensor]] = [("truth", photograph.grey(SIDE)[..., 34:82, 36:84])]
    for title, stride, build, cure in (
        ("kernel 3, stride 4", 4, transposed(3, 4), None),
        ("kernel 1, stride 2", 2, transposed(1, 2), None),
        ("kernel 2, stride 2", 2, transposed(2, 2), None),
        ("kernel 4, stride 2, smooth", 2, transposed(4, 2, 1), smoothed),
        ("resize + conv", 2, resized, None),
    ):
        network, small = train(build, stride, seed=0)
        if cure is not None:
            cure(network)
        shown.append((title, network(small).detach()[..., 34:82, 36:84]))
    return photograph.row(shown, height=2.2, limits=(0.0, 1.0))


def make(folder: Path) -> None:
    overlaps().save(folder / "upsampling-overlap.png")
    cells.write(faces(), folder / "upsampling-faces.png")
    cells.write(cures(), folder / "upsampling-cures.png")
