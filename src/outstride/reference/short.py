"""The three contractions by short algorithms, as loops: groups of outputs, the products of each, their sums.

Zero padding alone: other borders are built before or folded back after, whatever the algorithm is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from outstride import geometry
from outstride.layer.algorithms import ShortPhase, Terms, direct, shortened
from outstride.layer.arguments import Pads, Sizes
from outstride.layer.spec import ConvSpec
from outstride.reference import loop_layout as layout
from outstride.reference.loop_layout import Array

Shape = tuple[int, ...]


def conv(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Pads = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    short: Sequence[bool] | None = None,
    absolute: bool = False,
) -> Array:
    """Convolve by short algorithms.

    Args:
        x, w, stride, padding, dilation, groups: as in ``reference.conv``.
        short: which axes take a short algorithm; all unless it is given.
        absolute: whether the coefficients of all sums are taken by their absolute values. Of |x| and |w| that
            is the scale of the rounding errors of x and w.

    Returns:
        What ``reference.conv`` returns; no less with ``absolute``, where no number is negative.

    Law: for integers it is the same array; no output depends on an input outside its window.

    Example:
        >>> conv([[[1, 2, 3, 4]]], [[[1, 10, 100]]]).tolist()
        [[[321, 432]]]
        >>> conv([[[1, 2, 3, 4]]], [[[1, 10, 100]]], absolute=True).tolist()
        [[[559, 1155]]]
    """
    weight = layout.exact("w", w)
    spec = ConvSpec("conv", weight.shape[2:], stride, padding, dilation, groups=groups)
    X, batched = layout.with_batch("x", x, spec)
    layout.check_channels("x", X, weight.shape[1] * spec.groups)
    W = layout.taps_first("w", weight, spec)
    made = _contract(spec, layout.positions_first(X, spec), W, short, None, absolute)
    return layout.finished(made, None, batched)


def conv_transpose(
    y: npt.ArrayLike,
    w: npt.ArrayLike,
    stride: Sizes = 1,
    padding: Pads = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    short: Sequence[bool] | None = None,
    absolute: bool = False,
) -> Array:
    """Convolve transposed by short algorithms, phase by phase.

    Args:
        y, w, stride, padding, output_padding, groups, dilation: as in ``reference.conv_transpose``.
        short: which axes take a short algorithm; all unless it is given.
        absolute: as in ``conv``.

    Returns:
        What ``reference.conv_transpose`` returns; no less with ``absolute``, where no number is negative.

    Law: for integers it is the same array; no output depends on an input outside its window.

    Example:
        >>> conv_transpose([[[1, 1, 1, 1]]], [[[1, 2, 3]]], stride=2).tolist()
        [[[1, 2, 4, 2, 4, 2, 4, 2, 3]]]
    """
    weight = layout.exact("w", w)
    spec = ConvSpec(
        "conv_transpose", weight.shape[2:], stride, padding, dilation, output_padding, groups=groups
    )
    Y, batched = layout.with_batch("y", y, spec)
    layout.check_channels("y", Y, weight.shape[0])
    W = layout.taps_first("w", weight, spec).swapaxes(-1, -2)
    made = _contract(spec, layout.positions_first(Y, spec), W, short, None, absolute)
    return layout.finished(made, None, batched)


def conv_weight(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Pads = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    *,
    short: Sequence[bool] | None = None,
    absolute: bool = False,
) -> Array:
    """The weight gradient by short algorithms: products are summed over the map, and turned back once.

    Args:
        x, y, kernel_size, stride, padding, dilation, groups: as in ``reference.conv_weight``; y is of
            the size of conv's output.
        short: which axes take a short algorithm; all unless it is given.
        absolute: as in ``conv``.

    Returns:
        What ``reference.conv_weight`` returns; no less with ``absolute``, where no number is negative.

    Law: for integers it is the same array.

    Example:
        >>> conv_weight([[[1, 2, 3, 4]]], [[[1, 1]]], 3).tolist()
        [[[3, 5, 7]]]
    """
    nd = np.ndim(x) - 2
    spec = ConvSpec("conv", kernel_size, stride, padding, dilation, groups=groups, nd=nd)
    X, _ = layout.with_batch("x", x, spec)
    Y, _ = layout.with_batch("y", y, spec)
    X, Y = layout.positions_first(X, spec), layout.positions_first(Y, spec)
    W = np.zeros((*spec.kernel_size, spec.groups, X.shape[-1], Y.shape[-1]), object)
    grouped: Array = np.moveaxis(_contract(spec, X, W, short, Y, absolute), (-3, -1, -2), (0, 1, 2))
    return grouped.reshape(-1, *grouped.shape[2:])


def _contract(
    spec: ConvSpec, X: Array, W: Array, short: Sequence[bool] | None, Y: Array | None, absolute: bool
) -> Array:
    """The outputs (*positions, g, n, oc), or with their gradient Y the weight's (*k, g, ic, oc)."""
    whole = X.dtype.kind == "i" and (Y if Y is not None else W).dtype.kind in "iO"
    X = X.astype(object) if whole else X
    outs = geometry.output_size(spec, X.shape[: spec.nd])
    made = Y if Y is not None else np.zeros((*outs, *X.shape[-3:-1], W.shape[-1]), X.dtype)
    W = W if whole or Y is None else np.zeros(W.shape, X.dtype)
    for axes in _axes(spec, X.shape[: spec.nd], short):
        axes = tuple(axis.absolute() for axis in axes) if absolute else axes
        products = tuple(product(*(axis.products for axis in axes)))
        kernels = [_sum(W, [p.weights for p in of_axes], [0] * spec.nd) for of_axes in products if Y is None]
        sums = [np.zeros(W.shape[-3:], X.dtype) for _ in products]
        for group in np.ndindex(*(axis.groups(out) for axis, out in zip(axes, outs, strict=True))):
            starts = [axis.first_input(q) for axis, q in zip(axes, group, strict=True)]
            for i, of_axes in enumerate(products):
                data = _sum(X, [p.inputs for p in of_axes], starts)
                if Y is None:
                    term = data @ kernels[i]
                    for place, share in _members(axes, group, [p.outputs for p in of_axes], outs):
                        made[place] += _times(share, term)
                else:
                    for place, share in _members(axes, group, [p.outputs for p in of_axes], outs):
                        sums[i] += data.swapaxes(-1, -2) @ _times(share, Y[place])
        if Y is not None:
            for of_axes, total in zip(products, sums, strict=True):
                for element in product(*(p.weights for p in of_axes)):
                    W[tuple(k for k, _ in element)] += _times(prod(c for _, c in element), total)
    result = made if Y is None else W
    return result.astype(np.int64) if whole else result


def _axes(spec: ConvSpec, ins: Shape, short: Sequence[bool] | None) -> Iterator[tuple[ShortPhase, ...]]:
    """Every combination of one phase per axis, each by its algorithm."""
    wanted = [True] * spec.nd if short is None else short
    for phases in geometry.phases(spec, ins):
        choices = zip(phases, wanted, strict=True)
        yield from product(*(shortened(p) if w else (direct(p),) for p, w in choices))


def _members(
    axes: tuple[ShortPhase, ...], group: Shape, outputs: Sequence[Terms], outs: Shape
) -> Iterator[tuple[Shape, Fraction]]:
    """The outputs that a product goes to, with its share in each; those beyond the tensor left out."""
    for terms in product(*outputs):
        place = tuple(axis.output(q, j) for axis, q, (j, _) in zip(axes, group, terms, strict=True))
        if all(at < out for at, out in zip(place, outs, strict=True)):
            yield place, prod(c for _, c in terms)  # type: ignore[misc]  # a product of fractions is one


def _sum(array: Array, terms: Sequence[Terms], starts: Sequence[int]) -> Array:
    """The sum of elements of the leading axes with their coefficients; what lies outside adds nothing."""
    total: Array = np.zeros(array.shape[len(terms) :], array.dtype)
    for element in product(*terms):
        place = tuple(start + index for start, (index, _) in zip(starts, element, strict=True))
        if all(0 <= at < size for at, size in zip(place, array.shape, strict=False)):
            total = total + _times(prod(c for _, c in element), array[place])
    return total


def _times(coefficient: Any, array: Array) -> Array:
    """A multiple of an array: exactly where it holds exact numbers."""
    return array * (coefficient if array.dtype == object else float(coefficient))
