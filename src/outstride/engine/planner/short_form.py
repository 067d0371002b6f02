"""A short axis in gather form: a product of a cell is a phase of one tap over the transformed input.

The transformed input has a plane for each product and a place for each cell, so that the axis is that of a
convolution whose kernel and stride are the number of products. What it is summed from has a gather form too:
cells that read inputs, and make nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from outstride.engine.planner.gather_form import AxisPhases, GatherAxis
from outstride.layer.algorithms import Terms
from outstride.layer.shortening import ShortAxis

#: Vectors of so many runs are blended from loads that have each run in its place; of more they are shuffled.
FEW_RUNS = 3


def axis_of_products(axis: ShortAxis, output_size: int) -> GatherAxis:
    """The axis of the transformed input: product p of every cell is phase p."""
    products, cells = len(axis.products), axis.cells(output_size)
    groups = tuple(AxisPhases((p,), (p,), ((p,),)) for p in range(products))
    return GatherAxis(cells * products, output_size, cells, axis.out_step, products, 0, groups)


def loads_of_row(axis: ShortAxis, lanes: int) -> list[int]:
    """Where the vectors of a row of the input begin that are loaded for a vector of cells.

    Places are counted from the first input of the first cell. Vectors are dealt out to cells in whole steps;
    those of cells in runs are taken from a few at each offset.
    """
    if axis.run > 1:
        behind = [offset - axis.offsets[0] for offset in axis.offsets]
        return sorted({first + at for first in behind for at in loads_of_runs(axis.run, lanes)})
    step = axis.in_step
    steps = ceil((axis.offsets[-1] - axis.offsets[0] + 1) / step)
    return [group * step + i * lanes for group in range(steps) for i in range(step)]


def loads_of_runs(run: int, lanes: int) -> list[int]:
    """Where the vectors begin that an input of each cell of a vector is taken from."""
    if run >= lanes:
        return [0]
    runs = ceil(lanes / run)
    return [i * run for i in range(runs)] if runs <= FEW_RUNS else [0, lanes]


def axis_of_inputs(axis: ShortAxis, input_size: int, output_size: int) -> GatherAxis:
    """The axis of the input as it lies: what a cell reads, or of cells in runs what each input stands for."""
    offsets = axis.offsets
    group = AxisPhases((0,), offsets, (tuple(range(len(offsets))),))
    cells = axis.cells(output_size)
    if axis.run > 1:
        return GatherAxis(input_size, output_size, span(axis, cells), 1, 1, 0, (group,))
    return GatherAxis(input_size, output_size, cells, axis.out_step, axis.in_step, 0, (group,))


def span(axis: ShortAxis, cells: int) -> int:
    """Positions of the input's axis that so many cells, whole runs, stand for."""
    return axis.first_input(cells - 1) + 1 if axis.run > 1 and cells else cells


def box_of_inputs(axes: Sequence[ShortAxis], box: Sequence[int]) -> tuple[int, ...]:
    """The same of a box of images and cells."""
    return (box[0], *(span(axis, n) for axis, n in zip(axes, box[1:], strict=True)))


def vectors_of_row(axis: ShortAxis, cells: int, lanes: int) -> int:
    """Vectors of a row of cells: of whole runs, or of parts of one."""
    if axis.run >= lanes:
        return cells // axis.run * ceil(axis.run / lanes)
    return ceil(cells / (lanes // axis.run * axis.run))


def gradient_rows(axis: ShortAxis) -> tuple[Terms, ...]:
    """The outputs of a cell whose gradients are a factor of each product of a weight gradient."""
    return tuple(p.outputs for p in axis.products)


def kernel_rows(axis: ShortAxis) -> tuple[Terms, ...]:
    """The products of a weight gradient that each kernel element's gradient is the sum of."""
    elements = 1 + max(k for p in axis.products for k, _ in p.weights)
    return tuple(
        tuple((i, c) for i, p in enumerate(axis.products) for k, c in p.weights if k == element)
        for element in range(elements)
    )
