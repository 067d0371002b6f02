"""What the system is told of pages: where large ones are wanted, and which are read no more.

Large pages are for large results: the first touch of a page costs more than computing what is written to
it. Measured on 64 MB written once: 48 ms in pages of 4 KB, 8 ms in pages of 2 MB that the kernel hands out
on request.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from mmap import PAGESIZE
from pathlib import Path

#: Bytes of a large page.
LARGE = 1 << 21
_MADVLARGEPAGE, _MADVPAGEOUT = 14, 21
#: A word for each page of this process, by its number; what the bit is of is a file's, or shared.
_PAGEMAP, _WORD_BYTES, _OF_A_FILE = Path("/proc/self/pagemap"), 8, 1 << 61


@lru_cache(maxsize=1)
def _madvise() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def prefer_large(address: int, size_bytes: int) -> None:
    """Ask for large pages under memory that is about to be written; a wish that the system may ignore."""
    if size_bytes < LARGE:
        return
    function = _madvise()
    if function is not None:
        first = -(-address // LARGE) * LARGE
        last = (address + size_bytes) // LARGE * LARGE
        if last > first:
            function(first, last - first, _MADVLARGEPAGE)


def release_file(address: int, size_bytes: int) -> None:
    """Tell the system that the pages of a file in some memory are not read soon; it may ignore that.

    They leave the process at once, and are in the file for who reads them. Memory of no file stays as it is.
    """
    first = -(-address // PAGESIZE) * PAGESIZE
    size = (address + size_bytes) // PAGESIZE * PAGESIZE - first
    function = _madvise() if size > 0 else None
    if function is not None and _is_of_a_file(first):
        function(first, size, _MADVPAGEOUT)


def _is_of_a_file(address: int) -> bool:
    """Whether a page that was read shows a file, as it is there; not where the system does not tell."""
    try:
        with _PAGEMAP.open("rb", buffering=0) as pages:
            pages.seek(address // PAGESIZE * _WORD_BYTES)
            word = pages.read(_WORD_BYTES)
    except (OSError, OverflowError):
        return False
    return bool(int.from_bytes(word, sys.byteorder) & _OF_A_FILE)
