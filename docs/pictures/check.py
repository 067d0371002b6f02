"""Draw the picture of the guide to ``check``: ``python docs/pictures/check.py``.

Bars are what `outstride.check` declares, dots what a NaN at each pixel shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor, nn

from outstride import check
from outstride.output.files import write_whole

HERE = Path(__file__).resolve().parent
SIZE = 96
SHOWN = range(36, 60)
COLOURS = ("#9ecae1", "#fdd0a2", "#a1d99b", "#dadaeb")
INK, BAD = "#222222", "#cb181d"


def small_unet(up: dict[str, Any]) -> nn.Module:
    """Two levels down and up, one skip."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.deep = nn.Conv1d(1, 1, 4, 2, 1), nn.Conv1d(1, 1, 4, 2, 1)
            self.up, self.out = nn.ConvTranspose1d(1, 1, **up), nn.ConvTranspose1d(2, 1, **up)

        def forward(self, x: Tensor) -> Tensor:
            kept = self.down(x)
            result: Tensor = self.out(torch.cat([kept, self.up(self.deep(kept))], 1))
            return result

    return Net()


def measured(model: nn.Module) -> Tensor:
    """(inputs, outputs) truth values: where the NaN of an input pixel arrives."""
    x = torch.ones(SIZE, 1, SIZE, dtype=torch.float64)
    x[range(SIZE), 0, range(SIZE)] = torch.nan
    with torch.no_grad():
        return torch.isnan(model.double()(x)[:, 0])


def draw(axes: Axes, title: str, up: dict[str, Any]) -> None:
    """Each output's interval, less its own place, so that an aligned field lies evenly about zero."""
    model = small_unet(up)
    report = check(model, (1, 1, SIZE), sizes=False)
    ((_, field),) = report.output_fields
    arrives = measured(model)
    for q in SHOWN:
        read = field.at(q)
        assert read is not None
        place = float(field.stride) * (q + 0.5) - 0.5
        colour = COLOURS[q % field.period % len(COLOURS)]
        axes.bar(q, read[1] - read[0] + 1, bottom=read[0] - 0.5 - place, width=0.8, color=colour, zorder=1)
        found = arrives[:, q].nonzero().flatten() - place
        axes.plot([q] * len(found), found, ".", color=INK, ms=2.5, zorder=2)
        axes.plot([q - 0.4, q + 0.4], [float(field.offset)] * 2, color=BAD, lw=1.5, zorder=3)
    sizes = ", ".join(map(str, field.sizes))
    axes.set_title(f"{title}: reads {sizes} pixels, offset {field.offset}", fontsize=10, loc="left")
    axes.set_xlabel("output position")
    axes.axhline(0, color=INK, lw=0.5)
    axes.set_ylim(-11, 11)
    axes.set_yticks(range(-8, 9, 4))
    axes.set_xticks([q for q in SHOWN if q % field.period == 0])


def make() -> None:
    """Two decoders of the same size beside each other."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw(left, "kernel 4", {"kernel_size": 4, "stride": 2, "padding": 1})
    draw(right, "kernel 3", {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1})
    left.set_ylabel("pixels read, beside the output's own place")
    shown = [
        *(Patch(color=colour, label=f"phase {phase}") for phase, colour in enumerate(COLOURS)),
        Line2D([], [], marker=".", color=INK, ls="", ms=5, label="a NaN here arrives"),
        Line2D([], [], color=BAD, lw=1.5, label="middle (offset)"),
    ]
    figure.legend(handles=shown, loc="outside lower center", ncols=len(shown), fontsize=9, frameon=False)
    write_whole(HERE / "check-fields.png", lambda beside: figure.savefig(beside, dpi=110, format="png"))


if __name__ == "__main__":
    make()
