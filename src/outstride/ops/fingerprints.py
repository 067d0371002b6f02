"""Fingerprints of weights: seen changes that no version counter counts.

A weight of up to 1 MB is read whole at every call, one of up to 4 KB compared with a copy, which is faster.
Of a larger one a call reads every eighth line of 64 bytes, another eighth the next time: a change of all
elements, or of 128 neighbouring ones, is seen at once, a lone element's within eight calls.
"""

from __future__ import annotations

from array import array
from ctypes import c_char
from typing import Protocol

from torch import Tensor

from outstride.codegen.arguments import FINGERPRINT_INDEX
from outstride.codegen.authorship import authorship
from outstride.codegen.fingerprint import RESULT_WORDS, fingerprint_source
from outstride.ops.blocks import address
from outstride.runtime import kernel, machine

_COPIED_BYTES = 1 << 12
_WHOLE_BYTES = 1 << 20
_SHARES = 8
_DATA, _SIZE, _FIRST, _STEP, _RESULT = (
    FINGERPRINT_INDEX[n] for n in ("data_at", "size_bytes", "first_line", "line_step", "result_at")
)


def watch(weight: Tensor) -> Watch:
    """What tells whether the memory of a weight, which must stay where it is, still holds the same."""
    extent = 1 + sum((n - 1) * s for n, s in zip(weight.shape, weight.stride(), strict=True))
    size_bytes = extent * weight.element_size()
    return (_Copy if size_bytes <= _COPIED_BYTES else _Fingerprints)(weight.data_ptr(), size_bytes)


class Watch(Protocol):
    """A weight's memory as it was."""

    def renew(self) -> None:
        """Take the memory as it is now: it has changed, and that is known."""

    def hold(self) -> bool:
        """Whether the memory is as it was, as far as this call looks."""


class _Copy:
    """All of a small weight."""

    def __init__(self, pointer: int, size_bytes: int) -> None:
        self._memory = (c_char * size_bytes).from_address(pointer)
        self.renew()

    def renew(self) -> None:
        self._copy = self._memory.raw

    def hold(self) -> bool:
        return self._memory.raw == self._copy


class _Fingerprints:
    """The fingerprints of a weight's memory, all of it or in shares of which each call takes one."""

    def __init__(self, pointer: int, size: int) -> None:
        shares = 1 if size <= _WHOLE_BYTES else _SHARES
        self._run = kernel("fingerprint", fingerprint_source, machine().instruction_set, authorship()).alone
        # Each share has a block and a result of its own: threads that check at the same time write the same
        # values.
        self._shares = []
        for share in range(shares):
            result = array("q", bytes(8 * RESULT_WORDS))
            block = array("q", [0] * len(FINGERPRINT_INDEX))
            block[_DATA], block[_SIZE], block[_FIRST], block[_STEP] = pointer, size, share, shares
            block[_RESULT] = address(result)
            self._shares.append((block, address(block), result))
        self.renew()

    def renew(self) -> None:
        marks = []
        for _, block, result in self._shares:
            self._run(block)
            marks.append(result.tobytes())
        self._turn, self._marks = 0, marks

    def hold(self) -> bool:
        turn = self._turn
        self._turn = turn + 1 if turn + 1 < len(self._shares) else 0
        _, block, result = self._shares[turn]
        self._run(block)
        return result.tobytes() == self._marks[turn]
