"""``explain``: a layer on a small input, step by step, in every view that it has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError
from outstride.explanation import page, player, raster, svg, text
from outstride.explanation.arithmetic import result
from outstride.explanation.example import Channels, Example, example
from outstride.explanation.scene import Scene
from outstride.explanation.views import Views
from outstride.layer.spec import ConvSpec
from outstride.output.files import write_whole

FORMATS = (".gif", ".svg", ".html", ".png")


class Explanation:
    """What a layer does to a small input: scenes by the name of their view; made by ``explain``."""

    def __init__(self, shown: Example, every: Channels | None, notes: Sequence[str]) -> None:
        self.spec, self.example, self.notes = shown.spec, shown, tuple(notes)
        self.views: Mapping[str, Scene] = Views(shown, every, self.notes)
        """``window``, or ``stamps`` and ``zeros``; ``matrix`` where it is small enough; ``short`` where
        outputs share products; ``phases`` of a transposed layer with a stride; ``channels`` where there are
        several; ``gradient``, the way back; ``pair``, a convolution and its transposed one; ``unpool`` of a
        maximum."""
        self.output = result(shown)
        """The layer's result in its first channel."""

    def __repr__(self) -> str:
        return f"<{self.spec!r} at work: {', '.join(self.views)}; see .text(), .save('x.gif')>"

    def chosen(self, view: str | None) -> list[Scene]:
        """The scene of that name, or all of them."""
        if view is None:
            return list(self.views.values())
        if view not in self.views:
            raise ArgumentError(
                f"'view' must be one that this layer has: got {view!r}; legal: {', '.join(self.views)}"
            )
        return [self.views[view]]

    def text(self, view: str | None = None) -> str:
        """Every step of one view, or of all, as lines of figures: ``[`` ``]`` around what is multiplied."""
        parts = [text.scene_text(scene) for scene in self.chosen(view)]
        return "\n\n\n".join([f"{self.spec!r}", *self.notes, *parts])

    def svg(self, view: str | None = None, seconds: float = 1.0) -> str:
        """One view, by default the first, as SVG that moves; ``seconds`` for each step."""
        return svg.svg(self.chosen(view)[0], seconds)

    def html(self, view: str | None = None, seconds: float = 1.0) -> str:
        """One view, or all, as a page of its own, with buttons to step through them."""
        return page.page(repr(self.spec), self.chosen(view), seconds)

    def save(self, path: str | os.PathLike[str], view: str | None = None, seconds: float = 1.0) -> Path:
        """Write a file, whole or not at all.

        Args:
            path: ends in .gif (one view, moving), .svg (the same), .html (all views) or .png (last steps).
            view: the one to show; by default the first in what moves, and all of them in .html and .png.
            seconds: for each step of what moves.

        Returns:
            The path.

        Raises:
            ArgumentError: another ending, no such folder or no such view.
            UnsupportedError: Pillow is not installed, which .gif and .png need.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in FORMATS or not path.absolute().parent.is_dir():
            raise ArgumentError(
                f"'path' must be a file of {', '.join(FORMATS)} in a folder that exists: got {str(path)!r}; "
                "legal: explained.gif"
            )
        chosen = self.chosen(view)
        if suffix == ".html":
            content = self.html(view, seconds).encode()
        elif suffix == ".svg":
            content = svg.svg(chosen[0], seconds).encode()
        else:
            content = raster.gif(chosen[0], seconds) if suffix == ".gif" else raster.png(chosen)
        write_whole(path, lambda beside: beside.write_bytes(content))
        return path

    def _repr_html_(self) -> str:
        return player.player(repr(self.spec), list(self.views.values()), autoplay=True)

    def __str__(self) -> str:
        return self.text()


def explain(layer: Any, input: Any = None) -> Explanation:
    """Show a layer at work on a small input: its window or its stamps, the zeros in between, its matrix.

    Args:
        layer: a convolution, transposed convolution or pooling layer of torch or of this package; a
            ``ConvSpec``; or a layer as torch writes it, ``"ConvTranspose2d(1, 1, 3, stride=2)"``. Without
            weights of its own it gets 1, 2, 3 and so on. Three axes are shown by slices.
        input: numbers, (*size) or with channels and a batch before it, of which the first is shown; a size as
            a tuple, whose numbers count from 1, shuffled for pooling; by default a size that shows it all.

    Returns:
        An ``Explanation``: ``text()``, ``svg()``, ``html()``, ``save("x.gif|svg|html|png")``; in a notebook
        it moves.

    Raises:
        UnsupportedError: a transposed layer with a padding mode.
        ArgumentError: the input has other axes than the layer.
        ShapeError: it is too large to be followed, or leaves no output.

    Law: the last step of every view but ``gradient``, ``pair`` and ``unpool`` is the result of
    ``reference.conv``, ``conv_transpose`` or ``pool``, but for the rounding of numbers that are not whole.

    Example:
        >>> shown = explain("ConvTranspose1d(1, 1, 3, stride=2)", [1, 2])
        >>> shown.output.tolist(), list(shown.views)
        ([1.0, 2.0, 5.0, 4.0, 6.0], ['stamps', 'zeros', 'matrix', 'short', 'phases', 'gradient', 'pair'])
    """
    if isinstance(layer, str):
        spec, weight, bias = ConvSpec.parse(layer, "layer"), None, None
    elif isinstance(layer, ConvSpec):
        spec, weight, bias = layer, None, None
    else:
        spec = ConvSpec.of(layer)
        weight, bias = (_numbers(getattr(layer, name, None)) for name in ("weight", "bias"))
    shown, every = example(spec, weight, bias, input)
    return Explanation(shown, every, notes_of(spec, input))


def notes_of(spec: ConvSpec, source: Any) -> list[str]:
    """Which of several channels and images are shown, and what is left out."""
    ins, outs = spec.in_channels or 1, spec.out_channels or 1
    notes = []
    if max(ins, outs) > 1:
        summed = max(ins // spec.groups, 1)
        notes.append(
            "Of the channels the first of the input and the first of the output are shown, channel 0 of "
            f"{ins} and channel 0 of {outs}" + (f"; the layer sums over {summed}." if summed > 1 else ".")
        )
    axes: tuple[int, ...] = () if source is None or isinstance(source, tuple) else np.shape(source)
    if len(axes) == spec.nd + 2 and axes[0] > 1:
        notes.append(f"Shown is image 0 of {axes[0]}.")
    return notes


def _numbers(values: Any) -> Any:
    if values is None or getattr(values, "is_meta", False):
        return None
    return np.asarray(values.detach().double().cpu() if hasattr(values, "detach") else values, np.float64)
