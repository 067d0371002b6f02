"""How much second-level cache a core has, asked of each system in the way that it offers."""

from __future__ import annotations

import ctypes
import platform
import re
import struct
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

#: Bytes of a cache of which nothing is known, and between which sizes it is one.
USUAL, _LEAST, _MOST = 1 << 19, 1 << 16, 1 << 26
SUPPOSED = "supposed: the system does not say"


@lru_cache(maxsize=1)
def found() -> tuple[int, str]:
    """Bytes of it, and who says so; what is usual where nobody does, or says what cannot be."""
    asked = _SYSTEMS.get(platform.system())
    try:
        size, by = asked() if asked is not None else (0, "")
    except (OSError, ValueError, AttributeError):
        size, by = 0, ""
    return (size, by) if _LEAST <= size <= _MOST else (USUAL, SUPPOSED)


_FILE = "/sys/devices/system/cpu/cpu0/cache/index2/size"


def _of_linux() -> tuple[int, str]:
    return of_text(Path(_FILE).read_text()), _FILE


def of_text(text: str) -> int:
    """Bytes as Linux writes them, such as 1024K; 0 for anything else."""
    said = re.fullmatch(r"(\d+)([KM])\s*", text)
    return int(said[1]) << {"K": 10, "M": 20}[said[2]] if said else 0


#: What macOS calls the size and the cores that share it: of the fast ones where there are two kinds, for the
#: names without a kind mean the slow ones there; or of all.
_NAMES = (("hw.perflevel0.l2cachesize", "hw.perflevel0.cpusperl2"), ("hw.l2cachesize", None))


def _of_macos() -> tuple[int, str]:
    ask = ctypes.CDLL(None).sysctlbyname
    size_of = ctypes.c_size_t
    ask.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(size_of), ctypes.c_void_p, size_of]

    def number(name: str) -> int | None:
        room = ctypes.create_string_buffer(8)
        length = size_of(len(room))
        failed = ask(name.encode(), room, ctypes.byref(length), None, 0)
        return None if failed else int.from_bytes(room.raw[: length.value], "little")

    return of_numbers(number)


def of_numbers(number: Callable[[str], int | None]) -> tuple[int, str]:
    """A core's share of the bytes, by what macOS says under a name."""
    for name, sharing in _NAMES:
        if size := number(name):
            cores = number(sharing) if sharing is not None else 1
            return size // (cores or 1), f"sysctl {name}"
    return 0, ""


_BY_WINDOWS = "GetLogicalProcessorInformationEx"
#: What it is asked for, and what it answers of each cache: RelationCache, length of the record, level, ways,
#: bytes of a line, bytes, kind; then of the processors that have it the first group, a bit for each.
_CACHES, _RECORD = 2, struct.Struct("<IIBBHII18xHQH")
#: Kinds: all is in it, or data alone.
_DATA = (0, 2)


def _of_windows() -> tuple[int, str]:
    ask = getattr(ctypes.CDLL("kernel32"), _BY_WINDOWS)
    ask.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint32)]
    length = ctypes.c_uint32(0)
    ask(_CACHES, None, ctypes.byref(length))  # it says how long its answer is
    room = ctypes.create_string_buffer(length.value)
    return (of_records(room.raw) if ask(_CACHES, room, ctypes.byref(length)) else 0), _BY_WINDOWS


def of_records(records: bytes) -> int:
    """Bytes of the first processor's cache, by what Windows of 64 bits says of all; 0 where it has none."""
    at = 0
    while at + _RECORD.size <= len(records):
        relation, length, level, _, _, size, kind, _, processors, group = _RECORD.unpack_from(records, at)
        if (relation, level, group) == (_CACHES, 2, 0) and kind in _DATA and processors & 1:
            return int(size)
        at += max(length, _RECORD.size)
    return 0


_SYSTEMS: dict[str, Callable[[], tuple[int, str]]] = {
    "Linux": _of_linux,
    "Darwin": _of_macos,
    "Windows": _of_windows,
}
