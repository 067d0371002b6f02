"""Memory between pages that nobody may touch: one byte too far and the process dies.

What is left of its own pages is full of ones, as the memory is at first, so a byte written there shows.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import mmap
import weakref
from collections.abc import Callable, Sequence
from typing import Literal

Edge = Literal["start", "end"]
_PAGE_BYTES = mmap.PAGESIZE
_ONES = 0xFF
_PROT_NONE, _PROT_READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
_LIBC = ctypes.CDLL(ctypes.util.find_library("c") or None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


class ProtectedRooms:
    """Rooms of these sizes, each flush against a protected page; and so many copies of all of them.

    A byte is a NaN's or -1's at first. The memory goes when the last one who refers to this, or to its
    `memory`, does.
    """

    def __init__(
        self, sizes: Sequence[int], copies: int = 1, edge: Edge = "end", alignment_bytes: int = 1
    ) -> None:
        self.sizes = tuple(sizes)
        pages = [-(-size // _PAGE_BYTES) for size in sizes]
        #: Bytes from a copy to the next.
        self.pitch = (sum(pages) + len(pages) + 1) * _PAGE_BYTES
        length = copies * self.pitch
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        base = _LIBC.mmap(None, length, _PROT_NONE, flags, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"mmap of {length} bytes failed")
        self._release = weakref.finalize(self, _LIBC.munmap, base, length)
        self._release.atexit = False  # who runs then may still use it
        #: Where the rooms of the first copy are.
        self.addresses: list[int] = []
        self._windows: list[tuple[int, int]] = []
        self._rests: list[tuple[int, int]] = []
        for copy in range(copies):
            window = base + copy * self.pitch + _PAGE_BYTES
            for size, count in zip(sizes, pages, strict=True):
                room = count * _PAGE_BYTES
                if room and _LIBC.mprotect(window, room, _PROT_READ_WRITE):
                    raise MemoryError(f"mprotect of {room} bytes failed")
                first = window + (room - size) // alignment_bytes * alignment_bytes * (edge == "end")
                if copy == 0:
                    self.addresses.append(first)
                if room:
                    self._windows.append((window, room))
                behind = first + size
                self._rests += [(window, first - window), (behind, window + room - behind)]
                window += room + _PAGE_BYTES
        self._rests = [(at, size) for at, size in self._rests if size]
        self.fill()

    def fill(self) -> None:
        """Make all of it as it was at first."""
        for address, size in self._windows:
            ctypes.memset(address, _ONES, size)

    @property
    def is_sound(self) -> bool:
        """Whether nothing beside the rooms has been written to."""
        return all(ctypes.string_at(at, size) == bytes((_ONES,)) * size for at, size in self._rests)

    def memory(self, ended: Callable[[ProtectedRooms], object] = id) -> ctypes.Array[ctypes.c_char]:
        """The bytes of the first room, for who asks for a buffer; `ended` is told when that is gone."""
        found = (ctypes.c_char * self.sizes[0]).from_address(self.addresses[0])
        weakref.finalize(found, ended, self).atexit = False  # it holds the rooms until then
        return found
