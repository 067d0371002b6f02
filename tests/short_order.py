"""The order of short algorithms, written down a second time: an emulation that rounds where kernels do.

Inputs are summed along the last axis first, weights in float64 along the first axis first and rounded once; a
product is one chain of fused multiply-adds over the channels; results are summed along the first axis first,
and the bias is added last.

Of a weight gradient inputs and output gradients are summed along the last axis first; a product is one chain
over the cells of a split, box after box; kernel elements are summed from them along the first axis first, and
then the splits are added in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain, product
from math import ceil

import numpy as np

from outstride.engine.planner.gradients.plan import GradientPlan, GradientProblem
from outstride.geometry import output_size, phases
from outstride.layer.algorithms import ShortPhase, Terms, shortened
from outstride.layer.shortening import CellProduct, ShortAxis
from outstride.layer.spec import ConvSpec
from tests.order import fused

_Index = tuple[int, ...]


def in_the_short_order(
    spec: ConvSpec, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None,
    size: Sequence[int] | None = None,
) -> np.ndarray:  # fmt: skip
    """The float32 output of a layer padded with zeros, (N, C, *size), by short algorithms on every axis.

    Another `size` than the layer's own has fewer outputs at the far ends, or more.
    """
    return _outputs(spec, x, w, bias, size, np.float32, absolute=False)


def short_scale(
    spec: ConvSpec, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None,
    size: Sequence[int] | None = None,
) -> np.ndarray:  # fmt: skip
    """The same of absolute values in float64, those of the matrices too: what roundings are a share of."""
    positive = None if bias is None else np.abs(bias)
    return _outputs(spec, np.abs(x), np.abs(w), positive, size, np.float64, absolute=True)


def _outputs(
    spec: ConvSpec, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None, size: Sequence[int] | None,
    dtype: type, *, absolute: bool,
) -> np.ndarray:  # fmt: skip
    outs, groups = output_size(spec, x.shape[2:]) if size is None else tuple(size), spec.groups
    xs: np.ndarray = x.astype(dtype).reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    if spec.kind == "conv":
        ws = w.reshape(groups, -1, *w.shape[1:])
    else:
        ws = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)
    y = np.zeros((x.shape[0], groups, ws.shape[1], *outs), dtype)
    for along in phases(spec, x.shape[2:]):
        for axes in product(*map(shortened, along)):
            _compute(tuple(axis.absolute() for axis in axes) if absolute else axes, xs, ws, y)
    y = y.reshape(x.shape[0], ws.shape[1] * groups, *outs)
    return y if bias is None else y + bias.astype(dtype).reshape(-1, *[1] * spec.nd)


def _compute(axes: tuple[ShortPhase, ...], xs: np.ndarray, ws: np.ndarray, y: np.ndarray) -> None:
    """The outputs of one phase of each axis."""
    nd, outs = len(axes), y.shape[3:]
    groups = [axis.groups(n) for axis, n in zip(axes, outs, strict=True)]
    if min(groups) < 1:
        return
    starts = [a.in_step * a.outputs * np.arange(n) for a, n in zip(axes, groups, strict=True)]

    def inputs(index: _Index) -> np.ndarray:
        return _elements(xs, [start + i for start, i in zip(starts, index, strict=True)])

    def weights(index: _Index) -> np.ndarray:
        found: np.ndarray = ws[(slice(None),) * 3 + index].astype(np.float64)
        return found

    sums: dict[_Index, np.ndarray] = {}
    for number in np.ndindex(*(len(a.products) for a in axes)):
        chosen = [a.products[p] for a, p in zip(axes, number, strict=True)]
        data = _nested([p.inputs for p in chosen], range(nd), inputs)
        kernel = _nested([p.weights for p in chosen], range(nd)[::-1], weights).astype(y.dtype)
        sums[number] = _chain(data, kernel)
    for member in product(*(range(a.outputs) for a in axes)):
        takes = [
            tuple((p, c) for p, each in enumerate(a.products) for i, c in each.outputs if i == j)
            for a, j in zip(axes, member, strict=True)
        ]
        if not all(takes):
            continue  # no tap reaches these outputs
        made = _nested(takes, range(nd)[::-1], sums.__getitem__)
        at = [
            a.out_start + a.out_step * (a.outputs * np.arange(n) + j)
            for a, n, j in zip(axes, groups, member, strict=True)
        ]
        here = [np.flatnonzero(places < n) for places, n in zip(at, outs, strict=True)]
        there = [places[inside] for places, inside in zip(at, here, strict=True)]
        lead = (slice(None),) * 3
        y[lead + np.ix_(*there)] = made[lead + np.ix_(*here)]


def _nested(
    terms: Sequence[Terms], order: Sequence[int], fetch: Callable[[_Index], np.ndarray]
) -> np.ndarray:
    """The sum over all axes of elements with their coefficients, the last axis of the order inside."""

    def along(depth: int, index: dict[int, int]) -> np.ndarray:
        if depth == len(order):
            return fetch(tuple(index[axis] for axis in range(len(order))))
        total: np.ndarray | None = None
        for i, c in terms[order[depth]]:
            value = along(depth + 1, index | {order[depth]: i})
            value = value if abs(c) == 1 else value * float(abs(c))
            if total is None:
                total = value if c > 0 else -value
            else:
                total = total + value if c > 0 else total - value
        assert total is not None
        return total

    return along(0, {})


def _elements(xs: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """The elements at these places of each axis, zeros beyond the ends."""
    for axis, at in enumerate(places, 3):
        inside = (at >= 0) & (at < xs.shape[axis])
        shape = [-1 if i == axis else 1 for i in range(xs.ndim)]
        taken = np.take(xs, np.where(inside, at, 0), axis)
        xs = np.where(inside.reshape(shape), taken, xs.dtype.type(0))
    return xs


def _chain(data: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Over channels, from +0: (N, g, C, *groups) and (g, O, C) to (N, g, O, *groups)."""
    if data.dtype == np.float64:
        found: np.ndarray = np.einsum("ngc...,goc->ngo...", data, kernel)
        return found
    total = np.zeros((*data.shape[:2], kernel.shape[1], *data.shape[3:]), np.float32)
    for c in range(data.shape[2]):
        weight = kernel[:, :, c].reshape(1, *kernel.shape[:2], *[1] * (data.ndim - 3))
        total = fused(data[:, :, c : c + 1], weight, total)
    return total


def gradient_in_the_short_order(plan: GradientPlan, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The float32 weight gradient (O, C/g, *k) in three axes; the plan says what is added box by box."""
    p, axes = plan.problem, plan.problem.short_axes
    data, gradients = _factors(p, x, y, axes)
    counts = [ceil(n / b) for n, b in zip(data.shape[-4:], plan.box, strict=True)]
    boxes = [
        product(
            *(
                range(i * b, min(n, (i + 1) * b))
                for i, b, n in zip(number, plan.box, data.shape[-4:], strict=True)
            )
        )
        for number in np.ndindex(*counts)
    ]
    result: np.ndarray | None = None
    for split in range(plan.splits):
        sums = np.zeros((*data.shape[:3], p.outputs), np.float32)
        for cell in chain.from_iterable(boxes[split * plan.boxes_per_split :][: plan.boxes_per_split]):
            n, d, h, w = cell
            sums = fused(data[..., n, d, h, w, None], gradients[..., None, :, n, d, h, w], sums)
        part = _kernel(p, axes, sums)
        result = part if result is None else result + part
    assert result is not None
    return result


def gradient_magnitude(problem: GradientProblem, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What the algorithm makes of absolute values by absolute rows: its rounding errors are a share of it."""
    axes = tuple(
        replace(
            a,
            products=tuple(
                CellProduct(*map(_absolute, (p.inputs, p.weights, p.outputs))) for p in a.products
            ),
        )
        for a in problem.short_axes
    )
    data, gradients = _factors(problem, np.abs(x).astype(np.float64), np.abs(y).astype(np.float64), axes)
    return _kernel(problem, axes, np.einsum("pgcndhw,pgondhw->pgco", data, gradients))


def _absolute(terms: Terms) -> Terms:
    return tuple((i, abs(c)) for i, c in terms)


def _factors(
    p: GradientProblem, x: np.ndarray, y: np.ndarray, axes: Sequence[ShortAxis]
) -> tuple[np.ndarray, np.ndarray]:
    """Of every product both factors: (product, group, channel or output, image, *cells)."""
    xs = x.reshape(p.batch, p.groups, p.channels, *p.input_size)
    ys = y.reshape(p.batch, p.groups, p.outputs, *p.output_size)
    cells = [range(a.cells(n)) for a, n in zip(axes, p.output_size, strict=True)]

    def inputs(index: _Index) -> np.ndarray:
        places = zip(axes, cells, index, strict=True)
        return _elements(xs, [np.array([a.first_input(c) + i for c in along]) for a, along, i in places])

    def outputs(index: _Index) -> np.ndarray:
        places = zip(axes, cells, index, strict=True)
        return _elements(ys, [np.array([a.output(c, i) for c in along]) for a, along, i in places])

    chosen = list(product(*(a.products for a in axes)))
    data = np.stack([_nested([p.inputs for p in each], range(3), inputs) for each in chosen])
    gradients = np.stack([_nested([p.outputs for p in each], range(3), outputs) for each in chosen])
    return np.moveaxis(data, 1, 3), np.moveaxis(gradients, 1, 3)


def _kernel(p: GradientProblem, axes: Sequence[ShortAxis], sums: np.ndarray) -> np.ndarray:
    """The kernel (O, C/g, *k) from (product, group, channel, output)."""
    by_axes = sums.reshape(*(len(a.products) for a in axes), *sums.shape[1:])
    made = np.empty((*p.kernel_size, *sums.shape[1:]), sums.dtype)
    for element in np.ndindex(*p.kernel_size):
        terms = [
            tuple((i, c) for i, each in enumerate(a.products) for at, c in each.weights if at == k)
            for a, k in zip(axes, element, strict=True)
        ]
        made[element] = _nested(terms, range(3)[::-1], by_axes.__getitem__)
    kernel: np.ndarray = made.transpose(3, 5, 4, 0, 1, 2)
    return kernel.reshape(p.groups * p.outputs, p.channels, *p.kernel_size)
