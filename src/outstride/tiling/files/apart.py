"""Results may not go where the input is read from: later tiles would read results."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from outstride.errors import ArgumentError
from outstride.tiling.files.readers import File

#: Steps for an exact answer whether two views share an element; beyond that they count as sharing.
_MOST_WORK = 10_000


def check_apart(source: Any, out: Any) -> None:
    """Refuse a target that is the source, by whatever name, or that shares memory with it.

    Raises:
        ArgumentError: it is.
    """
    a, b = place_of(source), place_of(out)
    if a is not None and b is not None and _meet(a, b):
        raise ArgumentError(
            f"'out' must be another file than 'source': got {str(b)!r} for {str(a)!r}; legal: another name"
        )
    read, written = _memory(source), _memory(out)
    if read is not None and written is not None and _share(read, written):
        raise ArgumentError(
            "'out' must not share memory with 'source': got two views of one; legal: another array"
        )


def place_of(value: Any) -> Path | None:
    """The file or folder behind a path, a memory map or an array of zarr."""
    if isinstance(value, File):
        return value.place
    if isinstance(value, (str, Path)):
        return Path(value)
    base = value
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None) if isinstance(base, np.ndarray) else None
    name = getattr(base, "filename", None)
    if name is not None:
        return Path(os.fspath(name))
    root, inner = getattr(getattr(value, "store", None), "root", None), getattr(value, "path", None)
    return root / inner if isinstance(root, Path) and isinstance(inner, str) else None


def _meet(a: Path, b: Path) -> bool:
    """Whether two places are one, or one lies in the other."""
    try:
        if a.samefile(b):
            return True
    except OSError:
        pass  # one of them does not exist yet
    first, second = (Path(os.path.realpath(place)) for place in (a, b))
    return first.is_relative_to(second) or second.is_relative_to(first)


def _memory(value: Any) -> Any:
    """An array of NumPy over the same memory."""
    if isinstance(value, torch.Tensor):
        if value.device.type != "cpu" or value.layout != torch.strided:
            return None
        value = value.detach()
        return (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).resolve_conj().numpy()
    return value if isinstance(value, np.ndarray) else None


def _share(a: Any, b: Any) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=_MOST_WORK))  # type: ignore[arg-type] # the stubs know two values
    except RuntimeError:  # too hard, in the words of NumPy
        return True
