"""The view of short algorithms: groups of outputs that share products, and how few of them there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import prod

import numpy as np

from outstride.explanation.example import Array, Example
from outstride.explanation.scene import Frame, Grid, Place, Role, Scene, number
from outstride.geometry import phases
from outstride.layer.algorithms import Product, ShortPhase, Terms, shortened

_ALONE = ShortPhase(0, 1, 1, 1, (Product(((0, Fraction(1)),), ((0, Fraction(1)),), ((0, Fraction(1)),)),))
"""The axis that a layer of one axis does not have."""

Axes = tuple[ShortPhase, ShortPhase]


def short(example: Example) -> Scene | None:
    """Group by group: sums of inputs times sums of the kernel, and the outputs that take them.

    None where no axis has a short algorithm.
    """
    ways = list(_ways(example))
    if not any(axis.outputs > 1 for axes in ways for axis in axes):
        return None
    shown, marks, (top, left) = _canvas(example, ways)
    made, frames = np.full(example.output, np.nan), []
    for axes in (axes for axes in ways if not all(axis.products for axis in axes)):
        made[axes[0].out_start :: axes[0].out_step, axes[1].out_start :: axes[1].out_step] = example.bias
    for axes in (axes for axes in ways if all(axis.products for axis in axes)):
        kernel = _summed(example.weight, [[p.weights for p in axis.products] for axis in axes], (0, 0))
        for group in np.ndindex(*(a.groups(n) for a, n in zip(axes, example.output, strict=True))):
            first = [a.first_input(q) for a, q in zip(axes, group, strict=True)]
            reads = [[p.inputs for p in axis.products] for axis in axes]
            data = _summed(shown, reads, (first[0] + top, first[1] + left))
            products = data * kernel
            found = _members(axes, group, products, example.output)
            for place, value in found.items():
                made[place] = value + example.bias
            read = {
                (first[0] + top + i, first[1] + left + j)
                for rows, columns in product(*reads)
                for (i, _), (j, _) in product(rows, columns)
            }
            active: dict[Place, Role] = {**marks, **dict.fromkeys(read, "active")}
            grids = (
                Grid(_title(example), shown, "input", active),
                Grid("sums of inputs", data, "active"),
                Grid("sums of the kernel", kernel, "kernel"),
                Grid("products", products, "output"),
                Grid("output", made.copy(), "output", dict.fromkeys(found, "result")),
            )
            frames.append(Frame(grids, _caption(example, axes, found, products.size)))
    if not frames:  # outputs that no tap reaches
        return None
    return Scene("short", "Neighbouring outputs share products", tuple(frames))


def _ways(example: Example) -> Iterator[Axes]:
    """Every combination of one phase per axis, each by its algorithm; one that saves nothing stays direct."""
    size = example.x.shape[2 - example.spec.nd :]
    for along in phases(example.spec, size):
        own = [shortened(phase) for phase in along]
        rows, columns = ([(_ALONE,), *own] if len(own) == 1 else own)[:2]
        yield from product(rows, columns)


def _canvas(example: Example, ways: Sequence[Axes]) -> tuple[Array, dict[Place, Role], tuple[int, int]]:
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
    (top, _), (left, _) = pads
    shown = np.pad(example.x, pads)
    if not example.transposed:  # as far as there is padding, it is that of the layer's mode
        padded, (low_h, low_w) = example.padded, example.low
        rows, columns = min(low_h, top), min(low_w, left)
        part = padded[low_h - rows :, low_w - columns :]
        height = min(part.shape[0], shown.shape[0] - top + rows)
        width = min(part.shape[1], shown.shape[1] - left + columns)
        first_row, first_column = top - rows, left - columns
        shown[first_row : first_row + height, first_column : first_column + width] = part[:height, :width]
    inside = set(product(range(top, top + example.x.shape[0]), range(left, left + example.x.shape[1])))
    marks: dict[Place, Role] = {at: "border" for at in np.ndindex(*shown.shape) if at not in inside}
    return shown, marks, (top, left)


def _summed(array: Array, terms: Sequence[Sequence[Terms]], first: tuple[int, int]) -> Array:
    """For each product, a row of the first axis and a column of the second, its sum of elements."""
    rows, columns = terms
    made = np.zeros((len(rows), len(columns)))
    for (i, row), (j, column) in product(enumerate(rows), enumerate(columns)):
        made[i, j] = sum(
            float(a * b) * array[first[0] + y, first[1] + x] for (y, a), (x, b) in product(row, column)
        )
    return made


def _members(
    axes: Axes, group: tuple[int, ...], products: Array, size: tuple[int, int]
) -> dict[Place, float]:
    """The outputs of a group that exist, with the sum of the products that each takes."""
    found: dict[Place, float] = {}
    for (i, row), (j, column) in product(enumerate(axes[0].products), enumerate(axes[1].products)):
        for (y, a), (x, b) in product(row.outputs, column.outputs):
            place = axes[0].output(group[0], y), axes[1].output(group[1], x)
            if place[0] < size[0] and place[1] < size[1]:
                found[place] = found.get(place, 0.0) + float(a * b) * float(products[i, j])
    return found


def _title(example: Example) -> str:
    return "input, zeros around" if example.transposed or any(example.low) else "input"


def _caption(example: Example, axes: Axes, found: dict[Place, float], products: int) -> str:
    flat = example.spec.nd == 1
    places = [str(place[1]) if flat else f"({place[0]}, {place[1]})" for place in sorted(found)]
    direct_products = prod(a.outputs * len({k for p in a.products for k, _ in p.weights}) for a in axes)
    values = ", ".join(number(found[place] + example.bias) for place in sorted(found))
    one = len(places) == 1
    said = f"output{'' if one else 's'} {', '.join(places)} = {values}: {products} products"
    return f"{said} instead of {direct_products}" if direct_products > products else said
