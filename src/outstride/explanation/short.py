"""The view of short algorithms: groups of outputs that share products, and how few of them there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import numpy as np

from outstride.explanation.example import Array, Example, Place
from outstride.explanation.scene import Frame, Role, Scene, number
from outstride.explanation.sheets import Sheet, at, beside, border
from outstride.geometry import phases
from outstride.layer.algorithms import ShortPhase, Terms, shortened

Axes = tuple[ShortPhase, ...]


def has_short(example: Example) -> bool:
    """Whether an axis has a short algorithm, and an output is made by products at all."""
    ways = list(_ways(example))
    made = any(
        all(axis.products and axis.groups(n) for axis, n in zip(axes, example.output, strict=True))
        for axes in ways
    )
    return made and any(axis.outputs > 1 for axes in ways for axis in axes)


def short(example: Example) -> Scene:
    """Group by group: sums of inputs times sums of the kernel, and the outputs that take them."""
    ways = list(_ways(example))
    source, first_cell = _source(example, ways)
    made, frames = np.full(example.output, np.nan), []
    for axes in (axes for axes in ways if not all(axis.products for axis in axes)):
        made[tuple(slice(axis.out_start, None, axis.out_step) for axis in axes)] = example.bias
    for axes in (axes for axes in ways if all(axis.products for axis in axes)):
        kernel = _summed(
            example.weight, [[p.weights for p in axis.products] for axis in axes], (0,) * len(axes)
        )
        reads = [[p.inputs for p in axis.products] for axis in axes]
        for group in np.ndindex(*(a.groups(n) for a, n in zip(axes, example.output, strict=True))):
            first = tuple(a.first_input(q) + cell for a, q, cell in zip(axes, group, first_cell, strict=True))
            data = _summed(source.values, reads, first)
            products = data * kernel
            found = _members(axes, group, products, example.output)
            for place, value in found.items():
                made[place] = value + example.bias
            along = [{i for terms in axis for i, _ in terms} for axis in reads]
            read = [tuple(f + i for f, i in zip(first, index, strict=True)) for index in product(*along)]
            grids = beside(
                source.marked(read, "active"),
                Sheet("sums of inputs", data, "active"),
                Sheet("sums of the kernel", kernel, "kernel"),
                Sheet("products", products, "output"),
                Sheet("output", made.copy(), "output").marked(found, "result"),
            )
            frames.append(Frame(grids, _caption(axes, found, products.size, example.bias)))
    return Scene("short", "Neighbouring outputs share products", tuple(frames))


def _ways(example: Example) -> Iterator[Axes]:
    """Every combination of one phase per axis, each by its algorithm; one that saves nothing stays direct."""
    for along in phases(example.spec, example.x.shape):
        yield from product(*(shortened(phase) for phase in along))


def _source(example: Example, ways: Sequence[Axes]) -> tuple[Sheet, Place]:
    """The input with all around it that a group reads, what of it is border, and where the input begins."""
    pads = []
    for axis, (size, out) in enumerate(zip(example.x.shape, example.output, strict=True)):
        read = [
            each[axis].first_input(max(each[axis].groups(out) - 1, 0) * last) + index
            for each in ways
            for p in each[axis].products
            for index, _ in p.inputs
            for last in (0, 1)
        ] or [0]
        pads.append((max(0, -min(read)), max(0, max(read) - size + 1)))
    first = tuple(low for low, _ in pads)
    shown = np.pad(example.x, pads)
    if not example.transposed:  # as far as there is padding, it is that of the layer's mode
        padded = example.padded
        here, there = [], []
        for axis, (low, before) in enumerate(zip(example.low, first, strict=True)):
            common = min(low, before)
            length = min(padded.shape[axis] - low, shown.shape[axis] - before) + common
            here.append(slice(before - common, before - common + length))
            there.append(slice(low - common, low - common + length))
        shown[tuple(here)] = padded[tuple(there)]
    marks: dict[Place, Role] = border(shown.shape, first, example.x.shape)
    around = "zeros around" if example.spec.padding_mode == "zeros" else "padded"
    title = f"input, {around}" if example.transposed or any(example.low) else "input"
    return Sheet(title, shown, "input", marks), first


def _summed(array: Array, terms: Sequence[Sequence[Terms]], first: Place) -> Array:
    """For each product, one index for each axis, its sum of elements."""
    made = np.zeros([len(axis) for axis in terms])
    for index in np.ndindex(*made.shape):
        each = [axis[i] for axis, i in zip(terms, index, strict=True)]
        made[index] = sum(
            float(prod(factor for _, factor in chosen))
            * array[tuple(f + i for f, (i, _) in zip(first, chosen, strict=True))]
            for chosen in product(*each)
        )
    return made


def _members(axes: Axes, group: Place, products: Array, size: Place) -> dict[Place, float]:
    """The outputs of a group that exist, with the sum of the products that each takes."""
    found: dict[Place, float] = {}
    for index in np.ndindex(*products.shape):
        outputs = [axis.products[i].outputs for axis, i in zip(axes, index, strict=True)]
        for chosen in product(*outputs):
            place = tuple(axis.output(q, y) for axis, q, (y, _) in zip(axes, group, chosen, strict=True))
            if all(p < n for p, n in zip(place, size, strict=True)):
                share = float(prod(factor for _, factor in chosen)) * float(products[index])
                found[place] = found.get(place, 0.0) + share
    return found


def _caption(axes: Axes, found: dict[Place, float], products: int, bias: float) -> str:
    places = [at(place) for place in sorted(found)]
    direct_products = prod(a.outputs * len({k for p in a.products for k, _ in p.weights}) for a in axes)
    values = ", ".join(number(found[place] + bias) for place in sorted(found))
    named = f"output{'' if len(places) == 1 else 's'} {', '.join(places)}"
    said = f"{named} = {values}: {products} product{'' if products == 1 else 's'}"
    return f"{said} instead of {direct_products}" if direct_products > products else said
