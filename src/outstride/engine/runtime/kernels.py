"""Kernels in memory: compiled once a process, found on disk where another process compiled them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from outstride.engine.planner.machine import InstructionSet
from outstride.engine.runtime import cache, compiler, host, teams, threads
from outstride.errors import CompileError

_lock = threading.Lock()
_addresses: dict[tuple[str, str], tuple[int, ...]] = {}
_compilations = 0
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def compilations() -> int:
    """How many kernels this process has compiled; a new size adds none (law 6)."""
    return _compilations


class Kernel:
    """A loaded kernel: `launch` runs one on an argument block; `alone` calls what is no kernel of a layer."""

    def __init__(self, address: int) -> None:
        self.address = address
        self.alone = _ENTRY(address)

    def launch(self, block: int, workers: int) -> None:
        """Have `workers` threads of the pool take its tasks, or this one alone."""
        fork = threads.fork() if workers > 1 else None
        words = teams.team(1 if fork is None else workers, block)
        there = words.buffer_info()[0]
        if fork is None:
            self.alone(there)
        else:
            fork(self.address, there, workers, 0)


class Module(NamedTuple):
    """A module of code: its name, how its text is written, for what, by what, and what others call of it.

    `author` is what decides the text together with `name`; without one the text has to be written to be
    looked for.
    """

    name: str
    source: Callable[[], str]
    isa: InstructionSet
    author: str = ""
    symbols: Sequence[str] = ("run",)

    def addresses(self) -> tuple[int, ...]:
        """Where its functions are: from memory, disk or the compiler, in this order."""
        prepare([self])
        return _addresses[self.name, self.isa.name]

    def kernel(self) -> Kernel:
        """Its entry point `run`."""
        return Kernel(self.addresses()[0])


def kernel(name: str, source: Callable[[], str], isa: InstructionSet, author: str = "") -> Kernel:
    """The kernel of a module whose entry point is `run`."""
    return Module(name, source, isa, author).kernel()


def prepare(modules: Sequence[Module]) -> None:
    """Have modules loaded; those that neither memory nor disk has are compiled side by side.

    Raises:
        CompileError: a text is no LLVM IR, or no generated code may run here.
    """
    global _compilations  # noqa: PLW0603  # a counter of the process, guarded by the lock
    if reason := host.decline():
        raise CompileError(f"a kernel was asked for where none may run: {reason}")
    with _lock:
        wanted = {(m.name, m.isa.name): m for m in modules}
        keys = {name: _key(m) for name, m in wanted.items() if name not in _addresses}
        absent = [name for name, key in keys.items() if not _read(wanted[name], key)]
        if len(absent) > 1:
            with ThreadPoolExecutor(len(absent)) as pool:
                codes = list(pool.map(_compiled, (wanted[name] for name in absent)))
        else:
            codes = [_compiled(wanted[name]) for name in absent]
        for name, code in zip(absent, codes, strict=True):
            _compilations += 1
            cache.write(keys[name], code)
            _addresses[name] = compiler.load_object(code, wanted[name].isa, wanted[name].symbols)


def _key(module: Module) -> str:
    what = (module.author, module.name) if module.author else (module.source(),)
    isa = module.isa
    target = (isa.triple, compiler.triple(isa), isa.cpu, isa.features)
    return cache.key(*what, *target, compiler.version(), " ".join(compiler.PASSES))


def _read(module: Module, key: str) -> bool:
    """Whether a file of the cache has been loaded for it."""
    code = cache.read(key)
    if code is None:
        return False
    try:
        found = compiler.load_object(code, module.isa, module.symbols)
    except CompileError:
        return False  # the digest is right, yet this process cannot map it: compile as if it were not there
    _addresses[module.name, module.isa.name] = found
    return True


def _compiled(module: Module) -> bytes:
    return compiler.compile_object(module.source(), module.isa)
