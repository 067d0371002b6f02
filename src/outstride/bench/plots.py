"""The pictures of a report, drawn from its results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outstride.bench import studies, titles
from outstride.bench.results import Results
from outstride.bench.table import Row, geometric_mean, is_real, is_whole, over
from outstride.output.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, PEER, TORCH = "#c8452c", "#2f5d8a", "#9a9a9a"
DOTS_PER_INCH = 110
# Bars of whole models: ours warm, the others cold; torch as called is the line that they are measured by.
BARS = {
    "outstride_compile": OURS, "outstride": "#e08a76", "outstride_channels_last": "#efbfb3",
    "torch_channels_last": "#c9c9c9", "torch_compile": "#7d97b3", "onnxruntime": PEER, "openvino": "#5f9e6e",
}  # fmt: skip
LONGEST_BAR = 2.0
LEADS = (0.5, 0.7, 1, 1.5, 2, 3, 5, 10)


def family(row: Row) -> str:
    """The model that a layer comes from, without its sizes and variants."""
    case = row.job.case
    name = re.split(r"[(,]| \d", case.model if case is not None else row.job.id)[0].strip()
    name = re.sub(r"^pytorch-3dunet.*", "3-D U-Net", name)
    name = re.sub(
        r" (V\d|x\d|anti-alias.*|like|T|head|mask decoder|simple FPN.*|ResNet-9|IDAUp.*)$", "", name
    )
    return re.sub(r"-(like|34.*|T)$|-like$", "", name) or "others"


def draw(results: Results, folder: Path, prefix: str) -> dict[str, Path]:
    """Draw what the results allow, and return where each picture lies."""
    import matplotlib

    matplotlib.use("Agg")
    rows = [row for row in results.rows if is_real(row)]
    limits = [limit for limit in results.limits if limit["dtype"] == "float32"]
    found: dict[str, Path] = {}
    growth = [row for row in results.rows if row.job.suite == "growth"]
    for name, figure in (
        ("models", models([row for row in results.rows if is_whole(row)])),
        ("roofline", roofline(rows, limits)),
        ("leads", leads(rows)),
        ("families", families(rows)),
        ("growth", growing(growth)),
    ):
        if figure is not None:
            found[name] = folder / f"{prefix}-{name}.png"
            write_whole(found[name], _saver(figure))
    return found


def _saver(figure: Figure) -> Any:
    # The same results give the same bytes: no date, no version.
    return lambda path: figure.savefig(path, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})


def _panels(numbers: Sequence[int], width: float, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(numbers), figsize=(width * len(numbers), height), squeeze=False, layout="constrained"
    )
    pyplot.close(figure)
    for axis, number in zip(axes[0], numbers, strict=True):
        axis.set_title(f"{number} thread" + ("s" if number > 1 else ""))
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[0])


def models(rows: Sequence[Row]) -> Figure | None:
    """For each model the time of everybody as a share of torch's as called: a bar each, short is fast."""
    rows = [row for row in rows if row.median_ms("torch") is not None]
    numbers = sorted({row.threads for row in rows})
    if not numbers:
        return None
    names = list(dict.fromkeys(row.job.id for row in rows))
    who = [name for name in BARS if any(row.median_ms(name) is not None for row in rows)]
    figure, axes = _panels(numbers, 5.6, 1.2 + len(names) * (0.12 * len(who) + 0.12))
    width = 0.86 / max(1, len(who))
    shares = [over(row.median_ms(name), row.median_ms("torch")) for row in rows for name in who]
    longest = min(LONGEST_BAR, max(1.0, *(share or 0.0 for share in shares)))
    for axis, number in zip(axes, numbers, strict=True):
        for row in (row for row in rows if row.threads == number):
            middle = names.index(row.job.id)
            for position, name in enumerate(who):
                share = over(row.median_ms(name), row.median_ms("torch"))
                if share is None:
                    continue
                y = middle + (position - (len(who) - 1) / 2) * width
                axis.barh(y, min(share, LONGEST_BAR), height=0.9 * width, color=BARS[name])
                if share > LONGEST_BAR:
                    axis.text(LONGEST_BAR, y, f" {share:.1f}", fontsize=6, va="center")
        axis.axvline(1, color="black", lw=0.8)
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names), fontsize=8)
        axis.set(xlim=(0, longest * 1.06), ylim=(len(names) - 0.4, -0.6))
        axis.set_xlabel("time as a share of torch's as called: short is fast")
    marks = [_patch(name) for name in who]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _patch(name: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=BARS[name], label=titles.NAMES[name])


def roofline(rows: Sequence[Row], limits: Sequence[dict[str, Any]]) -> Figure | None:
    """Every layer as a point, intensity against rate, under the roofs that the machine has."""
    numbers = sorted({row.threads for row in rows})
    if not numbers:
        return None
    figure, axes = _panels(numbers, 6.2, 4.6)
    for axis, number in zip(axes, numbers, strict=True):
        mine = [row for row in rows if row.threads == number and row.flops and row.bytes]
        xs = [(row.flops or 0) / (row.bytes or 1) for row in mine]
        for colour, label, size, who in (
            (TORCH, "torch, as called", 9, ["torch" if "torch" in row.timings else None for row in mine]),
            (PEER, "fastest other on the layer", 14, [row.best_peer for row in mine]),
            (OURS, "outstride", 18, [row.ours for row in mine]),
        ):
            ys = [row.gflops(name) if name else None for row, name in zip(mine, who, strict=True)]
            seen = [(x, y) for x, y in zip(xs, ys, strict=True) if y]
            if seen:
                at, rates = [x for x, _ in seen], [y for _, y in seen]
                axis.scatter(at, rates, s=size, c=colour, label=label, lw=0, alpha=0.8)
        # From an intensity on at which even the copy in a cache is the limit.
        span = [min(0.5, min(xs) / 1.5), max(xs) * 1.5]
        for limit in limits:
            if limit["threads"] == number and limit["flops"]:
                _roofs(axis, limit, span)
        axis.set(xscale="log", yscale="log", xlim=span, xlabel="useful FLOP for each byte that must move")
        axis.set_ylabel("GFLOP/s")
        axis.legend(loc="lower right", frameon=False, fontsize=8)
    return figure


def _roofs(axis: Axes, limit: dict[str, Any], span: Sequence[float]) -> None:
    peak = limit["flops"] / 1e9
    axis.axhline(peak, color="black", lw=0.8)
    axis.text(span[0] * 1.1, peak * 1.05, f"multiply-adds: {peak:.0f} GFLOP/s", fontsize=8, va="bottom")
    for key, where, style in (("memory", "memory", "-"), ("cache", "a cache", "--")):
        rate = limit[f"{key}_bytes_per_second"]
        if rate:
            xs = [span[0], peak * 1e9 / rate]
            label = f"copying in {where}: {rate / 1e9:.0f} GB/s"
            axis.plot(xs, [x * rate / 1e9 for x in xs], color="black", lw=0.8, ls=style, label=label)


def leads(rows: Sequence[Row]) -> Figure | None:
    """Every layer's lead over the fastest of all others, sorted: what lies below the line is behind."""
    numbers = sorted({row.threads for row in rows})
    if not numbers:
        return None
    figure, axes = _panels(numbers, 6.2, 3.2)
    for axis, number in zip(axes, numbers, strict=True):
        mine = sorted(row.lead for row in rows if row.threads == number and row.lead is not None)
        ahead = sum(lead >= 1 for lead in mine)
        for lead, at in zip(mine, range(len(mine)), strict=True):
            axis.plot([at, at], [1, lead], color=OURS if lead >= 1 else PEER, lw=3, solid_capstyle="butt")
        axis.axhline(1, color="black", lw=0.8)
        axis.set(yscale="log", xlabel=f"layers, sorted: ahead on {ahead} of {len(mine)}")
        axis.set_yticks(LEADS, map(str, LEADS))
        axis.minorticks_off()
        axis.set_xticks([])
    axes[0].set_ylabel("times the fastest of all others")
    return figure


def families(rows: Sequence[Row]) -> Figure | None:
    """For each model the share of the limit: ours as a bar, the fastest others and torch as marks."""
    numbers = sorted({row.threads for row in rows})
    if not numbers:
        return None
    names = sorted({family(row) for row in rows}, key=str.lower, reverse=True)
    figure, axes = _panels(numbers, 5.6, 1.2 + 0.2 * len(names))
    for axis, number in zip(axes, numbers, strict=True):
        mine = [row for row in rows if row.threads == number]
        for y, name in enumerate(names):
            part = [row for row in mine if family(row) == name]
            ours = _share([row.of_limit(row.ours) for row in part if row.ours])
            peers = _share([row.of_limit(row.best_peer) for row in part if row.best_peer])
            torch = _share([row.of_limit("torch") for row in part if "torch" in row.timings])
            axis.barh(y, ours or 0, color=OURS, height=0.62, label="outstride" if y == 0 else None)
            for share, colour, label in ((torch, TORCH, "torch, as called"), (peers, PEER, "fastest others")):
                if share is not None:
                    axis.plot(
                        [share] * 2, [y - 0.42, y + 0.42], color=colour, lw=3, label=label if y == 0 else None
                    )
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [""] * len(names), fontsize=8)
        axis.set(xlim=(0, 105), ylim=(-0.7, len(names) - 0.3), xlabel="% of the limit (geometric mean)")
        axis.axvline(100, color="black", lw=0.8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _share(values: Sequence[float | None]) -> float | None:
    mean = geometric_mean([value for value in values if value])
    return None if mean is None else 100 * mean


def growing(rows: Sequence[Row]) -> Figure | None:
    """The time of each million elements as the input doubles: a level line where cost grows as size does."""
    numbers = sorted({row.threads for row in rows})
    if not numbers:
        return None
    figure, axes = _panels(numbers, 6.2, 4.2)
    colours = {"outstride": OURS, "torch": TORCH, "onnxruntime": PEER, "openvino": "#5f9e6e"}
    for axis, number in zip(axes, numbers, strict=True):
        mine = [row for row in rows if row.threads == number]
        for layer, style in zip(studies.GROWTH, ("-", "--"), strict=True):
            for name in dict.fromkeys(name for row in mine for name in row.timings):
                points = growth_points(mine, layer, name)
                if not points:
                    continue
                per_million = [1e6 * ms / (size / 4) for size, ms in points]
                label, colour = f"{name}, {layer.partition('(')[0]}", colours.get(name, "#b08bbb")
                axis.plot([size for size, _ in points], per_million, style, color=colour, lw=1.4, label=label)
        axis.set(xscale="log", yscale="log", xlabel="bytes of input and output")
        axis.set_ylabel("ms for a million elements")
    axes[-1].legend(frameon=False, fontsize=7)
    return figure


def growth_points(rows: Sequence[Row], layer: str, name: str) -> list[tuple[float, float]]:
    """Bytes of input and output against median milliseconds, sorted."""
    points = []
    for row in rows:
        case, median_ms = row.job.case, row.median_ms(name)
        if case is not None and row.job.id.startswith(layer) and median_ms is not None:
            points.append((4.0 * studies.activations(case), median_ms))
    return sorted(points)
