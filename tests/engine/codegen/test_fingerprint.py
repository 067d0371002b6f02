"""Fingerprints are NH and tell every change."""

from __future__ import annotations

import ctypes
import random
from array import array

import pytest

from outstride.engine import runtime
from outstride.engine.codegen.arguments import (
    FINGERPRINT_ARGUMENTS,
    FINGERPRINT_INDEX,
)
from outstride.engine.codegen.fingerprint import (
    BLOCK_BYTES,
    BLOCKS_OF_TASK,
    KEY_BYTES,
    LINE_BYTES,
    MARK_BYTES,
    WORDS,
    fingerprint_source,
)
from tests.protected import ProtectedRooms


def _kernel_marks(data: bytes, keys: bytes, marks: list[int] | None = None) -> tuple[list[int], bool]:
    """What the kernel writes as the marks of the data, or whether it finds others than these."""
    isa = runtime.machine().instruction_set
    blocks = -(-len(data) // BLOCK_BYTES)
    known = bytes(blocks * MARK_BYTES) if marks is None else array("Q", marks).tobytes()
    rooms = ProtectedRooms([len(data), KEY_BYTES, len(known)])
    for place, held in zip(rooms.addresses, (data, keys, known), strict=True):
        ctypes.memmove(place, held, len(held))
    data_at, keys_at, marks_at = rooms.addresses
    values = {
        "data_at": data_at, "size_bytes": len(data), "keys_at": keys_at, "marks_at": marks_at,
        "renew": int(marks is None),
        "tasks": -(-blocks // BLOCKS_OF_TASK),
    }  # fmt: skip
    block = array("q", [values.get(name, 0) for name in FINGERPRINT_ARGUMENTS])
    runtime.kernel("fingerprint", fingerprint_source, isa).launch(block.buffer_info()[0], 1)
    assert rooms.is_sound, "memory beside the data, the keys or the marks was written"
    result = array("Q", ctypes.string_at(marks_at, len(known)))
    return list(result), block[FINGERPRINT_INDEX["changed"]] != 0


def _marks_by_hand(data: bytes, keys: bytes) -> list[int]:
    """NH of every lane of every block, with the keys of its lines and with those of the lines behind."""
    marks = []
    for start in range(0, len(data), BLOCK_BYTES):
        part = data[start : start + BLOCK_BYTES]
        part += bytes(-len(part) % LINE_BYTES)
        for shift in (0, 1):
            sums = [0] * WORDS
            for line in range(len(part) // LINE_BYTES):
                for lane in range(WORDS):
                    at, key = LINE_BYTES * line + 8 * lane, LINE_BYTES * (line + shift) + 8 * lane
                    low, high = (
                        (int.from_bytes(part[at + i : at + i + 4], "little")
                         + int.from_bytes(keys[key + i : key + i + 4], "little")) % 2**32
                        for i in (0, 4)
                    )  # fmt: skip
                    sums[lane] = (sums[lane] + low * high) % 2**64
            marks += sums
    return marks


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 640, 1000, 4096, 4097, 9001])
def test_fingerprints_are_nh(size: int) -> None:
    random_ = random.Random(size)
    data, keys = random_.randbytes(size), random_.randbytes(KEY_BYTES)
    marks, _ = _kernel_marks(data, keys)
    assert marks == _marks_by_hand(data, keys)
    assert not _kernel_marks(data, keys, marks)[1]


def test_fingerprints_tell_every_bit_and_every_exchange() -> None:
    random_ = random.Random(5)
    size = BLOCKS_OF_TASK * BLOCK_BYTES + 5000
    data, keys = random_.randbytes(size), random_.randbytes(KEY_BYTES)
    marks, _ = _kernel_marks(data, keys)
    for bit in range(0, 8 * size, 8 * 4093 + 5):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert _kernel_marks(bytes(changed), keys, marks)[1], f"bit {bit}"
    for a, b in ((0, 64), (8, 72), (0, 8), (64, 128), (0, 4096), (4096, 8192), (192, size - 8)):
        changed = bytearray(data)
        changed[a : a + 8], changed[b : b + 8] = data[b : b + 8], data[a : a + 8]
        assert _kernel_marks(bytes(changed), keys, marks)[1], (a, b)


def test_fingerprints_tell_changes_that_sums_do_not() -> None:
    """The sign of every float64, a doubling of powers of two, and lines A B B A that become B A A B."""
    random_ = random.Random(6)
    keys, lines = random_.randbytes(KEY_BYTES), [random_.randbytes(LINE_BYTES) for _ in range(2)]
    ones = array("d", [1.0, -1.0] * 512)
    pairs = [
        (ones.tobytes(), array("d", [-v for v in ones]).tobytes()),
        (ones.tobytes(), array("d", [2 * v for v in ones]).tobytes()),
        (b"".join(lines[i] for i in (0, 1, 1, 0)), b"".join(lines[i] for i in (1, 0, 0, 1))),
    ]
    for before, after in pairs:
        marks, _ = _kernel_marks(before, keys)
        assert _kernel_marks(after, keys, marks)[1]
