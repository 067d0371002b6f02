"""Whether generated code may run here: tried in a process of its own, which may die of it, once a machine.

A processor, an emulator or a hypervisor may promise instructions that it lacks or computes in another way,
and a system may refuse to run what was not loaded from a file: then a kernel would end the process without a
word. What is found is kept beside the kernels if all is well, for this machine, this compiler and this
confinement. What is not well is tried again by the next process: who mends it has no file to delete.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import llvmlite

from outstride.engine.runtime import cache, compiler, trial

#: So long may it take; an emulator takes a hundred times as long as the machine that it runs on.
_SECONDS = 120


class Verdict(NamedTuple):
    """The instruction sets that run, why others do not, and how that was found out."""

    runs: tuple[str, ...]
    fails: dict[str, str]
    how: str


@lru_cache(maxsize=1)
def verdict(names: tuple[str, ...]) -> Verdict:
    """What became of the instruction sets that the processor is said to have."""
    refusal = compiler.refusal()
    if refusal is not None:
        return Verdict((), dict.fromkeys(names, refusal), "tried in this process")
    if os.environ.get("OUTSTRIDE_PROBE") == "off":
        return Verdict(names, {}, "not tried: OUTSTRIDE_PROBE is off")
    key = cache.key(trial.EDITION, *names, compiler.version(), compiler.host(), *_machine(), *confinement())
    if cache.read(key, cache.VERDICT) is not None:
        return Verdict(names, {}, "tried before on this machine")
    found = _tried(names)
    if found.runs == names and not found.how.startswith("not tried"):
        cache.write(key, b"right", cache.VERDICT)
    return found


def _tried(names: tuple[str, ...]) -> Verdict:
    """Try them in one process, and those behind one that it dies of in another."""
    import subprocess

    command, reason = _command()
    left, runs, fails = list(names), list[str](), dict[str, str]()
    while left and command is not None:
        try:
            done = subprocess.run(  # noqa: S603  # this very interpreter, on a module of this package
                [*command, *left], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=_SECONDS, check=False, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            reason = f"no answer within {_SECONDS} seconds"
            break
        except (OSError, ValueError, RuntimeError) as problem:
            reason = f"no process could be started ({problem})"
            break
        said = reading(done.stdout)
        runs += [name for name in left if said.get(name) == trial.RIGHT]
        fails |= {name: "its results are wrong" for name in left if said.get(name) == trial.WRONG}
        died = next((name for name in left if said.get(name) == trial.TRYING), None)
        if died is not None:
            fails[died] = f"it ends a process ({_ending(done.returncode)})"
        elif len(said) < len(left):  # it ended before it came to it: that says nothing of generated code
            reason = _last_line(done.stderr) or "the process said nothing"
            break
        left = [name for name in left if name not in said]
    if left:
        return Verdict(tuple(name for name in names if name not in fails), fails, f"not tried: {reason}")
    return Verdict(tuple(runs), fails, "tried in a process of its own")


def reading(output: str) -> dict[str, str]:
    """The last word on each set in what the process has said."""
    lines = (line.split() for line in output.splitlines())
    return {words[1]: words[0] for words in lines if len(words) == 2}


def _command() -> tuple[list[str] | None, str]:
    """What runs `trial.main` on the names behind it, or why nothing can."""
    from multiprocessing.spawn import get_executable

    if getattr(sys, "frozen", False):
        return None, "the program is frozen, so there is no interpreter to start"
    executable = os.fsdecode(get_executable() or "")
    if not Path(executable).stem.lower().startswith(("python", "pypy")):
        return None, f"{executable or 'the program'} is no interpreter to start"
    places = [str(Path(file).parents[depth]) for file, depth in ((__file__, 3), (llvmlite.__file__, 1))]
    paths = ascii([*map(str, sys.path), *places])
    work = "from outstride.engine.runtime import trial; trial.main(sys.argv[1:])"
    return [executable, "-S", "-c", f"import sys; sys.path[:] = {paths}; {work}"], ""


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _ending(code: int) -> str:
    """How a process ended, by the name of its signal where there is one."""
    import signal

    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _machine() -> tuple[str, ...]:
    return platform.machine(), platform.release(), platform.version()


#: What Linux says of a process: filters of its system calls, and whose rules it is under.
_STATUS = ("Seccomp", "Seccomp_filters")
_PR_GET_MDWE = 66


def confinement() -> tuple[str, ...]:
    """What may keep this process from what others on the machine may do, as far as the system tells."""
    if not sys.platform.startswith("linux"):
        return ()
    said = []
    try:
        status = Path("/proc/self/status").read_text()
        said += [line for line in status.splitlines() if line.partition(":")[0] in _STATUS]
        said.append(Path("/proc/self/attr/current").read_text())
    except (OSError, ValueError):
        said.append("unknown")
    try:
        said.append(str(ctypes.CDLL(None).prctl(_PR_GET_MDWE, 0, 0, 0, 0)))
    except (OSError, AttributeError):
        said.append("unknown")
    return tuple(said)
