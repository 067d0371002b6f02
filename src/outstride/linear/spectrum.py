"""Singular values of a layer: the largest, the smallest, every copy of each.

A convolution's singular values come in copies (frequencies in pairs, channels that are alike, patches that do
not overlap), and a Krylov method finds one copy of each. So what was found is taken out and the search starts
again, until it finds nothing that belongs among the k.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg, sparse
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, splu
from torch import Tensor

from outstride.errors import UnsupportedError
from outstride.linear.layer_map import LayerMap
from outstride.linear.sparse_matrix import to_csr

Array = npt.NDArray[np.float64]
Map = Callable[[Array], Array]

DENSE_ENTRIES = 2_000_000
"""Up to here the dense decomposition takes about a second and is the most accurate."""
MOST_DENSE_ENTRIES = 64_000_000
"""Up to here it is worth waiting for where a good part of all singular values is asked for."""
FACTOR_WORK = 3e10
"""Multiply-adds of factoring a band matrix; with these it may take a minute, and twice as wide ten."""
_RESTARTS, _INVERSE_RESTARTS = 500, 100
_BLOCK_STEPS = 100
_SCALE_TOLERANCE = 1e-3
_NOISE = 2e-15
"""Of the largest value: a change below is rounding."""
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
    if not bool(layer_map.weight.any()):
        return np.zeros(k)
    search = _largest if which == "largest" else _smallest
    return search(layer_map, k, tolerance)


def _largest(layer_map: LayerMap, k: int, tolerance: float) -> Array:
    apply = _on_columns(layer_map.forward, layer_map.input_shape)
    adjoint = _on_columns(layer_map.backward, layer_map.output_shape)
    sides = prod(layer_map.output_shape), prod(layer_map.input_shape)
    if sides[0] < sides[1]:
        apply, adjoint = adjoint, apply
    vectors = _leading(lambda x: adjoint(apply(x)), min(sides), k, tolerance, _RESTARTS)
    return _stretches(apply, vectors)[:k]


def _smallest(layer_map: LayerMap, k: int, tolerance: float) -> Array:
    """Inverse iteration finds the subspace; the values are read off the matrix within it.

    So an error of the subspace enters them squared. The inverse is that of A^T A, and where that is too near
    singular, of [[a, A], [A^T, -b]], which eliminates to -(A^T A / a + b) without A ever being squared.

    Source: Bjorck, Numerical Methods for Least Squares Problems, SIAM 1996, sections 2.5 and 7.
    """
    _check_work(layer_map)
    scale = _largest(layer_map, 1, _SCALE_TOLERANCE)[0]
    matrix = to_csr(layer_map) / scale
    # On the side with fewer elements, where all singular values are counted.
    tall = sparse.csr_array(matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T)
    found = _near_null(_inverse_of_square(tall), tall, k, tolerance)
    if found[-1] < _SMALL:
        found = _near_null(_inverse_of_pair(tall), tall, k, tolerance)
    scaled: Array = found * scale
    return scaled


def _near_null(inverse: Map, tall: Any, k: int, tolerance: float) -> Array:
    def values(vectors: Array) -> Array:
        return _stretches(lambda x: tall @ x, vectors)[-k:]

    try:
        vectors = _leading(inverse, tall.shape[1], k, tolerance, _INVERSE_RESTARTS)
        # One step more divides what the tolerance left of larger singular values by their squares.
        return values(np.linalg.qr(inverse(vectors))[0])
    except UnsupportedError:
        # Of a singular matrix the inverse is mostly noise, and no iteration converges on its eigenvectors to
        # every digit. What they span does: a few steps with a block leave only what the matrix hardly moves.
        draws = np.random.default_rng(0)
        vectors = draws.standard_normal((tall.shape[1], min(2 * k + 8, tall.shape[1])))
        found = np.full(k, np.inf)
        for _ in range(_BLOCK_STEPS):
            vectors = np.linalg.qr(inverse(vectors))[0]
            before, found = found, values(vectors)
            if np.abs(before - found).max() <= _NOISE:
                return found
        raise


def _inverse_of_square(tall: Any) -> Map:
    # Rounding may leave the square a negative eigenvalue, and elimination without pivots then fails.
    square = sparse.csc_array(tall.T @ tall + 1e-15 * sparse.eye_array(tall.shape[1]))
    factor = splu(square, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    return lambda x: factor.solve(np.ascontiguousarray(x))


def _inverse_of_pair(tall: Any) -> Map:
    m, n = tall.shape
    # Rounding moves a squared value by a * 1e-16; b keeps a singular matrix solvable.
    a, b = 1e-8, 2e-16
    pair = sparse.block_array([[a * sparse.eye_array(m), tall], [tall.T, -b * sparse.eye_array(n)]])
    factor = splu(sparse.csc_array(pair))

    def inverse(x: Array) -> Array:
        solved: Array = factor.solve(np.concatenate([np.zeros((m, x.shape[1])), x]))
        return -solved[m:]

    return inverse


def _leading(apply: Map, n: int, k: int, tolerance: float, restarts: int) -> Array:
    """Orthonormal vectors that hold the k leading eigenvectors of a symmetric map, copies counted."""
    draws = np.random.default_rng(0)
    vectors = _eigenvectors(apply, n, k, draws, tolerance, restarts)
    bound = _quotients(apply, vectors)[-k]
    while vectors.shape[1] < n - 1:
        found = _eigenvectors(_without(apply, vectors), n, 1, draws, tolerance, restarts)
        vectors = np.linalg.qr(np.concatenate([vectors, found], axis=1))[0]
        before, bound = bound, _quotients(apply, vectors)[-k]
        if bound <= before * (1 + 10 * tolerance):
            break
    return vectors


def _without(apply: Map, vectors: Array) -> Map:
    def deflated(x: Array) -> Array:
        y = apply(x - vectors @ (vectors.T @ x))
        rest: Array = y - vectors @ (vectors.T @ y)
        return rest

    return deflated


def _eigenvectors(
    apply: Map, n: int, k: int, draws: np.random.Generator, tolerance: float, restarts: int
) -> Array:
    operator = LinearOperator(
        (n, n), matvec=lambda x: apply(x.reshape(n, 1)).reshape(n), matmat=apply, dtype=np.float64
    )
    try:
        _, vectors = eigsh(
            *(operator, k),
            which="LA",
            ncv=min(n, max(3 * k + 1, 32)),
            tol=tolerance,
            maxiter=restarts,
            v0=draws.standard_normal(n),
        )
    except ArpackNoConvergence as error:
        raise UnsupportedError(
            f"'tolerance' must be one that the iteration reaches: got {tolerance} for {k} of {n} values, "
            f"which lie too near each other; legal: a larger one, such as 1e-5, or a smaller 'input_size'"
        ) from error
    orthonormal: Array = np.linalg.qr(vectors)[0]
    return orthonormal


def _quotients(apply: Map, vectors: Array) -> Array:
    """The eigenvalues of a symmetric map within a subspace, ascending."""
    values: Array = linalg.eigvalsh(vectors.T @ apply(vectors))
    return values


def _stretches(apply: Map, vectors: Array) -> Array:
    """The singular values of a map within a subspace, descending."""
    values: Array = linalg.svdvals(apply(vectors))
    return values


def _on_columns(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Map:
    def apply(x: Array) -> Array:
        with torch.no_grad():
            rows = function(torch.from_numpy(np.array(x.T, order="C")).reshape(-1, *shape))
        found: Array = rows.reshape(x.shape[1], -1).numpy().T
        return found

    return apply


def _check_work(layer_map: LayerMap) -> None:
    """Refuse a factorisation that would not end: the square as a band matrix, the longest axis outermost."""
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
    if float(prod(fewer)) * width * width > FACTOR_WORK:
        raise UnsupportedError(
            f"'which' must be 'largest' for so large a layer: the smallest singular values need a "
            f"factorisation of {prod(fewer)} unknowns in a band of {width}; legal: a smaller 'input_size' or "
            f"fewer channels"
        )
