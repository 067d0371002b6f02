"""Draw the picture of the guide to tiling: ``python docs/pictures/tiling.py``.

One U-Net on one photograph in tiles of 64, three ways; what is shown is the distance from the whole's result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from photograph import grey
from torch import Tensor, nn

from outstride import accelerate
from outstride.output.files import write_whole
from outstride.tiling import tile_run, verify

HERE = Path(__file__).resolve().parent
TILE, OVERLAP = 64, 8
LEAST = 1e-6


class UNet(nn.Module):
    """Four scales, strides down and transposed layers up, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(n, 8, 4, 2, 1) for n in (1, 8, 8))
        self.up = nn.ModuleList(nn.ConvTranspose2d(n, 8, 4, 2, 1) for n in (8, 16, 16))
        self.head = nn.Conv2d(9, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept = [x]
        for layer in self.down:
            kept.append(layer(kept[-1]).relu())
        y = kept.pop()
        for layer in self.up:
            y = torch.cat([layer(y).relu(), kept.pop()], 1)
        result: Tensor = self.head(y)
        return result


def windows(model: nn.Module, x: Tensor, blend: bool) -> Tensor:
    """Overlapping windows, each padded by the layers themselves: cropped to its middle, or averaged."""
    size = x.shape[-1]
    result, weight = torch.zeros_like(x), torch.zeros_like(x)
    for top in range(0, size, TILE):
        for left in range(0, size, TILE):
            a, b = max(top - OVERLAP, 0), min(top + TILE + OVERLAP, size)
            c, d = max(left - OVERLAP, 0), min(left + TILE + OVERLAP, size)
            made = model(x[..., a:b, c:d])
            if not blend:
                made = made[..., top - a : top - a + TILE, left - c : left - c + TILE]
                a, b, c, d = top, top + TILE, left, left + TILE
            result[..., a:b, c:d] += made
            weight[..., a:b, c:d] += 1
    return result / weight


def make() -> None:
    """The whole, and how far each way lies from it."""
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(4)
        model, x = accelerate(UNet().eval()), grey()
        whole = model(x)
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            f"{OVERLAP} pixels around, cropped": lambda x: windows(model, x, blend=False),
            f"overlaps of {2 * OVERLAP}, averaged": lambda x: windows(model, x, blend=True),
            "tile_run": lambda x: tile_run(model, x, tile=TILE, progress=False),
        }
        figure = Figure(figsize=(12, 3.3), layout="constrained")
        first, *rest = figure.subplots(1, 4)
        first.imshow(whole[0, 0], cmap="gray")
        first.set_title("the whole's result", fontsize=10)
        for axes, (name, way) in zip(rest, ways.items(), strict=True):
            found = verify(way, model, x)
            distance = (way(x) - whole)[0, 0].abs() / found.scale
            shown = axes.imshow(
                distance.clamp(min=LEAST).log10(), cmap="magma", vmin=math.log10(LEAST), vmax=-0.5
            )
            said = "every bit agrees" if found else f"off by up to {found.largest / found.scale:.2g}"
            axes.set_title(f"{name}:\n{said}", fontsize=10)
        for axes in (first, *rest):
            axes.set_xticks([])
            axes.set_yticks([])
        bar = figure.colorbar(shown, ax=rest, shrink=0.85, ticks=range(-6, 0))
        bar.ax.set_yticklabels(["0", *(f"$10^{{{power}}}$" for power in range(-5, 0))])
        bar.set_label("distance from the whole, of its largest value", fontsize=9)
    write_whole(HERE / "tiling-seams.png", lambda beside: figure.savefig(beside, dpi=110, format="png"))


if __name__ == "__main__":
    make()
