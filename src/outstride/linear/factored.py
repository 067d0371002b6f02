"""Eigenvectors at the end of a sparse matrix's spectrum, by factoring it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import ArpackNoConvergence, splu

from outstride.linear.leading import Array, Map, eigenvectors, leading, quotients, stretches

_RESTARTS = 15
_SHIFTS = 40
_BLOCK_STEPS = 100
_ROUNDING = 1e-15
"""Of a matrix of norm 1."""


def lowest(matrix: Any, k: int, tolerance: float) -> Array:
    """Return orthonormal columns that hold k eigenvectors of the lowest eigenvalues, copies counted.

    Args:
        matrix: sparse, symmetric, of norm about 1, without negative eigenvalues beyond rounding.

    Inverse iteration separates eigenvalues by their distance from the shift, so the shift goes up to the
    lowest one until it does. That it never goes beyond is certain: by Sylvester's law of inertia a
    factorisation without pivoting has as many negative pivots as there are eigenvalues below the shift.
    """
    n = matrix.shape[0]
    draws = np.random.default_rng(0)
    shift, step = -_ROUNDING, 0.0
    inverse = _inverse(matrix, shift)
    if inverse is None:  # rounding went deeper than expected
        raise ArpackNoConvergence("no shift below", np.empty(0), np.empty((n, 0)))
    for _ in range(_SHIFTS):
        try:
            return leading(inverse, n, k, tolerance, _RESTARTS)
        except ArpackNoConvergence:
            if step and step < 2 * _ROUNDING:
                raise
        near = _rough(inverse, n, draws)
        step = 0.99 * (float(quotients(lambda x: matrix @ x, near)[0]) - shift)
        nearer = None
        while nearer is None and step > _ROUNDING:
            nearer = _inverse(matrix, shift + step)
            shift, step = (shift, step / 4) if nearer is None else (shift + step, step)
        if nearer is None:
            break
        inverse = nearer
    raise ArpackNoConvergence("values too near each other", np.empty(0), np.empty((n, 0)))


def near_null(tall: Any, k: int, tolerance: float) -> Array:
    """Return the k smallest singular values, descending, of a nearly singular matrix of norm 1.

    The inverse is that of [[a, A], [A^T, -b]], which eliminates to -(A^T A / a + b) without squaring A.

    Source: Bjorck, Numerical Methods for Least Squares Problems, SIAM 1996, sections 2.5 and 7.
    """
    inverse = _inverse_of_pair(tall)

    def values(vectors: Array) -> Array:
        # One step more divides what the tolerance left of larger singular values by their squares.
        return stretches(lambda x: tall @ x, np.linalg.qr(inverse(vectors))[0])[-k:]

    try:
        return values(leading(inverse, tall.shape[1], k, tolerance, _RESTARTS))
    except ArpackNoConvergence:
        # Of a singular matrix the inverse is mostly noise, and no iteration converges on its eigenvectors to
        # every digit. What they span does: a few steps with a block leave only what the matrix hardly moves.
        draws = np.random.default_rng(0)
        vectors = draws.standard_normal((tall.shape[1], min(2 * k + 8, tall.shape[1])))
        found = np.full(k, np.inf)
        for _ in range(_BLOCK_STEPS):
            vectors = np.linalg.qr(inverse(vectors))[0]
            before, found = found, values(vectors)
            if np.abs(before - found).max() <= 2 * _ROUNDING:
                return found
        raise


def _inverse(matrix: Any, shift: float) -> Map | None:
    """The inverse of the matrix less the shift; None if an eigenvalue lies below it."""
    shifted = sparse.csc_array(matrix - shift * sparse.eye_array(matrix.shape[0]))
    try:
        factor = splu(
            shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    except RuntimeError:  # a pivot of zero: an eigenvalue lies at the shift
        return None
    if not bool((factor.U.diagonal() > 0).all()):
        return None
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


def _rough(inverse: Map, n: int, draws: np.random.Generator) -> Array:
    """A vector in which the leading eigenvectors are stronger than in most."""
    try:
        return eigenvectors(inverse, n, 1, draws, 1e-2, _RESTARTS)
    except ArpackNoConvergence:
        vector = draws.standard_normal((n, 1))
        for _ in range(_RESTARTS):
            vector = np.linalg.qr(inverse(vector))[0]
        return vector
