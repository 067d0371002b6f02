"""Singular values of a layer: the largest from products alone, the smallest from a factorisation."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from scipy import linalg, sparse
from scipy.sparse.linalg import ArpackNoConvergence
from torch import Tensor

from outstride.errors import UnsupportedError
from outstride.linear.factored import lowest, near_null
from outstride.linear.layer_map import LayerMap
from outstride.linear.leading import Array, Map, leading, stretches
from outstride.linear.sparse_matrix import to_csr

DENSE_ENTRIES = 2_000_000
"""Up to here the dense decomposition takes about a second and is the most accurate."""
MOST_DENSE_ENTRIES = 64_000_000
"""Up to here it is worth waiting for where a good part of all singular values is asked for."""
FACTOR_WORK = 3e10
"""Multiply-adds of factoring a band matrix; with these it may take a minute, and twice as wide ten."""
_RESTARTS, _FEW_RESTARTS = 500, 40
_SCALE_TOLERANCE = 1e-3
_SMALL = 1e-6
"""Below this part of the largest, a square lies too near the rounding of the largest one's square."""


def singular_values(layer_map: LayerMap, k: int, which: str, tolerance: float) -> Array:
    """Return the k "largest" or "smallest" singular values of a layer with float64 weights, descending."""
    sides = prod(layer_map.output_shape), prod(layer_map.input_shape)
    entries, many = prod(sides), 4 * k > min(sides)
    if entries <= DENSE_ENTRIES or (many and entries <= MOST_DENSE_ENTRIES):
        every: Array = linalg.svdvals(to_csr(layer_map).toarray())
        return every[:k] if which == "largest" else every[-k:]
    if many:
        raise UnsupportedError(
            f"'k' must be at most a quarter of the singular values of so large a layer: got k={k} of "
            f"{min(sides)}; legal: 1 to {min(sides) // 4}"
        )
    most = float(layer_map.weight.abs().max())
    if most == 0:
        return np.zeros(k)
    # Squares of very small or large weights would leave the range of floating point.
    layer_map = layer_map.with_weight(layer_map.weight / most)
    try:
        return most * (_largest if which == "largest" else _smallest)(layer_map, k, tolerance)
    except ArpackNoConvergence as error:
        raise UnsupportedError(
            f"'tolerance' must be one that the iteration reaches: got {tolerance} for {k} of {min(sides)} "
            f"values, which lie too near each other; legal: a larger one, or a smaller 'input_size'"
        ) from error


def _largest(layer_map: LayerMap, k: int, tolerance: float) -> Array:
    apply = _on_columns(layer_map.forward, layer_map.input_shape)
    adjoint = _on_columns(layer_map.backward, layer_map.output_shape)
    sides = prod(layer_map.output_shape), prod(layer_map.input_shape)
    if sides[0] < sides[1]:
        apply, adjoint = adjoint, apply
    factored = _work(layer_map)[2] <= FACTOR_WORK
    restarts = _FEW_RESTARTS if factored else _RESTARTS
    try:
        vectors = leading(lambda x: adjoint(apply(x)), min(sides), k, tolerance, restarts)
    except ArpackNoConvergence:
        # Along one long axis the values lie so near each other that only a factorisation tells them apart.
        if not factored:
            raise
        tall = _tall(layer_map)
        square = tall.T @ tall
        norm = abs(square).sum(0).max()
        vectors = lowest(sparse.eye_array(min(sides)) - square / norm, k, tolerance)
    return stretches(apply, vectors)[:k]


def _smallest(layer_map: LayerMap, k: int, tolerance: float) -> Array:
    """The subspace comes from inverse iteration, the values off the matrix within it.

    So an error of the subspace enters them squared, and even where A^T A is nearly singular most are right.
    """
    unknowns, width, work = _work(layer_map)
    if work > FACTOR_WORK:
        raise UnsupportedError(
            f"'which' must be 'largest' for so large a layer: the smallest singular values need a "
            f"factorisation of {unknowns} unknowns in a band of {width}; legal: a smaller 'input_size' or "
            f"fewer channels"
        )
    scale = _largest(layer_map, 1, _SCALE_TOLERANCE)[0]
    tall = _tall(layer_map) / scale
    try:
        found = stretches(lambda x: tall @ x, lowest(tall.T @ tall, k, tolerance))[-k:]
    except ArpackNoConvergence:
        found = np.zeros(k)
    if found[-1] < _SMALL:
        found = near_null(tall, k, tolerance)
    scaled: Array = found * scale
    return scaled


def _tall(layer_map: LayerMap) -> Any:
    """The matrix or its transpose, so that its columns are as many as there are singular values."""
    matrix = to_csr(layer_map)
    return sparse.csr_array(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T)


def _on_columns(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Map:
    def apply(x: Array) -> Array:
        with torch.no_grad():
            rows = function(torch.from_numpy(np.array(x.T, order="C")).reshape(-1, *shape))
        found: Array = rows.flatten(1).numpy().T
        return found

    return apply


def _work(layer_map: LayerMap) -> tuple[int, int, float]:
    """Unknowns, width and multiply-adds of the square as a band matrix, the longest axis outermost."""
    spec = layer_map.spec
    shapes = layer_map.input_shape, layer_map.output_shape
    fewer = min(shapes, key=prod)
    small = shapes[0 if layer_map.transposed else 1]
    rows = zip(fewer[1:], spec.window, spec.stride, strict=True)
    # Two elements are tied where one window holds both: outputs a stride apart, inputs next to each other.
    reaches = sorted((n, min((w - 1) // (s if fewer is small else 1), n - 1)) for n, w, s in rows)
    width, below = 0, 1
    for size, reach in reaches:
        width, below = width + reach * below, below * size
    width = (width + 1) * fewer[0] * (2 if spec.padding_mode == "circular" else 1)
    return prod(fewer), width, float(prod(fewer)) * width * width
