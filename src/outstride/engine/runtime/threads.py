"""The thread pool: torch's own OpenMP, so that no second pool fights it and set_num_threads is obeyed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

Fork = Callable[[int, int, int, int], object]
"""Runs a function with an argument on so many threads; the last number is 0."""


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


@lru_cache(maxsize=1)
def _helper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "outstride")


def _from_helper(parallel: Fork, *arguments: int) -> None:
    _helper().submit(parallel, *arguments).result()


class _Process:
    """Whether this process was forked.

    OpenMP keeps a pool for every thread that asks for one. Where it was started before the fork its threads
    stayed behind, and OpenMP waits for them for ever. A thread that the child starts has no such pool, and
    gets its own.
    """

    forked = False


def _in_child() -> None:
    _Process.forked = True
    _helper.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def fork() -> Fork | None:
    """GOMP_parallel(function, argument, threads, flags), or None where there is no pool to share."""
    parallel = _gomp_parallel()
    if parallel is None or not _Process.forked:
        return parallel
    return partial(_from_helper, parallel)


@lru_cache(maxsize=1)
def fork_address() -> int:
    """Where GOMP_parallel is, for code that calls it itself; 0 where there is no pool to share."""
    parallel = _gomp_parallel()
    return 0 if parallel is None else ctypes.cast(parallel, ctypes.c_void_p).value or 0


def run_forking(run: Callable[[int], object], argument: int) -> None:
    """Run a function that calls GOMP_parallel itself, in a thread that may have a pool."""
    if _Process.forked:
        _helper().submit(run, argument).result()
    else:
        run(argument)


@lru_cache(maxsize=1)
def _gomp_parallel() -> ctypes._NamedFuncPointer | None:
    library = openmp_library()
    if library is None:
        return None
    function = ctypes.CDLL(library).GOMP_parallel
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function
