"""Leading eigenvectors of a symmetric map, every copy of each.

A convolution's singular values come in copies (frequencies in pairs, channels that are alike, patches that do
not overlap), and a Krylov method finds one copy of each. So what was found is taken out and the search starts
again, until it finds nothing that belongs among the k.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import linalg
from scipy.sparse.linalg import LinearOperator, eigsh

Array = npt.NDArray[np.float64]
Map = Callable[[Array], Array]


def leading(apply: Map, n: int, k: int, tolerance: float, restarts: int) -> Array:
    """Return orthonormal columns whose span holds k leading eigenvectors, copies counted.

    Raises:
        scipy.sparse.linalg.ArpackNoConvergence: not within that many restarts.
    """
    draws = np.random.default_rng(0)
    vectors = eigenvectors(apply, n, k, draws, tolerance, restarts)
    bound = quotients(apply, vectors)[-k]
    while vectors.shape[1] < n - 1:
        found = eigenvectors(_without(apply, vectors), n, 1, draws, tolerance, restarts)
        vectors = np.linalg.qr(np.concatenate([vectors, found], axis=1))[0]
        before, bound = bound, quotients(apply, vectors)[-k]
        if bound <= before * (1 + 10 * tolerance):
            break
    return vectors


def eigenvectors(
    apply: Map, n: int, k: int, draws: np.random.Generator, tolerance: float, restarts: int
) -> Array:
    """Return k orthonormal leading eigenvectors, of equal eigenvalues perhaps only one."""
    operator = LinearOperator(
        (n, n), matvec=lambda x: apply(x.reshape(n, 1)).reshape(n), matmat=apply, dtype=np.float64
    )
    _, vectors = eigsh(
        *(operator, k),
        which="LA",
        ncv=min(n, max(3 * k + 1, 32)),
        tol=tolerance,
        maxiter=restarts,
        v0=draws.standard_normal(n),
    )
    orthonormal: Array = np.linalg.qr(vectors)[0]
    return orthonormal


def quotients(apply: Map, vectors: Array) -> Array:
    """Return the eigenvalues of a symmetric map within a subspace, ascending."""
    values: Array = linalg.eigvalsh(vectors.T @ apply(vectors))
    return values


def stretches(apply: Map, vectors: Array) -> Array:
    """Return the singular values of a map within a subspace, descending."""
    values: Array = linalg.svdvals(apply(vectors))
    return values


def _without(apply: Map, vectors: Array) -> Map:
    def deflated(x: Array) -> Array:
        y = apply(x - vectors @ (vectors.T @ x))
        rest: Array = y - vectors @ (vectors.T @ y)
        return rest

    return deflated
