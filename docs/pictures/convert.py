"""Draw the pictures of the guide to exact rewrites: ``python docs/pictures/convert.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import nn

from outstride import convert
from outstride.output.files import write_whole

HERE = Path(__file__).resolve().parent
PHASES = ListedColormap(["#ffffff", "#0b6e99", "#e0a458", "#8ab17d", "#b56576"])
FORMS = {"as it is": "#0b6e99", "zeros inserted": "#c1440e", "sub-pixel": "#8ab17d"}
LAYERS = {
    "DCGAN k4 s2": (nn.ConvTranspose2d(64, 3, 4, stride=2, padding=1, device="meta"), 32),
    "CycleGAN k3 s2": (nn.ConvTranspose2d(128, 64, 3, 2, 1, 1, device="meta"), 128),
    "FSRCNN k9 s3": (nn.ConvTranspose2d(56, 1, 9, 3, 4, 2, device="meta"), 64),
    "FCN-8s k16 s8": (nn.ConvTranspose2d(21, 21, 16, 8, 4, device="meta"), 32),
    "U-Net k2 s2": (nn.ConvTranspose2d(128, 64, 2, 2, device="meta"), 64),
}


def board(ax: object, cells: np.ndarray, title: str) -> None:
    """One grid of cells, coloured by phase; white is a zero."""
    ax.imshow(cells, cmap=PHASES, vmin=0, vmax=4)  # type: ignore[attr-defined]
    ax.set_xticks(np.arange(-0.5, cells.shape[1]), [])  # type: ignore[attr-defined]
    ax.set_yticks(np.arange(-0.5, cells.shape[0]), [])  # type: ignore[attr-defined]
    ax.grid(color="#444444", lw=0.6)  # type: ignore[attr-defined]
    ax.tick_params(length=0)  # type: ignore[attr-defined]
    ax.set_title(title, fontsize=9)  # type: ignore[attr-defined]


def draw_forms() -> Figure:
    """What each form hands on, for a layer of kernel 4 and stride 2 with padding 1 on 4 x 4 elements."""
    layer = nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.ones(1, 1, 4, 4)
    parts = convert.to_conv(layer)
    bordered = parts.border(parts.insert_zeros(x))[0, 0].numpy()  # type: ignore[operator]
    form = convert.to_subpixel(layer)
    channels = form.conv(x)[0]  # type: ignore[operator]
    numbered = torch.arange(1.0, 5).view(1, 4, 1, 1).expand(1, *channels.shape)
    shuffled = form.crop(form.shuffle(numbered))[0, 0].numpy()  # type: ignore[operator]
    figure = Figure(figsize=(11.5, 3.1), layout="constrained")
    first, second, *rest = figure.subplots(1, 7, width_ratios=(1, 2.2, 1, 1, 1, 1, 1.9))
    board(first, np.ones((4, 4)), "input")
    board(second, bordered, f"zeros inserted, border: {bordered.shape[0]} x {bordered.shape[1]}")
    for number, ax in enumerate(rest[:4]):
        board(ax, np.full(channels.shape[1:], number + 1), f"sub-pixel\nchannel {number}")
    board(rest[4], shuffled, "shuffled and cropped:\nthe output of every form")
    return figure


def draw_costs() -> Figure:
    """Multiply-adds and memory between the parts of each form, against the layer itself."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = np.arange(len(LAYERS))
    for number, (form, colour) in enumerate(FORMS.items()):
        costs = [
            convert.compare(layer, (1, layer.in_channels, side, side)) for layer, side in LAYERS.values()
        ]
        rows = [next(one for one in cost.forms if one.name == form) for cost in costs]
        times = [
            row.multiply_adds / cost.forms[0].multiply_adds for row, cost in zip(rows, costs, strict=True)
        ]
        left.bar(places + 0.27 * (number - 1), times, 0.25, color=colour, label=form)
        right.bar(
            places + 0.27 * (number - 1), [row.passing_bytes / 2**20 for row in rows], 0.25, color=colour
        )
    for ax, title in (
        (left, "multiply-adds, times those of the layer itself"),
        (right, "handed between parts, MiB"),
    ):
        ax.set_xticks(places, list(LAYERS), rotation=18, ha="right", fontsize=8)
        ax.set_title(title, fontsize=9)
    left.set_yscale("log")
    left.set_yticks((1, 2, 4, 10, 20, 60), ("1", "2", "4", "10", "20", "60"))
    left.minorticks_off()
    left.legend(fontsize=8)
    return figure


def main() -> None:
    for name, figure in (("forms", draw_forms()), ("costs", draw_costs())):
        path = HERE / f"convert-{name}.png"
        write_whole(path, lambda beside, drawn=figure: drawn.savefig(beside, format="png", dpi=110))
        print(f"saved: {path.name}")  # noqa: T201


if __name__ == "__main__":
    main()
