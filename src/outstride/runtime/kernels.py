"""Kernels in memory: compiled once a process, found on disk where another process compiled them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence

from outstride.errors import CompileError
from outstride.planner.machine import InstructionSet
from outstride.runtime import cache, compiler, threads

_lock = threading.Lock()
_addresses: dict[tuple[str, str], tuple[int, ...]] = {}
_compilations = 0
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def compilations() -> int:
    """How many kernels this process has compiled; a new size adds none (law 6)."""
    return _compilations


class Kernel:
    """A loaded kernel, run with the address of an argument block: `alone` in this thread, or by `launch`."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.alone = _ENTRY(address)

    def launch(self, block: int, workers: int) -> None:
        """Run on `workers` threads of the pool, or straight in this one."""
        fork = threads.fork() if workers > 1 else None
        if fork is None:
            self.alone(block)
        else:
            fork(self.address, block, workers, 0)


def kernel(name: str, source: Callable[[], str], isa: InstructionSet, author: str = "") -> Kernel:
    """The kernel whose entry point is `run`, from memory, disk or the compiler, in this order."""
    return Kernel(functions(name, source, isa, ("run",), author)[0])


def functions(
    name: str, source: Callable[[], str], isa: InstructionSet, symbols: Sequence[str], author: str = ""
) -> tuple[int, ...]:
    """The addresses of a module's functions, found in the same way.

    `author` is what decides the text together with `name`; without one the text has to be written to be
    looked for.
    """
    with _lock:
        addresses = _addresses.get((name, isa.name))
        if addresses is None:
            addresses = _addresses[name, isa.name] = _obtain(name, source, isa, symbols, author)
    return addresses


def _obtain(
    name: str, source: Callable[[], str], isa: InstructionSet, symbols: Sequence[str], author: str
) -> tuple[int, ...]:
    global _compilations  # noqa: PLW0603  # a counter of the process, guarded by the lock
    what = (author, name) if author else (source(),)
    target = (isa.triple, isa.cpu, isa.features)
    key = cache.key(*what, *target, compiler.version(), " ".join(compiler.PASSES))
    code = cache.read(key)
    if code is not None:
        try:
            return compiler.load_object(code, isa, symbols)
        except CompileError:
            pass  # the digest is right, yet this process cannot map the file: compile as if it were not there
    code = compiler.compile_object(source(), isa)
    _compilations += 1
    cache.write(key, code)
    return compiler.load_object(code, isa, symbols)
