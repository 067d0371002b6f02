"""Pictures of overlap maps, ripples and spectra."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from outstride.artifacts.coverage import Overlap
from outstride.artifacts.gain import Ripple
from outstride.artifacts.phases import phased
from outstride.artifacts.spectrum import Floats
from outstride.artifacts.suggestions import EVEN_GAIN
from outstride.artifacts.survey import Survey
from outstride.layer.spec import ConvSpec

MAP, EVEN, UNEVEN = "viridis", "#0b6e99", "#c1440e"
NUMBERED = 24
"""Maps of up to so many elements a side carry their counts as numbers."""


def draw_overlap(found: Sequence[Overlap]) -> Figure:
    """Maps side by side: how many kernel elements meet each position; holes are white."""
    figure = Figure(figsize=(3.0 * len(found), 3.5), layout="constrained")
    panels = np.atleast_1d(np.asarray(figure.subplots(1, len(found))))
    most = max(int(one.counts.max()) for one in found)
    for ax, one in zip(panels, found, strict=True):
        counts = np.atleast_2d(one.counts)
        counts = counts.reshape(-1, counts.shape[-2], counts.shape[-1])[0]
        if not one.whole:
            counts = np.tile(counts, tuple(-(-8 // side) for side in counts.shape))
        ax.imshow(np.ma.masked_equal(counts, 0), cmap=MAP, vmin=0, vmax=most, interpolation="nearest")
        if max(counts.shape) <= NUMBERED:
            for (row, column), count in np.ndenumerate(counts):
                shade = "black" if count == 0 or count > most / 2 else "white"
                ax.text(column, row, str(count), ha="center", va="center", fontsize=7, color=shade)
        state = "even" if one.even else f"{one.holes:.0%} holes" if one.holes else "uneven"
        ax.set_title(f"{_short(one)}\n{one.of}: {state}", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def draw_ripple(found: Sequence[tuple[str, Ripple]]) -> Figure:
    """The gain of each phase in the channel that is worst, side by side on one scale around its mean."""
    figure = Figure(figsize=(3.0 * len(found) + 0.6, 3.4), layout="constrained")
    panels = np.atleast_1d(np.asarray(figure.subplots(1, len(found))))
    boards = []
    for _, one in found:
        gain = one.gain[int(one.per_channel.argmax())].sum(0)
        plane = np.atleast_2d(gain).reshape(-1, *np.atleast_2d(gain).shape[-2:])[0]
        boards.append(plane / (np.abs(plane).mean() or 1))
    reach = max(float(np.abs(board - board.mean()).max()) for board in boards) or 1.0
    for ax, (title, one), board in zip(panels, found, boards, strict=True):
        tiled = np.tile(board - board.mean(), tuple(-(-8 // side) for side in board.shape))
        shown = ax.imshow(tiled, cmap="coolwarm", vmin=-reach, vmax=reach, interpolation="nearest")
        left = "none" if one.value < EVEN_GAIN else f"{one.value:.2g}"
        ax.set_title(f"{title}\nripple of the {one.of}: {left}", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    figure.colorbar(shown, ax=list(panels), shrink=0.8, label="gain beside its mean")
    return figure


def draw_response(layers: Sequence[tuple[str, nn.Module]]) -> Figure:
    """Frequency responses of layers along their last axis; the dashed lines must be met at zero."""
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    ax = figure.subplots()
    strides = set()
    for title, layer in layers:
        laid = phased(layer)
        strides.add(laid.stride[-1])
        size = 512
        # Taps in kernel order along the last axis, summed over the others: what a signal of rows alike meets.
        kernel = laid.rows.unflatten(-1, (-1, ConvSpec.of(laid.layer).kernel_size[-1])).sum(-2).numpy()
        response = np.sqrt((np.abs(np.fft.rfft(kernel, size, axis=-1)) ** 2).mean((0, 1)))
        ax.plot(np.linspace(0, 0.5, size // 2 + 1), response / response[0], label=title)
    for stride in strides:
        for j in range(1, stride // 2 + 1):
            ax.axvline(j / stride, color=UNEVEN, ls="--", lw=1)
    ax.set_xlabel("frequency at the output, in periods per element")
    ax.set_ylabel("response, 1 for a constant")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=8)
    return figure


def draw_spectrum(pictures: Sequence[tuple[str, Any]], stride: int) -> Figure:
    """Pictures above and their spectra below, with the frequencies of a pattern of that period marked."""
    figure = Figure(figsize=(3.2 * len(pictures), 6.6), layout="constrained")
    panels = np.asarray(figure.subplots(2, len(pictures))).reshape(2, -1)
    for column, (title, picture) in enumerate(pictures):
        values = np.asarray(picture, dtype=np.float64)
        values = values.reshape(-1, *values.shape[-2:])
        shown = np.moveaxis(values, 0, -1) if len(values) == len("RGB") else values[0]
        panels[0, column].imshow(np.clip(shown, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        panels[0, column].set_title(title, fontsize=9)
        panels[0, column].set_axis_off()
        _draw_power(panels[1, column], values, stride)
    return figure


def draw_survey(found: Survey) -> Figure:
    """One bar for each layer that changes the resolution: its ripple, and whether its overlap is even."""
    rows = [one for one in found.findings if one.ripple is not None]
    figure = Figure(figsize=(7.5, 0.38 * len(rows) + 1.4), layout="constrained")
    ax = figure.subplots()
    bars = ax.barh(
        range(len(rows)),
        [one.ripple or 0.0 for one in rows],
        color=[EVEN if one.even else UNEVEN for one in rows],
    )
    ax.bar_label(bars, [f"{one.ripple or 0:.2f}" for one in rows], padding=3, fontsize=8)
    ax.set_yticks(range(len(rows)), [f"{one.name} ({one.of})" for one in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.08)
    ax.set_xlabel("ripple of the weights as they are (blue: even overlap, red: uneven)")
    return figure


def _draw_power(ax: Any, values: Floats, stride: int) -> None:
    window = np.multiply.outer(*(np.hanning(side) for side in values.shape[1:]))
    centred = (values - values.mean((1, 2), keepdims=True)) * window
    # From 0 to 1 rather than around 0: the pattern's frequencies lie inside then, and the picture in the
    # corners.
    power = (np.abs(np.fft.fft2(centred)) ** 2).mean(0)
    ax.imshow(np.log10(power + 1e-12 * power.max()), cmap=MAP, extent=(0, 1, 1, 0), interpolation="nearest")
    for row, column in np.ndindex(stride, stride):
        if row or column:
            ax.plot(column / stride, row / stride, "o", mfc="none", mec="white", ms=9, clip_on=False)
    ax.set_xlim(0, 1)
    ax.set_ylim(1, 0)
    ax.set_xlabel("periods per pixel (0 and 1 are the same)", fontsize=8)


def _short(one: Overlap) -> str:
    spec = one.spec
    sizes = {"k": spec.kernel_size, "s": spec.stride, "d": spec.dilation}
    return " ".join(f"{name}{values[0]}" for name, values in sizes.items() if name != "d" or max(values) > 1)


__all__ = ["draw_overlap", "draw_response", "draw_ripple", "draw_spectrum", "draw_survey"]
