"""The systems that code is written for, and what has been tried on each, as `outstride info` says it."""

from __future__ import annotations

import platform
from typing import NamedTuple

from outstride.engine.runtime import compiler


class System(NamedTuple):
    """A system on an architecture, how LLVM names what is loaded there, and what was tried."""

    name: str
    architecture: str
    #: On Windows llvmlite loads objects in the form of Linux's.
    triple: str
    tried: str

    def __str__(self) -> str:
        return f"{self.name} {self.architecture}"


_COMPILED = "untested: its code is compiled and inspected"
SYSTEMS = (
    System("Linux", "x86_64", "x86_64-unknown-linux-gnu", "tested: every law, at every change"),
    System(
        "Linux", "aarch64", "aarch64-unknown-linux-gnu",
        "untested on a machine: compiled, inspected, emulated",
    ),
    System(
        "Windows", "x86_64", "x86_64-pc-windows-msvc-elf",
        f"{_COMPILED}, and run on Linux by Windows' calling convention",
    ),
    System("macOS", "aarch64", "arm64-apple-darwin", _COMPILED),
    System("macOS", "x86_64", "x86_64-apple-darwin", f"{_COMPILED}, and run on Linux from objects of macOS"),
)  # fmt: skip
#: Where nothing is made: LLVM 22 fails an assertion of its own on kernels in the form that is loaded there.
UNSERVED = {("Windows", "aarch64"): "LLVM cannot compile kernels as they are loaded on Windows on Arm"}
_NAMES = {"Darwin": "macOS"}


def _here() -> tuple[str, str]:
    kernel = platform.system()
    return _NAMES.get(kernel, kernel), compiler.architecture()


def unserved() -> str | None:
    """Why nothing is made on this system, or nothing."""
    return UNSERVED.get(_here())


def here() -> str:
    """This system, and what was tried on it."""
    name, architecture = _here()
    reason = unserved()
    known = (s.tried for s in SYSTEMS if (s.name, s.architecture) == (name, architecture))
    tried = next(known, "untested") if reason is None else f"not served: {reason}"
    return f"{name} {architecture}: {tried}"
