"""The thread pool: torch's own OpenMP, so that no second pool fights with it and torch.set_num_threads is obeyed."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

Fork = Callable[[int, int, int, int], object]


@lru_cache(maxsize=1)
def openmp_library() -> str | None:
    """The GNU OpenMP library that is loaded in this process, or None."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    found = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line and len(line.split(maxsplit=5)) == 6}
    return min(found) if found else None


@lru_cache(maxsize=1)
def fork() -> Fork | None:
    """GOMP_parallel(function, argument, threads, flags), or None where there is no pool to share."""
    library = openmp_library()
    if library is None:
        return None
    function = ctypes.CDLL(library).GOMP_parallel
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function  # type: ignore[no-any-return]  # ctypes functions are callable objects without a type
