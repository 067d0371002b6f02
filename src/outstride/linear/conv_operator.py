"""``ConvOperator``: any convolution or transposed convolution as a linear operator of SciPy's."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from outstride import geometry
from outstride.errors import ArgumentError, DTypeError
from outstride.layer.arguments import choice, flag, whole
from outstride.layer.spec import ConvSpec
from outstride.linear.layer_map import LayerMap, described, to_module
from outstride.nn.serving import algorithm_of

try:
    from scipy.sparse.linalg import LinearOperator
except ImportError as error:
    raise ImportError(
        "'ConvOperator' must have SciPy, which is not installed; legal: pip install 'outstride[operator]'"
    ) from error

Array = npt.NDArray[Any]
_TORCH = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


class ConvOperator(LinearOperator):  # type: ignore[misc]
    """A layer on one input size as a matrix that is never written down, unless ``to_sparse`` is asked.

    Args:
        layer: any convolution or transposed convolution, torch's or this package's; its weights are copied,
            its algorithm kept. Or a ``ConvSpec``, with ``weight``.
        input_size: elements per axis, without batch and channels; one number stands for every axis.
        weight, bias: arrays as a torch layer holds them; only with a ``ConvSpec``.
        output_size: transposed layers only: the output wanted among those that the stride leaves open.
        dtype: float32 or float64; that of the weights by default, float32 for narrower ones. A vector of
            more digits is computed with its own.

    Returns:
        The operator A of shape (prod(output_shape), prod(input_shape)), each (channels, *size) flattened as
        NumPy and torch do: layer(x) = A x + offset. ``A.T`` (and ``A.H``, for A is real) is the layer that
        leads back, with the right ``output_padding``. The columns of ``matmat`` are one batch.

    Raises:
        ArgumentError, ShapeError, DTypeError: no such layer, or its arguments do not fit each other.
        ImportError: SciPy is not installed.

    Law: <A x, y> = <x, A.T y> for every option, padding modes included; ``dottest`` shows it.

    Example:
        >>> A = ConvOperator(torch.nn.Conv2d(3, 8, 5, stride=3, padding=2), (16, 18))
        >>> A.shape == (8 * 6 * 6, 3 * 16 * 18), A.T.spec
        (True, ConvTranspose2d(8, 3, 5, stride=3, padding=2, output_padding=(0, 2), bias=False))
    """

    def __init__(
        self,
        layer: object,
        input_size: geometry.SizesLike,
        *,
        weight: object = None,
        bias: object = None,
        output_size: geometry.SizesLike | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> None:
        spec, kept, offset = described(layer, weight, bias)
        usual = np.float64 if kept.dtype is torch.float64 else np.float32
        layer_map = LayerMap.of(spec, kept, input_size, output_size, algorithm_of(layer))
        self._begin(layer_map, offset, _served(usual if dtype is None else dtype))

    def _begin(self, layer_map: LayerMap, bias: Tensor | None, dtype: np.dtype[Any]) -> None:
        self._map = layer_map
        self._bias = bias
        self._in: dict[torch.dtype, LayerMap] = {}
        self._back: ConvOperator | None = None
        super().__init__(dtype, (prod(layer_map.output_shape), prod(layer_map.input_shape)))

    @property
    def spec(self) -> ConvSpec:
        """The layer, its padding and output_padding in numbers."""
        return self._map.spec

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels and size of what a column stands for."""
        return self._map.input_shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Channels and size of what a row stands for."""
        return self._map.output_shape

    @property
    def offset(self) -> Array:
        """The layer's affine part (rows,): its bias at every output, zeros where it has none."""
        channels, *size = self.output_shape
        bias = np.zeros(channels) if self._bias is None else self._bias.double().numpy()
        return np.repeat(bias, prod(size)).astype(self.dtype)

    def to_layer(self) -> torch.nn.Module:
        """Return a layer of ``outstride.nn`` with copies of the weights that computes A x + offset.

        Returns:
            The layer; ``A.T.to_layer()`` is the transposed one, without a bias.

        Raises:
            UnsupportedError: A is the transpose of a transposed layer whose ``output_padding`` is at least
                its stride; some of those cut off outputs of every layer there is.

        Example:
            >>> ConvOperator(torch.nn.Conv1d(1, 1, 3, stride=2), 8).T.to_layer()
            ConvTranspose1d(1, 1, kernel_size=(3,), stride=(2,), output_padding=(1,), bias=False)
        """
        return to_module(self._map.with_weight(self._map.weight.to(_TORCH[self.dtype])), self._bias)

    def to_sparse(self) -> Any:
        """Write the operator as a sparse matrix.

        Returns:
            ``scipy.sparse.csr_array`` in the operator's dtype, an entry for every input that an output
            reads: to_sparse() @ x = A x. About 12 bytes an entry (16 in float64's indices beyond 2^31).

        Example:
            >>> spec = ConvSpec.parse("Conv1d(1, 1, 2, bias=False)")
            >>> ConvOperator(spec, 3, weight=[[[1, 2]]]).to_sparse().toarray().tolist()
            [[1.0, 2.0, 0.0], [0.0, 1.0, 2.0]]
        """
        from outstride.linear.sparse_matrix import to_csr

        return to_csr(self._map_in(_TORCH[self.dtype]))

    def dottest(self, *, draws: int = 1, seed: int = 0, raiseerror: bool = True) -> bool:
        """Compare <A x, y> with <x, A.T y> on random vectors.

        Args:
            draws: pairs of vectors, at least 1.
            seed: of the generator that draws them.
            raiseerror: whether a failure is an exception; PyLops' name.

        Returns:
            Whether every pair agrees within 4 u (K + 1) <|A| |x|, |y>|, twice the bound that each side's
            sums of K products obey, u the unit round-off, and the rounding of the two products themselves.

        Raises:
            AssertionError: a pair does not agree.

        Example:
            >>> ConvOperator(torch.nn.Conv2d(2, 3, 3, stride=2, padding_mode="reflect"), 9).dottest(draws=3)
            True
        """
        whole("draws", draws, 1)
        flag("raiseerror", raiseerror)
        rng = np.random.default_rng(seed)
        sizes = ConvOperator._of(self._map.with_weight(self._map.weight.abs()), np.dtype(np.float64))
        unit = float(np.finfo(self.dtype).eps) / 2
        relative = 4 * unit * (self._map.terms + 1) + sum(self.shape) * 2.0**-53
        for _ in range(draws):
            x, y = (rng.standard_normal(n).astype(self.dtype) for n in reversed(self.shape))
            here = float(np.dot(self.matvec(x).astype(np.float64), y))
            there = float(np.dot(x, self.rmatvec(y).astype(np.float64)))
            bound = relative * float(np.dot(sizes.matvec(np.abs(x)), np.abs(y)))
            if not abs(here - there) <= bound:
                if raiseerror:
                    raise AssertionError(
                        f"<A x, y> = {here!r} but <x, A.T y> = {there!r}: they differ by "
                        f"{abs(here - there):.3g}, and rounding explains {bound:.3g} at most"
                    )
                return False
        return True

    def singular_values(
        self, k: int = 6, which: str = "largest", *, tolerance: float = 1e-8
    ) -> npt.NDArray[np.float64]:
        """Return the k largest or smallest singular values of the true padded, strided operator.

        Args:
            k: how many, from 1 to min(shape).
            which: "largest" (the first is the operator norm, the largest stretch), or "smallest" of the
                min(shape) that there are. Whatever the dtype, they are computed in float64.
            tolerance: what the iteration may miss of each value, above 0; most come out far better. Long
                signals have values so near each other that only a larger one is reached.

        Returns:
            (k,) in descending order, equal ones repeated. None is nearer than the rounding of the largest
            one, about 1e-16 of it.

        Raises:
            ArgumentError: an argument is outside its range, or a weight is not finite.
            UnsupportedError: the iteration does not reach the tolerance, or "smallest", which needs a sparse
                factorisation, is asked of too large a layer.

        Example:
            >>> averages = ConvSpec.parse("Conv1d(1, 1, 2, stride=2, bias=False)")
            >>> ConvOperator(averages, 6, weight=[[[3, 4]]]).singular_values(3).round(12).tolist()
            [5.0, 5.0, 5.0]
        """
        from outstride.linear import spectrum

        choice("which", which, ("largest", "smallest"))
        if whole("k", k, 1) > min(self.shape):
            raise ArgumentError(
                f"'k' must be at most the number of singular values: got k={k} for an operator of shape "
                f"{self.shape}; legal: 1 to {min(self.shape)}"
            )
        if not 0 < tolerance < 1:
            raise ArgumentError(
                f"'tolerance' must be a part of a value: got tolerance={tolerance!r}; legal: above 0, below 1"
            )
        if not bool(self._map.weight.isfinite().all()):
            raise ArgumentError(
                f"'layer' must have finite weights: {self.spec!r} has others; legal: no inf and no nan"
            )
        return spectrum.singular_values(self._map_in(torch.float64), k, which, tolerance)

    def condition_number(self) -> float:
        """Return the largest singular value over the smallest.

        Returns:
            How many times more the layer stretches one input (or, if it has fewer outputs than inputs, its
            adjoint one output) than another: infinite where the smallest is 0. From about 1e15 on the
            smallest is rounding, and the matrix singular for every practical purpose.

        Raises:
            UnsupportedError: as ``singular_values``.

        Example:
            >>> spec = ConvSpec.parse("Conv1d(1, 1, 1, bias=False)")
            >>> ConvOperator(spec, 4, weight=[[[2]]]).condition_number()
            1.0
        """
        top = self.singular_values(1)[0]
        bottom = self.singular_values(1, "smallest")[0]
        return float(top / bottom) if bottom > 0 else float("inf")

    def __repr__(self) -> str:
        rows, columns = self.shape
        return f"<{rows}x{columns} ConvOperator of {self.spec!r} on {self.input_shape}, {self.dtype}>"

    @classmethod
    def _of(cls, layer_map: LayerMap, dtype: np.dtype[Any]) -> ConvOperator:
        made = cls.__new__(cls)
        made._begin(layer_map, None, dtype)  # noqa: SLF001
        return made

    def _adjoint(self) -> ConvOperator:
        if self._back is None:
            self._back = ConvOperator._of(self._map.adjoint(), self.dtype)
            self._back._back = self  # noqa: SLF001
        return self._back

    def _transpose(self) -> ConvOperator:
        return self._adjoint()

    def _matvec(self, x: Array) -> Array:
        return self._computed(x.reshape(-1, 1), forward=True)[:, 0]

    def _rmatvec(self, x: Array) -> Array:
        return self._computed(x.reshape(-1, 1), forward=False)[:, 0]

    def _matmat(self, X: Array) -> Array:
        return self._computed(X, forward=True)

    def _rmatmat(self, X: Array) -> Array:
        return self._computed(X, forward=False)

    def _computed(self, columns: Any, forward: bool) -> Array:
        """The columns as one batch through the engine."""
        columns = np.asarray(columns)
        kind = columns.dtype
        if kind.kind == "c":
            both = np.concatenate([columns.real, columns.imag], axis=1)
            real, imaginary = np.split(self._computed(both, forward), 2, axis=1)
            return real + 1j * imaginary
        if kind.kind not in "fiub" or kind.itemsize > 8:
            raise DTypeError(
                f"'x' must hold real or complex numbers of at most double precision: got {kind}; legal: "
                f"float32, float64, complex64, complex128, integers"
            )
        dtype = np.result_type(self.dtype, kind)
        layer_map = self._map_in(_TORCH[dtype])
        shape = layer_map.input_shape if forward else layer_map.output_shape
        # A copy: torch asks for memory that may be written, and a solver's vectors are its own.
        batch = torch.from_numpy(np.array(columns.T, dtype, order="C")).reshape(
            -1 if columns.size else 0, *shape
        )
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            found = layer_map.forward(batch) if forward else layer_map.backward(batch)
        back: Array = found.flatten(1).numpy().T
        return back

    def _map_in(self, dtype: torch.dtype) -> LayerMap:
        if dtype not in self._in:
            self._in[dtype] = self._map.with_weight(self._map.weight.to(dtype))
        return self._in[dtype]


def _served(dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in _TORCH:
        raise DTypeError(f"'dtype' must be one that solvers work in: got {dtype!r}; legal: float32, float64")
    return found
