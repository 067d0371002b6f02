"""Draw the picture of the guide to compiled models: ``python docs/pictures/compiled.py``.

One U-Net's values between launches, as long as they are needed: operator by operator with a place for each,
and as ``torch.compile(model, backend="outstride")`` runs them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor, nn

from outstride.compilation.arena import Lifetime, MemoryPlan
from outstride.compilation.backend import Options, compiled
from outstride.compilation.fusing import Fusion
from outstride.compilation.running import Program
from outstride.compilation.stages import Stage
from outstride.output.files import write_whole

HERE = Path(__file__).resolve().parent
INK = "#222222"
COLOURS = {
    "conv": "#9ecae1", "conv_transpose": "#fdd0a2", "pool": "#a1d99b", "join": "#dadaeb",
    "pointwise": "#f7b6b2",
}  # fmt: skip
MEANT = {
    "conv": "convolution", "conv_transpose": "transposed", "pool": "pooling", "join": "concatenation",
    "pointwise": "norm or ReLU",
}  # fmt: skip


class UNet(nn.Module):
    """Three scales, two layers each with batch norm and ReLU; skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(self.twice(*channels) for channels in ((3, 16), (16, 32), (32, 64)))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, 2) for n in (32, 16))
        self.merge = nn.ModuleList(self.twice(2 * n, n) for n in (32, 16))
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.down[0](x)]
        for layers in list(self.down)[1:]:
            kept.append(layers(nn.functional.max_pool2d(kept[-1], 2)))
        y = kept.pop()
        for up, merge in zip(self.ups, self.merge, strict=True):
            y = merge(torch.cat([kept.pop(), up(y)], 1))
        result: Tensor = self.head(y)
        return result

    @staticmethod
    def twice(given: int, made: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(given, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU(),
            nn.Conv2d(made, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU(),
        )  # fmt: skip


def planned(fuse: bool) -> tuple[tuple[Stage, ...], MemoryPlan]:
    """The launches of the model, views left out, and the memory plan of its values."""
    found = list[tuple[Fusion, Program]]()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        return compiled(graph, inputs, Options(fuse=fuse), lambda *made: found.append(made))

    torch.compiler.reset()
    with torch.no_grad():
        torch.compile(UNet().eval(), backend=backend)(torch.zeros(1, 3, 128, 128))
    ((fusion, program),) = found
    (plan,) = program.plans
    return fusion.stages, plan


def apart(plan: MemoryPlan) -> list[tuple[Lifetime, int]]:
    """The values one above the other."""
    places, before = list[tuple[Lifetime, int]](), 0
    for value, _ in plan.places:
        places.append((value, before))
        before += value.size_bytes
    return places


def draw(axes: Axes, stages: tuple[Stage, ...], places: list[tuple[Lifetime, int]]) -> None:
    """A rectangle for each value: from the launch that makes it to the last that reads it, over its bytes."""
    lines = [n for n, stage in enumerate(stages) if stage.takes_out]
    number = {line: place for place, line in enumerate(lines)}

    def width(value: Lifetime) -> int:
        return number[value.line], max(place for line, place in number.items() if line <= value.last)

    for value, at in places:
        first, last = width(value)
        label = stages[value.line].label
        corner, size = (first - 0.45, at / 1e6), (last - first + 0.9, value.size_bytes / 1e6)
        line = 2 if value.inside is not None else 0
        axes.add_patch(
            Rectangle(corner, *size, facecolor=COLOURS[label], edgecolor=INK, lw=0.6, zorder=1 + line)
        )
    axes.set_xlim(-0.8, len(lines) - 0.2)


def make(folder: Path) -> None:
    """Two plans side by side."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    stages, plan = planned(fuse=False)
    draw(left, stages, apart(plan))
    high = sum(value.size_bytes for value, _ in plan.places) / 1e6
    count = sum(stage.takes_out for stage in stages)
    left.set_title(
        f"by operators, each value apart: {count} launches, {high:.1f} MB", fontsize=10, loc="left"
    )
    stages, plan = planned(fuse=True)
    draw(right, stages, list(plan.places))
    count = sum(stage.takes_out for stage in stages)
    right.set_title(
        f"fused and planned: {count} launches, {plan.size_bytes / 1e6:.1f} MB", fontsize=10, loc="left"
    )
    left.set_ylabel("place in memory, MB")
    left.set_ylim(0, high * 1.02)
    for axes in (left, right):
        axes.set_xlabel("launch")
    shown = [Patch(facecolor=COLOURS[label], edgecolor=INK, label=words) for label, words in MEANT.items()]
    figure.legend(handles=shown, loc="outside lower center", ncols=len(shown), fontsize=9, frameon=False)
    write_whole(folder / "compile-memory.png", lambda beside: figure.savefig(beside, dpi=110, format="png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the picture of the guide to compiled models.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the picture")
    make(parser.parse_args().out)
