"""Short algorithms in code: inputs summed into planes, products summed into outputs, weights into products.

Each sums along one axis after the other, in the order that law 4 fixes: what products are made from inputs
and from gradients along the last axis first, weights and products along the first. What is summed are
vectors, whatever lies in their lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Value
from outstride.engine.planner.short_form import gradient_rows, kernel_rows
from outstride.layer.algorithms import Terms
from outstride.layer.shortening import ShortAxis

Index = tuple[int, ...]
Values = Mapping[Index, Value]


def planes_of(k: Vectors, axes: Sequence[ShortAxis], inputs: Values) -> Values:
    """The factors of all products from the inputs of a cell, by their numbers along each axis."""
    for axis in reversed(range(len(axes))):
        inputs = _along(k, axis, axes[axis].data, inputs)
    return inputs


def products_of(k: Vectors, axes: Sequence[ShortAxis], weights: Values) -> Values:
    """The other factors of all products from the kernel."""
    for axis in range(len(axes)):
        weights = _along(k, axis, axes[axis].weights, weights)
    return weights


def outputs_of(k: Vectors, axes: Sequence[ShortAxis], products: Values) -> Values:
    """The outputs of a cell from its products."""
    for axis in range(len(axes)):
        products = _along(k, axis, axes[axis].results, products)
    return products


def gradients_of(k: Vectors, axes: Sequence[ShortAxis], gradients: Values) -> Values:
    """The other factors of all products of a weight gradient, from the gradients of a cell's outputs."""
    for axis in reversed(range(len(axes))):
        gradients = _along(k, axis, gradient_rows(axes[axis]), gradients)
    return gradients


def kernel_of(k: Vectors, axes: Sequence[ShortAxis], products: Values) -> Values:
    """The gradients of the kernel elements from the products of a weight gradient."""
    for axis in range(len(axes)):
        products = _along(k, axis, kernel_rows(axes[axis]), products)
    return products


def indices(sizes: Sequence[int]) -> list[Index]:
    """The numbers along each axis, the last fastest."""
    return list(product(*map(range, sizes)))


def _along(k: Vectors, axis: int, rows: Sequence[Terms], values: Values) -> Values:
    """Sums along one axis: there number r of the result is row r of the values."""
    others = dict.fromkeys((index[:axis], index[axis + 1 :]) for index in values)
    made = {}
    for before, behind in others:
        line = {
            index[axis]: value for index, value in values.items() if index == (*before, index[axis], *behind)
        }
        for r, terms in enumerate(rows):
            index = (*before, r, *behind)
            made[index] = _sum(k, [(line[i], float(c)) for i, c in terms])
    return made


def _sum(k: Vectors, terms: Sequence[tuple[Value, float]]) -> Value:
    """The sum of vectors with coefficients, of which only 1 and -1 take no multiplication."""
    f = k.f
    total: Value | None = None
    for value, c in terms:
        type_ = value.type
        if abs(c) != 1:
            factor = elements.splat_constant(k.e.accumulator, k.lanes, repr(abs(c)))
            value = f.emit(type_, f"fmul {type_} {value.name}, {factor}")
        if total is None:
            total = value if c > 0 else f.emit(type_, f"fneg {type_} {value.name}")
        else:
            total = f.emit(type_, f"{'fadd' if c > 0 else 'fsub'} {type_} {total.name}, {value.name}")
    return elements.zero(k.e, k.lanes) if total is None else total
