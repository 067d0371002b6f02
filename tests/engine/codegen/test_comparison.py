"""The comparison of memory with a copy tells every byte, and reads none beyond."""

from __future__ import annotations

import ctypes
import random
from array import array

import pytest

from outstride.engine import runtime
from outstride.engine.codegen.arguments import COMPARISON_ARGUMENTS, COMPARISON_INDEX
from outstride.engine.codegen.comparison import comparison_source
from tests.protected import ProtectedRooms


def _differ(data: bytes, copy: bytes, size: int) -> bool:
    """What the kernel says of the first `size` bytes of both."""
    rooms = ProtectedRooms([size, size])
    for place, each in zip(rooms.addresses, (data, copy), strict=True):
        ctypes.memmove(place, each, size)
    first, second = rooms.addresses
    values = {"data_at": first, "copy_at": second, "size_bytes": size}
    block = array("q", [values.get(name, 0) for name in COMPARISON_ARGUMENTS])
    isa = runtime.machine().instruction_set
    runtime.kernel("comparison", comparison_source, isa).launch(block.buffer_info()[0], 1)
    return block[COMPARISON_INDEX["changed"]] != 0


@pytest.mark.parametrize("size", [0, 1, 7, 63, 64, 65, 200, 4096])
def test_every_byte_counts(size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert not _differ(data, data, size)
    for place in range(0, size, 1 if size < 100 else 13):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[place] ^= bit
            assert _differ(data, bytes(changed), size), f"byte {place}"
