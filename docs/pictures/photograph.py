"""The photograph that comes with matplotlib, and rows of pictures beside each other."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

FACE = (128, 40, 384, 296)


def grey(side: int = 256, box: tuple[int, int, int, int] = FACE) -> Tensor:
    """Rear Admiral Grace Hopper (US Navy, public domain), cut out: (1, 1, side, side) in 0 to 1."""
    from matplotlib import get_data_path

    file = Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(file) as picture:
        square = picture.convert("L").crop(box).resize((side, side), Image.Resampling.LANCZOS)
        values = torch.tensor(list(square.tobytes()), dtype=torch.float32)
    return values.view(1, 1, side, side) / 255


def row(
    pictures: list[tuple[str, Tensor]], height: float = 2.6, limits: tuple[float, float] | None = None
) -> Figure:
    """Pictures of one channel side by side, each in its own range unless limits are given."""
    figure = Figure(figsize=(height * 0.93 * len(pictures), height), facecolor="white")
    for number, (title, picture) in enumerate(pictures):
        axes = figure.add_axes(((number + 0.02) / len(pictures), 0.01, 0.96 / len(pictures), 0.88))
        low, high = limits or (float(picture.min()), float(picture.max()))
        axes.imshow(
            picture.detach().squeeze().numpy(), cmap="gray", vmin=low, vmax=high, interpolation="nearest"
        )
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    return figure
