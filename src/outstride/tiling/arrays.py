"""What tiles are read from and written to: tensors, and whatever is sliced as NumPy's arrays are."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from outstride.errors import ArgumentError, DTypeError
from outstride.tiling.box import Box, slices, whole

_DTYPES = {
    torch.float32: "float32", torch.float64: "float64", torch.float16: "float16", torch.int64: "int64",
    torch.int32: "int32", torch.int16: "int16", torch.int8: "int8", torch.uint8: "uint8", torch.bool: "bool",
}  # fmt: skip
_LABELS = (torch.bool, torch.int32, torch.int64)
_PATHS = ", or the path of a file"


class Readable(Protocol):
    """An array in memory, in a file or behind a store."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def __getitem__(self, key: tuple[slice, ...]) -> Any: ...


def read(source: Readable | Tensor, box: Box, dtype: torch.dtype) -> Tensor:
    """A box of a source as a tensor of the model's type; the source is left alone."""
    part = source[slices(box)]
    if isinstance(part, Tensor):
        return part.detach().to(dtype)
    values = np.asarray(part)
    if not values.flags.writeable or any(stride < 0 for stride in values.strides):
        values = values.copy()
    if values.dtype.byteorder == ">" or values.dtype in (np.uint16, np.uint32):
        values = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    elif values.dtype == np.longdouble:
        values = values.astype(np.float64)
    return torch.from_numpy(values).to(dtype)


def read_whole(source: Readable | Tensor, dtype: torch.dtype) -> Tensor:
    """All of a source as a tensor of the model's type, likewise."""
    if not isinstance(source, Tensor):
        return read(source, whole(source.shape), dtype)
    if source.dtype == dtype and not source.requires_grad:
        return source
    return source.detach().to(dtype)


def label_dtype(source: Readable | Tensor) -> torch.dtype | None:
    """The type of what models take for labels, masks or steps; None of what they take for numbers."""
    if isinstance(source, Tensor):
        return source.dtype if source.dtype in _LABELS else None
    dtype: Any = source.dtype
    name = np.dtype(dtype).name
    return next((dtype for dtype in _LABELS if _DTYPES[dtype] == name), None)


def reading_bytes(source: Any, dtype: torch.dtype) -> int:
    """Bytes of each element that reading takes beside the tensor of that type that it makes."""
    item = int(getattr(source.dtype, "itemsize", dtype.itemsize))
    return 3 * item if str(source.dtype) in ("uint16", "uint32") else item  # by way of floats


def strides_of(source: Readable | Tensor, dtype: torch.dtype) -> tuple[int, ...] | None:
    """How a source in memory lies there once it has that type; None where it is in order or elsewhere."""
    if isinstance(source, np.ndarray):
        size = max(source.dtype.itemsize, 1)
        if any(stride <= 0 or stride % size for stride in source.strides):
            return None
        strides, held = tuple(stride // size for stride in source.strides), None
    elif isinstance(source, Tensor):
        strides, held = source.stride(), source.dtype
    else:
        return None
    if any(stride == 0 and size > 1 for stride, size in zip(strides, source.shape, strict=True)):
        return None
    made = torch.empty_strided(source.shape, strides, dtype=held or dtype, device="meta")
    return made.to(dtype).stride()


def write(target: Any, box: Box, tile: Tensor) -> None:
    """Put a tile where it belongs."""
    target[slices(box)] = tile if isinstance(target, Tensor) else tile.numpy()


def check_source(source: Any, argument: str = "source", paths: str = _PATHS) -> None:
    """Refuse what is no array of numbers.

    Raises:
        ArgumentError: it has no shape, or cannot be sliced.
        DTypeError: its elements are no real numbers.
    """
    if isinstance(source, Tensor):
        kind = "c" if source.is_complex() else "f"
    elif hasattr(source, "shape") and hasattr(source, "__getitem__"):
        kind = getattr(getattr(source, "dtype", None), "kind", "f")
    else:
        raise ArgumentError(
            f"'{argument}' must be an array{', a tensor or a path' if paths else ' or a tensor'}: got "
            f"{type(source).__name__}; legal: a tensor, an array of NumPy or zarr, a memory map{paths}"
        )
    if kind not in "fiub":
        raise DTypeError(
            f"'{argument}' must hold real numbers: got {source.dtype}; legal: floats, integers, bool"
        )


def made_for(source: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    """An array for the results: a tensor where the source is one, else NumPy's."""
    if isinstance(source, Tensor):
        return torch.empty(shape, dtype=dtype)
    return np.empty(shape, numpy_dtype(dtype))


def numpy_dtype(dtype: torch.dtype, argument: str = "out") -> Any:
    """NumPy's name for a type of elements.

    Raises:
        DTypeError: NumPy has none.
    """
    if dtype not in _DTYPES:
        legal = "a tensor as 'out'" if argument == "out" else ", ".join(_DTYPES.values())
        raise DTypeError(f"'{argument}' must have a type that NumPy has: got {dtype}; legal: {legal}")
    return np.dtype(_DTYPES[dtype])


def check_target(out: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Refuse what the results do not fit into.

    Raises:
        ArgumentError: it cannot be written to, or has another shape or type.
    """
    got = getattr(out, "shape", None)
    if got is None or tuple(got) != shape or not hasattr(out, "__setitem__"):
        shown = type(out).__name__ if got is None else tuple(got)
        raise ArgumentError(f"'out' must have the shape of the model's result: got {shown}; legal: {shape}")
    wanted = dtype if isinstance(out, Tensor) else numpy_dtype(dtype)
    if out.dtype != wanted:
        raise ArgumentError(
            f"'out' must have the type of the model's result: got {out.dtype}; legal: {wanted}"
        )
    flags = getattr(out, "flags", None)
    if flags is not None and not getattr(flags, "writeable", True):
        raise ArgumentError("'out' must be writable: got a read-only array; legal: one opened with mode 'r+'")
