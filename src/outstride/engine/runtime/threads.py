"""The thread pool: torch's own OpenMP, so that no second pool fights it and set_num_threads is obeyed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

from outstride.engine.runtime import host, kmpc, openmp

Fork = Callable[[int, int, int, int], object]
"""Runs a function with an argument on so many threads; the last number is 0."""

_FORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)


@lru_cache(maxsize=1)
def _helper() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "outstride")


def _from_helper(parallel: Fork, *arguments: int) -> None:
    _helper().submit(parallel, *arguments).result()


class _Process:
    """Whether this process was forked.

    GNU's OpenMP keeps a pool for every thread that asks for one. Where it was started before the fork its
    threads stayed behind, and OpenMP waits for them for ever. A thread that the child starts has no such
    pool, and gets its own.
    """

    forked = False


def _in_child() -> None:
    _Process.forked = True
    _helper.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def pool() -> str:
    """The file of the OpenMP library whose threads kernels run on, or that there is one thread, and why."""
    found = openmp.find()
    return f"none: one thread; {found}" if isinstance(found, str) else found.path


def fork() -> Fork | None:
    """What starts a parallel region, or None where there is no pool to share."""
    parallel = _parallel()
    if parallel is None or not _Process.forked:
        return parallel
    return partial(_from_helper, parallel)


@lru_cache(maxsize=1)
def fork_address() -> int:
    """Where `GOMP_parallel(function, argument, threads, flags)` is, or what is called like it; 0: no pool."""
    found = openmp.find()
    if isinstance(found, str):
        return 0
    if found.is_gnu:
        return found.functions[openmp.GNU[0]]
    return kmpc.fork_address(found.functions, host.machine().instruction_set)


@lru_cache(maxsize=1)
def number_address() -> int:
    """Where `omp_get_thread_num()` is, which of a region's threads calls it; 0: nobody knows."""
    found = openmp.find()
    return 0 if isinstance(found, str) else found.functions.get(openmp.NUMBER, 0)


@lru_cache(maxsize=1)
def _parallel() -> Fork | None:
    address = fork_address()
    return _FORK(address) if address else None


def run_forking(run: Callable[[int], object], argument: int) -> None:
    """Run a function that starts regions itself, in a thread that may have a pool."""
    if _Process.forked:
        _helper().submit(run, argument).result()
    else:
        run(argument)
