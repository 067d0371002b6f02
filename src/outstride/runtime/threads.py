"""The thread pool: torch's own OpenMP, so that no second pool fights it and set_num_threads is obeyed."""

from __future__ import annotations

import ctypes
import os
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
    mapped = (line.split(maxsplit=5) for line in lines if "/libgomp" in line)
    found = {fields[5] for fields in mapped if len(fields) == 6}
    return min(found) if found else None


class _Pool:
    """Whether a process with a running pool forked this one: the pool's threads stayed behind."""

    used = False
    orphaned = False


def _orphan() -> None:
    _Pool.orphaned = _Pool.used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_orphan)


def fork() -> Fork | None:
    """GOMP_parallel(function, argument, threads, flags), or None where there is no pool to share."""
    if _Pool.orphaned:
        return None
    _Pool.used = True
    return _gomp_parallel()


@lru_cache(maxsize=1)
def _gomp_parallel() -> Fork | None:
    library = openmp_library()
    if library is None:
        return None
    function = ctypes.CDLL(library).GOMP_parallel
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function
