"""Stamps that add up, and the two directions of one layer beside each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from outstride.explanation.arithmetic import canvas, result, stamp, terms, window_at
from outstride.explanation.example import Example, Place
from outstride.explanation.scene import Frame, Grid, Scene, number
from outstride.explanation.sheets import Sheet, at, beside, border
from outstride.explanation.window import padded_input
from outstride.geometry import resolve

#: Stamps that stand below each other.
_MOST_ROWS = 8


def stamps(example: Example) -> Scene:
    """Transposed convolution: each input stamps the kernel, times itself, and stamps add up.

    On one axis every stamp has a row of its own above their sum.
    """
    full, frames = np.zeros(canvas(example)), []
    outside = border(full.shape, example.low, example.output)
    source, apart = Sheet("input", example.x, "input"), _Apart(example)
    for place in np.ndindex(*example.x.shape):
        numbers = example.x[place] * example.weight
        where = stamp(example, full, place, numbers)
        value = number(float(example.x[place]))
        so_far = Sheet("stamps so far", full.copy(), "output", outside).marked(where, "active")
        grids = beside(
            source.marked([place], "active"), Sheet(f"{value} times the kernel", numbers, "kernel")
        )
        grids += apart.above(so_far, place)
        corner = tuple(p * s - low for p, s, low in zip(place, example.spec.stride, example.low, strict=True))
        frames.append(Frame(grids, f"input {at(place)} = {value} stamps at {at(corner)}"))
    ends = [Sheet("stamps added up", full, "output", outside)] if outside else []
    ends.append(Sheet("output", result(example), "output"))
    grids = (*beside(source, Sheet("kernel", example.weight, "kernel")), *apart.above(ends[0]))
    grids += tuple(grid for sheet in ends[1:] for grid in sheet.grids(apart.rows))
    said = ["the stamps added up"]
    said += ["the padding crops what lies outside of the output"] if outside else []
    said += [f"the bias {number(example.bias)} is added"] if example.bias else []
    frames.append(Frame(grids, "; ".join(said)))
    return Scene("stamps", "Each input stamps the kernel", tuple(frames))


class _Apart:
    """The stamps on one axis, row by row, as far as they were made; nothing on several axes."""

    def __init__(self, example: Example) -> None:
        self._example = example
        self.rows = int(example.spec.nd == 1 and example.x.size <= _MOST_ROWS)
        self._made = np.full((example.x.size, *canvas(example)), np.nan)

    def above(self, sums: Sheet, place: Place | None = None) -> tuple[Grid, ...]:
        """All stamps above their sums, the one of that place the latest."""
        if not self.rows:
            return sums.grids()
        latest = []
        if place is not None:
            for tap, (column,) in window_at(self._example, place):
                self._made[place[0], column] = self._example.x[place] * self._example.weight[tap]
                latest.append((place[0], column))
        filled = [tuple(map(int, at)) for at in np.argwhere(~np.isnan(self._made))]
        sheet = Sheet("stamps", self._made.copy(), "border").marked(filled, "kernel").marked(latest, "active")
        return (*sheet.grids(), *sums.grids(1))


def pair(example: Example) -> Scene:
    """A convolution and its transposed one: what the first reads for a place, the second stamps from it."""
    down, up = _both(example)
    read = padded_input(down, "the convolution reads")
    full = np.zeros(canvas(up))
    outside = border(full.shape, up.low, up.output)
    made, kernel = np.full(down.output, np.nan), Sheet("kernel", down.weight, "kernel")
    frames = []
    for place in np.ndindex(*up.x.shape):
        products = terms(down, down.padded, down.weight, place)
        made[place] = sum(t.weight * t.value for t in products)
        where = stamp(up, full, place, up.x[place] * up.weight)
        window = [t.at for t in products]
        value = number(float(up.x[place]))
        above = (
            read.marked(window, "active"), kernel,
            Sheet("and writes", made.copy(), "output", {place: "result"}),
        )  # fmt: skip
        below = (
            Sheet("the transposed one stamps", full.copy(), "output", outside).marked(where, "result"),
            Sheet(f"{value} times the kernel", up.x[place] * up.weight, "kernel"),
            Sheet("for its input", up.x, "input", {place: "active"}),
        )
        rows = len(above[0].grids())
        grids = tuple(grid for pair in zip(above, below, strict=True) for grid in _column(pair, rows))
        said = f"{at(place)}: the same window is read on the way down and stamped on the way up"
        frames.append(Frame(grids, said))
    return Scene("pair", "A convolution and its transposed one, side by side", tuple(frames))


def _column(sheets: tuple[Sheet, Sheet], rows: int) -> tuple[Grid, ...]:
    """One sheet below the other, the second beginning where that of every column does."""
    return (*sheets[0].grids(), *sheets[1].grids(rows))


def _both(example: Example) -> tuple[Example, Example]:
    """The convolution, and the transposed layer from its output's size to its input's; without a bias."""
    given = resolve(example.spec, example.x.shape)
    small, large = example.x.shape, example.output
    if not example.transposed:
        small, large = large, small
    counted = [np.arange(1.0, np.prod(size) + 1).reshape(size) for size in (large, small)]
    none = (0,) * given.nd
    way_up = replace(given, kind="conv_transpose", output_padding=none, padding_mode="zeros")
    way_up = resolve(way_up, small, large)
    way_down = replace(given, kind="conv", output_padding=none)
    down = Example(way_down, counted[0], example.weight, 0.0, example.pads, small)
    return down, Example(way_up, counted[1], example.weight, 0.0, example.pads, large)
