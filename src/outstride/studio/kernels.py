"""Kernels with a name, of any size: what a layer is given to do to a photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np
import numpy.typing as npt

from outstride.errors import ArgumentError
from outstride.layer.spec import ConvSpec

Floats = npt.NDArray[np.float64]


def _grid(size: tuple[int, ...]) -> list[Floats]:
    """How far each element is from the kernel's middle, along each axis."""
    middles = [np.arange(n) - (n - 1) / 2 for n in size]
    return list(np.meshgrid(*middles, indexing="ij"))


def _gauss(size: tuple[int, ...]) -> Floats:
    rows = [np.exp(-((x / max((n - 1) / 4, 0.35)) ** 2) / 2) for x, n in zip(_grid(size), size, strict=True)]
    return np.asarray(np.prod(rows, axis=0))


def _blur(spec: ConvSpec) -> Floats:
    return _gauss(spec.kernel_size)


def _edges(spec: ConvSpec) -> Floats:
    """The slope from left to right, smoothed; a kernel of one column has nothing to compare."""
    made: Floats = _gauss(spec.kernel_size) * np.sign(_grid(spec.kernel_size)[-1])
    made *= 4 / max(float(np.abs(made).sum()), 1.0)
    return made


def _outline(spec: ConvSpec) -> Floats:
    """What stands out of its surroundings: the middle less the mean."""
    made = np.full(spec.kernel_size, -2 / prod(spec.kernel_size))
    made[tuple(n // 2 for n in spec.kernel_size)] += 2
    return made


def _sharpen(spec: ConvSpec) -> Floats:
    blurred = _gauss(spec.kernel_size)
    made: Floats = np.asarray(-blurred / blurred.sum() * 1.5, np.float64)
    made[tuple(n // 2 for n in spec.kernel_size)] += 2.5
    return made


def _emboss(spec: ConvSpec) -> Floats:
    rows = _grid(spec.kernel_size)
    made: Floats = np.sign(np.sum(rows, axis=0)) * _gauss(spec.kernel_size)
    made *= 3 / max(float(np.abs(made).sum()), 1.0)
    made[tuple(n // 2 for n in spec.kernel_size)] += 1
    return made


def _same(spec: ConvSpec) -> Floats:
    return np.ones(spec.kernel_size)


def _linear(spec: ConvSpec) -> Floats:
    """A tent of two strides: interpolation, where the kernel has room for it."""
    tents = [
        np.clip(1 - np.abs(x) / s, 0, None) for x, s in zip(_grid(spec.kernel_size), spec.stride, strict=True)
    ]
    made = np.asarray(np.prod(tents, axis=0))
    return made if made.sum() else np.ones(spec.kernel_size)


def _random(spec: ConvSpec) -> Floats:
    return np.abs(np.random.default_rng(7).normal(1, 0.6, spec.kernel_size))


_DOWN: Mapping[str, Callable[[ConvSpec], Floats]] = {
    "blur": _blur, "edges": _edges, "outline": _outline, "sharpen": _sharpen, "emboss": _emboss,
    "random": _random,
}  # fmt: skip
_UP: Mapping[str, Callable[[ConvSpec], Floats]] = {
    "equal": _same, "linear": _linear, "blur": _blur, "random": _random,
}  # fmt: skip


#: The sum of a kernel that compares, as a part of the sum of its absolute numbers; sharpening has a quarter.
_COMPARES = 0.2


def names(spec: ConvSpec) -> list[str]:
    """The kernels that a layer can be given; none where it pools."""
    if spec.is_pool:
        return []
    return ["typed", *(_UP if spec.kind == "conv_transpose" else _DOWN)]


def is_signed(made: npt.NDArray[np.floating]) -> bool:
    """Whether a kernel compares rather than sums: what it makes is then seen around grey."""
    return abs(float(made.sum())) <= _COMPARES * float(np.abs(made).sum())


def kernel(spec: ConvSpec, name: str, typed: Floats) -> Floats:
    """The kernel of that name; what has a sum is scaled so that brightness stays.

    Args:
        spec: the layer.
        name: one of ``names``.
        typed: the numbers of the reader, which ``typed`` stands for.

    Raises:
        ArgumentError: there is none of that name.
    """
    known = _UP if spec.kind == "conv_transpose" else _DOWN
    if name != "typed" and name not in known:
        legal = ", ".join(names(spec))
        raise ArgumentError(
            f"'kernel' must be one that the layer can have: got {name[:20]!r}; legal: {legal}"
        )
    made = typed if name == "typed" else known[name](spec)
    total = float(made.sum())
    if is_signed(made):
        return made
    wanted = prod(spec.stride) if spec.kind == "conv_transpose" else 1
    return made / total * wanted
