"""What this machine is: its instruction sets and clock, and the set in use, which tests may choose."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine, as_run_by
from outstride.engine.runtime import compiler, probe, second_level, systems
from outstride.errors import ArgumentError, UnsupportedError

_NEEDS = {
    "avx512": ("avx512f", "avx512vl", "avx512dq", "avx512bw", "fma", "f16c"),
    "avx2": ("avx2", "fma", "f16c"),
    "generic": ("avx", "fma", "f16c"),
    "neon": (),
}


class _Choice(threading.local):
    """The instruction set that this thread chose, if it did."""

    name: str | None = None


_chosen = _Choice()


@lru_cache(maxsize=1)
def detected() -> tuple[str, ...]:
    """The instruction sets that this processor says it has, the best first."""
    if systems.unserved() is not None:
        return ()
    features = compiler.host_features()
    return tuple(
        name
        for name, needs in _NEEDS.items()
        if compiler.native(INSTRUCTION_SETS[name]) and all(features.get(n, False) for n in needs)
    )


@lru_cache(maxsize=1)
def available() -> tuple[str, ...]:
    """The instruction sets that run here, the best first: of those that it says it has, what was tried."""
    names = detected()
    return probe.verdict(names).runs if names else ()


def probed() -> dict[str, str]:
    """How the instruction sets that the processor says it has were tried, and what became of each."""
    names = detected()
    if not names:
        return {}
    found = probe.verdict(names)
    return {"how": found.how, **{name: found.fails.get(name, "runs") for name in names}}


@lru_cache(maxsize=1)
def clock() -> tuple[float, str] | None:
    """Cycles a second of the first core as the system states them, and where; None where it states nothing.

    The rate at work is another: it goes with load, temperature and width of the vectors.
    """
    for path, pattern, unit in _CLOCKS:
        try:
            found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
        except OSError:
            continue
        if found is not None and float(found[1]) > 0:
            return float(found[1]) * unit, path
    return None


#: Files that state a clock rate, where in them, and its unit: the highest rate comes before that of now.
_CLOCKS = (
    ("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", r"^([0-9]+)", 1e3),
    ("/proc/cpuinfo", r"^cpu MHz\s*: ([0-9.]+)", 1e6),
    ("/proc/cpuinfo", r"^model name.*@ ([0-9.]+)GHz", 1e9),
)


def decline() -> str | None:
    """Why no kernel runs here, or nothing."""
    if available():
        return None
    if reason := systems.unserved():
        return reason
    if not any(compiler.native(isa) for isa in INSTRUCTION_SETS.values()):
        return f"the engine has no instruction set for {compiler.architecture()}"
    if not detected():
        return "this processor has no fused multiply-add that the engine can use"
    reasons = dict.fromkeys(probe.verdict(detected()).fails.values())
    return f"generated code does not run here: {'; '.join(reasons)}"


@lru_cache(maxsize=8)
def _machine(name: str) -> Machine:
    return Machine(as_run_by(INSTRUCTION_SETS[name], compiler.host_cpu()), second_level.found()[0])


def machine() -> Machine:
    """The machine that plans are made for: the best instruction set, or the one that was chosen."""
    return _machine(_chosen.name or _default())


def chosen() -> str | None:
    """The name of the instruction set that this thread chose, or None; cheap enough for every call."""
    return _chosen.name


@lru_cache(maxsize=1)
def _default() -> str:
    if reason := decline():
        raise UnsupportedError(
            f"no kernel can be planned where none runs: {reason}; torch's own functions do"
        )
    name = os.environ.get("OUTSTRIDE_ISA")
    if name:
        _check(name)
    return name or available()[0]


def _check(name: str) -> None:
    if name not in available():
        legal = ", ".join(available())
        raise ArgumentError(
            f"'instruction_set' must be one that this processor runs: got {name!r}; legal: {legal}."
        )


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """Within the block this thread's calls use the named instruction set.

    >>> with instruction_set("generic"):
    ...     print(machine().instruction_set.name)
    generic
    """
    _check(name)
    before = _chosen.name
    _chosen.name = name
    try:
        yield
    finally:
        _chosen.name = before
