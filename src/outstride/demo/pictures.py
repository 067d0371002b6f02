"""Draw what the demo found: a panel of the held-out region and a plot of the layers' times."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from outstride.demo.report import LayerTime, Quality
from outstride.output.files import write_whole

ZOOMED_PART = 3
OURS, THEIRS = "#0b6e99", "#b8b8b8"


def save_panel(path: Path, quality: Quality, scale: int) -> None:
    """Low resolution, bicubic, network and truth; below each the part where bicubic errs most, enlarged."""
    shown = {
        f"low resolution (1/{scale})": F.interpolate(quality.small[None], scale_factor=scale)[0],
        f"bicubic, {quality.bicubic_db:.2f} dB": quality.bicubic,
        f"network, {quality.network_db:.2f} dB": quality.network,
        "truth": quality.truth,
    }
    top, left, side = _worst_part(quality)
    figure = Figure(figsize=(14, 7.4), layout="constrained")
    axes = figure.subplots(2, len(shown))
    for column, (title, picture) in enumerate(shown.items()):
        pixels = _pixels(picture)
        axes[0, column].imshow(pixels, interpolation="nearest")
        axes[0, column].add_patch(
            Rectangle((left - 0.5, top - 0.5), side, side, fill=False, color="white", lw=1)
        )
        axes[0, column].set_title(title)
        axes[1, column].imshow(pixels[top : top + side, left : left + side], interpolation="nearest")
    for ax in axes.flat:
        ax.set_axis_off()
    figure.suptitle("A region that training never saw (PSNR of its brightness)")
    write_whole(path, lambda beside: figure.savefig(beside, format="png", dpi=110))


def save_timing(path: Path, rows: Sequence[LayerTime], threads: int) -> None:
    """One pair of bars a layer, with the ratio beside it."""
    figure = Figure(figsize=(9, 0.55 * len(rows) + 1.6), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(rows))
    ax.barh(places - 0.2, [row.torch_ms for row in rows], 0.38, label="torch", color=THEIRS)
    ax.barh(places + 0.2, [row.outstride_ms for row in rows], 0.38, label="outstride", color=OURS)
    for place, row in zip(places, rows, strict=True):
        longer = max(row.torch_ms, row.outstride_ms)
        ax.annotate(
            f" {row.torch_ms / row.outstride_ms:.2f}x", (longer, place), va="center", annotation_clip=False
        )
    ax.set_yticks(places, [row.name for row in rows])
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.set_xlabel(f"milliseconds, {threads} thread{'s' if threads > 1 else ''}, lower is better")
    ax.legend(loc="best")
    write_whole(path, lambda beside: figure.savefig(beside, format="png", dpi=110))


def save_picture(path: Path, picture: Tensor) -> None:
    """Save a colour picture (3, H, W) in 0 to 1."""
    image = Image.fromarray((_pixels(picture) * 255).round().astype(np.uint8))
    write_whole(path, lambda beside: image.save(beside, format="PNG"))


def _pixels(picture: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return picture.clamp(0, 1).permute(1, 2, 0).numpy()


def _worst_part(quality: Quality) -> tuple[int, int, int]:
    side = max(8, quality.truth.shape[-1] // ZOOMED_PART)
    error = (quality.bicubic - quality.truth).square().mean(0)
    summed = F.avg_pool2d(error[None, None], side, stride=1)[0, 0]
    place = int(summed.argmax())
    return place // summed.shape[1], place % summed.shape[1], side
