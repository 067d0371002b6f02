"""How much second-level cache a core has: what each system says, as recorded, and what is made of it."""

from __future__ import annotations

import ctypes
import platform
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outstride.engine.planner.machine import MOST_DIRECT_BYTES, MOST_SHORT_BYTES
from outstride.engine.runtime import host, second_level

_UNKNOWN = (1 << 19, second_level.SUPPOSED)


def _found(monkeypatch: pytest.MonkeyPatch, system: str, library: object = None) -> tuple[int, str]:
    """What is found on a system, of whose library tests have functions that answer alike."""

    def load(name: str | None) -> object:
        if library is None:
            raise OSError(name)
        return library

    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(ctypes, "CDLL", load)
    return second_level.found.__wrapped__()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024K", 1 << 20),
        ("2M\n", 1 << 21),
        ("256K", 1 << 18),
        ("", None),
        ("many", None),
        ("1024", None),
        ("0K", None),
        ("9999M", None),
        ("-64M", None),
    ],
)
def test_the_file_of_linux(text: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: text)
    size, by = _found(monkeypatch, "Linux")
    assert (size, by) == (_UNKNOWN if expected is None else (expected, second_level._FILE))


@pytest.mark.parametrize("error", [OSError, UnicodeDecodeError("ascii", b"\xff", 0, 1, "no text")])
def test_a_file_that_cannot_be_read(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise error

    monkeypatch.setattr(Path, "read_text", refuse)
    assert _found(monkeypatch, "Linux") == _UNKNOWN


def _macos(numbers: Mapping[str, int], width: int) -> object:
    """A library whose `sysctlbyname` knows these names, and has their numbers in so many bytes."""

    def sysctlbyname(name: bytes, room: Any, length: Any, new: None, new_length: int) -> int:
        assert (new, new_length) == (None, 0)
        if (value := numbers.get(name.decode())) is None:
            return -1
        ctypes.memmove(room, value.to_bytes(width, "little"), width)
        length._obj.value = width
        return 0

    return SimpleNamespace(sysctlbyname=sysctlbyname)


#: What `sysctl hw` said on an M1 Pro and an M3 Max, where the name without a level means the slow cores; and
#: what it says on Macs of Intel's.
_M1 = {"hw.perflevel0.l2cachesize": 12582912, "hw.perflevel0.cpusperl2": 4, "hw.l2cachesize": 4194304}
_M3 = {"hw.perflevel0.l2cachesize": 16777216, "hw.perflevel0.cpusperl2": 6, "hw.l2cachesize": 4194304}
_FAST = "sysctl hw.perflevel0.l2cachesize"


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (_M1, (12582912 // 4, _FAST)),
        (_M3, (16777216 // 6, _FAST)),
        ({"hw.perflevel0.l2cachesize": 12582912}, (12582912, _FAST)),
        ({"hw.perflevel0.l2cachesize": 12582912, "hw.perflevel0.cpusperl2": 0}, (12582912, _FAST)),
        ({"hw.perflevel0.l2cachesize": 0, "hw.l2cachesize": 262144}, (262144, "sysctl hw.l2cachesize")),
        ({"hw.l2cachesize": 262144}, (262144, "sysctl hw.l2cachesize")),
        ({"hw.l2cachesize": 0}, _UNKNOWN),
        ({"hw.l2cachesize": 4096}, _UNKNOWN),
        ({}, _UNKNOWN),
    ],
)
def test_the_numbers_of_macos(
    numbers: Mapping[str, int], width: int, expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _found(monkeypatch, "Darwin", _macos(numbers, width)) == expected


def _record(level: int, kind: int, kib: int, processors: int, group: int = 0, relation: int = 2) -> bytes:
    """A record as Windows writes it: SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX of a cache."""
    cache = struct.pack("<BBHII18sH", level, 10, 64, kib << 10, kind, b"", 1)
    return struct.pack("<II", relation, 56) + cache + struct.pack("<QH6s", processors, group, b"")


def _core(first: int, second_kib: int) -> bytes:
    """A core's caches: first data and instructions, then the second level."""
    processors = 0b11 << first
    first_level = _record(1, 2, 48, processors) + _record(1, 1, 32, processors)
    return first_level + _record(2, 0, second_kib, processors)


#: What Windows 11 said on a Core i5-12600K, of two of its fast cores and of the four slow ones.
_FAST_CORES = _core(0, 1280) + _record(3, 0, 20480, 0xFFFF) + _core(2, 1280)
_SLOW_CORES = _record(1, 2, 32, 1 << 12) + _record(1, 1, 64, 1 << 12) + _record(2, 0, 2048, 0b1111 << 12)


def _windows(records: bytes, answers: bool = True) -> object:
    """A library whose function says how long its answer is, then gives it, where it answers."""

    def ask(relation: int, room: Any, length: Any) -> int:
        assert relation == 2
        fits = length._obj.value >= len(records)
        length._obj.value = len(records)
        if room is None or not fits or not answers:
            return 0
        ctypes.memmove(room, records, len(records))
        return 1

    return SimpleNamespace(GetLogicalProcessorInformationEx=ask)


_WINDOWS = "GetLogicalProcessorInformationEx"


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (_FAST_CORES + _SLOW_CORES, (1280 << 10, _WINDOWS)),
        (_SLOW_CORES + _FAST_CORES, (1280 << 10, _WINDOWS)),
        (_record(2, 0, 512, 1, group=1) + _record(2, 0, 1024, 1), (1 << 20, _WINDOWS)),
        (_record(2, 0, 512, 1, relation=0) + _record(2, 2, 1024, 1), (1 << 20, _WINDOWS)),
        (_record(2, 1, 512, 1), _UNKNOWN),
        (_record(2, 0, 16, 1), _UNKNOWN),
        (_SLOW_CORES, _UNKNOWN),
        (_FAST_CORES[:100], _UNKNOWN),
        (bytes(200), _UNKNOWN),
        (b"", _UNKNOWN),
    ],
)
def test_the_records_of_windows(
    records: bytes, expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _found(monkeypatch, "Windows", _windows(records)) == expected


@pytest.mark.parametrize("library", [None, SimpleNamespace(), _windows(_FAST_CORES, answers=False)])
@pytest.mark.parametrize("system", ["Windows", "Darwin", "Plan 9", ""])
def test_systems_that_do_not_say(system: str, library: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(monkeypatch, system, library) == _UNKNOWN


@pytest.mark.parametrize("found", [3 << 18, 3 << 20])
def test_plans_are_made_for_what_was_found(found: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_level, "found", lambda: (found, "a test"))
    machine_of: Callable[[str], Any] = host._machine.__wrapped__
    machine = machine_of("avx2")
    assert machine.l2_bytes == found
    assert machine.direct_bytes == min(found, MOST_DIRECT_BYTES)
    assert machine.short_bytes == min(found, MOST_SHORT_BYTES)
