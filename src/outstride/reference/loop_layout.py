"""Arrays brought into the order that the reference loops index, and back; what does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from outstride.errors import ArgumentError, DTypeError, ShapeError
from outstride.layer.spec import ConvSpec, Kind

Array = npt.NDArray[Any]


def exact(name: str, value: npt.ArrayLike) -> Array:
    """The array in the type that it is computed in."""
    array = np.asarray(value)
    if array.dtype.kind in "fc":
        return array.astype(np.result_type(array, np.float64))
    if array.dtype.kind in "biu":
        return array.astype(np.int64 if array.dtype.itemsize < 8 or array.dtype.kind == "i" else object)
    if array.dtype.kind == "O":
        return array
    raise DTypeError(
        f"{name!r} must hold numbers: got {array.dtype}; legal: floats, integers, complex numbers"
    )


def matrix(name: str, value: npt.ArrayLike) -> Array:
    """The array, if it is a matrix."""
    array = exact(name, value)
    if array.ndim != 2:
        raise ShapeError(f"{name!r} must be a matrix: got shape {array.shape}; legal: two axes")
    return array


def with_batch(name: str, value: npt.ArrayLike, spec: ConvSpec) -> tuple[Array, bool]:
    """The array with a batch axis, and whether it had one."""
    array = exact(name, value)
    if array.ndim not in (spec.nd + 1, spec.nd + 2):
        raise ShapeError(
            f"{name!r} must have {spec.nd + 2} axes, or {spec.nd + 1} without a batch, for {spec!r}: got "
            f"shape {array.shape}; legal: (N, C, *size) or (C, *size)"
        )
    batched = array.ndim == spec.nd + 2
    array = array if batched else array[np.newaxis]
    if array.shape[1] % spec.groups:
        raise ShapeError(
            f"{name!r} must have channels divisible by 'groups': got {array.shape[1]} with "
            f"groups={spec.groups}; legal: a multiple of {spec.groups}"
        )
    return array, batched


def check_channels(name: str, array: Array, channels: int) -> None:
    """Refuse an array whose channels are not those of the weight."""
    if array.shape[1] != channels:
        raise ShapeError(
            f"{name!r} must have the channels that 'w' and 'groups' ask for: got {array.shape[1]}; "
            f"legal: {channels}"
        )


def positions_first(array: Array, spec: ConvSpec) -> Array:
    """(n, g * c, *positions) -> (*positions, g, n, c)."""
    n, channels, *positions = array.shape
    split = array.reshape(n, spec.groups, channels // spec.groups, *positions)
    return np.moveaxis(split, (1, 0, 2), (-3, -2, -1))


def taps_first(name: str, weight: Array, spec: ConvSpec) -> Array:
    """(g * oc, ic, *k) -> (*k, g, ic, oc)."""
    out_channels, in_channels, *kernel = weight.shape
    if out_channels % spec.groups:
        raise ShapeError(
            f"{name!r} must have a first axis divisible by 'groups': got {out_channels} with "
            f"groups={spec.groups}; legal: a multiple of {spec.groups}"
        )
    split = weight.reshape(spec.groups, out_channels // spec.groups, in_channels, *kernel)
    return np.moveaxis(split, (0, 2, 1), (-3, -2, -1))


def finished(y: Array, bias: npt.ArrayLike | None, batched: bool) -> Array:
    """(*positions, g, n, c) -> (n, g * c, *positions), with the bias added."""
    y = np.moveaxis(y, (-2, -3, -1), (0, 1, 2))
    y = y.reshape(y.shape[0], y.shape[1] * y.shape[2], *y.shape[3:])
    if bias is not None:
        b = exact("bias", bias)
        if b.shape != y.shape[1:2]:
            raise ShapeError(
                f"'bias' must have one number per output channel: got {b.shape}; legal: {y.shape[1:2]}"
            )
        y = y + b.reshape(-1, *[1] * (y.ndim - 2))
    return y if batched else y[0]


def check_within(outs: tuple[int, ...], most: tuple[int, ...]) -> None:
    """Refuse a size beyond a convolution's output."""
    if any(out > legal for out, legal in zip(outs, most, strict=True)):
        raise ShapeError(f"'y' must lie in the output of conv: got {outs}; legal: {most} or less")


def windows(X: Array, window: tuple[int, ...]) -> tuple[int, ...]:
    """How many places a window has on each axis of an array, at least one."""
    outs = tuple(i - k + 1 for i, k in zip(X.shape, window, strict=True))
    if min(*outs, *window) < 1:
        raise ShapeError(
            f"'X' must hold at least one window: got {X.shape} for {window}; legal: {window} or more"
        )
    return outs


def pool_kind(mode: str) -> Kind:
    """The kind of layer that pools in that mode."""
    if mode not in ("max", "avg"):
        raise ArgumentError(f"'mode' must be one of its names: got mode={mode!r}; legal: 'max', 'avg'")
    return "max_pool" if mode == "max" else "avg_pool"


def least(dtype: np.dtype[Any]) -> float | int:
    """What no element of that type lies below: the maximum over nothing."""
    return int(np.iinfo(dtype).min) if dtype.kind == "i" else -np.inf
