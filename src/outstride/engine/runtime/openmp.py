"""Which OpenMP library torch computes with: its pool is shared, so another copy in the process will not do.

A process may hold several, for scikit-learn, MKL and others bring their own. Torch's is the one that the
loader gave it, and the loader is asked: for symbols, as it looks them up for torch, where it has such a
search; by name on Windows, where a name belongs to the library that was loaded first. Nothing is ever loaded
here.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

#: GNU's way to start a parallel region, which LLVM's and Intel's libraries have, too, but not on Windows.
GNU = ("GOMP_parallel",)
#: LLVM's and Intel's own.
LLVM = ("__kmpc_fork_call", "__kmpc_push_num_threads", "__kmpc_global_thread_num")
#: Which thread of a region asks: the standard's own, which all of them have.
NUMBER = "omp_get_thread_num"
#: The libraries that torch is built with on Windows and that have LLVM's functions, Intel's first.
_ON_WINDOWS = ("libiomp5md.dll", "libomp140.x86_64.dll", "libomp140.aarch64.dll", "libomp.dll")
_MICROSOFTS = "vcomp140.dll"


class OpenMP(NamedTuple):
    """A library that is loaded: its file, what it offers by address, and of whose kind that is."""

    path: str
    functions: dict[str, int]

    @property
    def is_gnu(self) -> bool:
        """Whether a region is started by GNU's function."""
        return GNU[0] in self.functions


def find() -> OpenMP | str:
    """The library that torch is bound to in this process, or why there is none to share."""
    extension = getattr(sys.modules.get("torch._C"), "__file__", None)
    if extension is None:
        return "torch is not loaded"
    if sys.platform == "win32":
        return loaded_by_name(_module_handle, _module_path)
    return bound_to(scopes(extension, sys.platform))


def scopes(extension: str, platform: str) -> Iterator[ctypes.CDLL]:
    """Where the loader looks for what torch's extension calls, in its order.

    With ELF first in what the whole process sees, such as a library that was preloaded; then in the libraries
    that the extension depends on, and that these depend on. On macOS in those alone.
    """
    if platform != "darwin":
        yield ctypes.CDLL(None)
    try:
        yield ctypes.CDLL(extension, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:  # it is linked into the program
        if platform == "darwin":
            yield ctypes.CDLL(None)


def bound_to(places: Iterator[ctypes.CDLL]) -> OpenMP | str:
    """The library of the first place that has one."""
    for place in places:
        for names in (GNU, LLVM):
            functions = _functions(place, names)
            if functions is not None:
                return OpenMP(_file_of(functions[names[0]]), functions)
    return "torch was built without OpenMP"


def loaded_by_name(
    handle_of: Callable[[str], int | None], path_of: Callable[[int], str], names: Sequence[str] = _ON_WINDOWS
) -> OpenMP | str:
    """The first library of these names that is loaded, by functions that say where one lies, and its file."""
    for name in names:
        handle = handle_of(name)
        if handle:
            functions = _functions(ctypes.CDLL(name, handle=handle), LLVM)
            if functions is None:
                return f"{path_of(handle)} lacks LLVM's functions"
            return OpenMP(path_of(handle), functions)
    if handle_of(_MICROSOFTS):
        return f"torch was built with Microsoft's OpenMP ({_MICROSOFTS}), which is not supported"
    return "torch was built without OpenMP"


def _functions(library: ctypes.CDLL, names: Sequence[str]) -> dict[str, int] | None:
    """Where a library has these, and `NUMBER` if it has it; None if one is missing."""
    found = {name: _address(getattr(library, name)) for name in (*names, NUMBER) if hasattr(library, name)}
    return found if all(name in found for name in names) else None


def _address(function: ctypes._NamedFuncPointer) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class _Found(ctypes.Structure):
    """What `dladdr` says of an address."""

    _fields_ = (
        ("path", ctypes.c_char_p), ("base", ctypes.c_void_p), ("name", ctypes.c_char_p),
        ("at", ctypes.c_void_p),
    )  # fmt: skip


def _file_of(address: int) -> str:
    """The file that an address was loaded from."""
    found = _Found()
    try:
        known = ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(found))
    except AttributeError:
        known = 0
    return os.fsdecode(found.path) if known and found.path else "a library without a name"


def _module_handle(name: str) -> int | None:
    """Where Windows has loaded a library of this name."""
    handle: int | None = None
    if sys.platform == "win32":
        look = ctypes.WinDLL("kernel32").GetModuleHandleW
        look.argtypes, look.restype = [ctypes.c_wchar_p], ctypes.c_void_p
        handle = look(name)
    return handle


def _module_path(handle: int) -> str:
    """The file that Windows has loaded there."""
    text = ctypes.create_unicode_buffer(1 << 15)
    if sys.platform == "win32":
        look = ctypes.WinDLL("kernel32").GetModuleFileNameW
        look.argtypes, look.restype = [ctypes.c_void_p, ctypes.c_wchar_p, ctypes.c_uint32], ctypes.c_uint32
        look(handle, text, len(text))
    return text.value
