"""A short axis in gather form: a product of a cell is a phase of one tap over the transformed input.

The transformed input has a plane for each product and a place for each cell, so that the axis is that of a
convolution whose kernel and stride are the number of products. What it is summed from has a gather form too:
cells that read inputs, and make nothing.
"""

from __future__ import annotations

from math import ceil

from outstride.engine.planner.gather_form import AxisPhases, GatherAxis
from outstride.layer.algorithms import Terms
from outstride.layer.shortening import ShortAxis


def axis_of_products(axis: ShortAxis, output_size: int) -> GatherAxis:
    """The axis of the transformed input: product p of every cell is phase p."""
    products, cells = len(axis.products), ceil(output_size / axis.out_step)
    groups = tuple(AxisPhases((p,), (p,), ((p,),)) for p in range(products))
    return GatherAxis(cells * products, output_size, cells, axis.out_step, products, 0, groups)


def loads_of_row(axis: ShortAxis) -> int:
    """Vectors of a row of the input that are loaded for a vector of cells: whole steps."""
    reach = axis.offsets[-1] - axis.offsets[0] + 1
    return ceil(reach / axis.in_step) * axis.in_step


def axis_of_inputs(axis: ShortAxis, input_size: int, output_size: int) -> GatherAxis:
    """The axis of the input as it lies: what a cell reads."""
    offsets = axis.offsets
    group = AxisPhases((0,), offsets, (tuple(range(len(offsets))),))
    cells = ceil(output_size / axis.out_step)
    return GatherAxis(input_size, output_size, cells, axis.out_step, axis.in_step, 0, (group,))


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
