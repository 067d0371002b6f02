"""Fingerprints of weights: seen changes that no version counter counts.

A weight of up to 1 MB is read whole at every call. Of a larger one a call reads every eighth line of 64
bytes, another eighth the next time: a change of all elements, or of 128 neighbouring ones, is seen at once,
a lone element's within eight calls.
"""

from __future__ import annotations

from array import array

from torch import Tensor

from outstride.codegen.arguments import FINGERPRINT_INDEX
from outstride.codegen.fingerprint import RESULT_WORDS, fingerprint_source
from outstride.ops.blocks import address
from outstride.runtime import kernel, machine

_WHOLE_BYTES = 1 << 20
_SHARES = 8
_DATA, _SIZE, _FIRST, _STEP, _RESULT = (
    FINGERPRINT_INDEX[n] for n in ("data_at", "size_bytes", "first_line", "line_step", "result_at")
)


class Fingerprints:
    """The fingerprints of a weight's memory as it is now."""

    def __init__(self, weight: Tensor) -> None:
        extent = 1 + sum((n - 1) * s for n, s in zip(weight.shape, weight.stride(), strict=True))
        size = extent * weight.element_size() if weight.numel() else 0
        shares = 1 if size <= _WHOLE_BYTES else _SHARES
        self._run = kernel("fingerprint", fingerprint_source, machine().instruction_set).alone
        # Each share has a block and a result of its own: threads that check at the same time write the same
        # values.
        self._shares = []
        for share in range(shares):
            result = array("q", bytes(8 * RESULT_WORDS))
            block = array("q", [0] * len(FINGERPRINT_INDEX))
            block[_DATA], block[_SIZE], block[_FIRST], block[_STEP] = weight.data_ptr(), size, share, shares
            block[_RESULT] = address(result)
            self._shares.append((block, address(block), result))
        self.renew()

    def renew(self) -> None:
        """Take the fingerprints again: the memory has changed, and that is known."""
        self._turn = 0
        self._marks = [self._taken(turn) for turn in range(len(self._shares))]

    def hold(self) -> bool:
        """Whether the memory still has the fingerprint whose turn it is."""
        turn = self._turn
        self._turn = turn + 1 if turn + 1 < len(self._shares) else 0
        return self._taken(turn) == self._marks[turn]

    def _taken(self, turn: int) -> bytes:
        _, block, result = self._shares[turn]
        self._run(block)
        return result.tobytes()
