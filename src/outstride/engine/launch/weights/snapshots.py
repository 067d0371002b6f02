"""Snapshots of weights: what a weight's memory held when it was packed, and whether it still does.

All of it is looked at, at every call. A weight of up to 4 KB is compared with a copy, which is exact and
fastest; a larger one by its fingerprint (`codegen.fingerprint`), whose keys are drawn anew by each process.
"""

from __future__ import annotations

import os
from array import array
from ctypes import c_char
from functools import cached_property
from typing import Protocol

from torch import Tensor

from outstride.engine.codegen.arguments import COMPARISON_INDEX, FINGERPRINT_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.comparison import comparison_source
from outstride.engine.codegen.fingerprint import (
    BLOCK_BYTES,
    BLOCKS_OF_TASK,
    KEY_BYTES,
    MARK_BYTES,
    fingerprint_source,
)
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.launches import Launch
from outstride.engine.runtime import kernel, machine

_COPIED_BYTES = 1 << 12
_CHANGED = FINGERPRINT_INDEX["changed"]
_keys = array("B", os.urandom(KEY_BYTES))


def take_snapshot(weight: Tensor, pointer: int, threads: int) -> Snapshot:
    """The memory of a weight, at this address, as it is now."""
    extent = 1 + sum((n - 1) * s for n, s in zip(weight.shape, weight.stride(), strict=True))
    size_bytes = extent * weight.element_size()
    if size_bytes <= _COPIED_BYTES:
        return _Copy(pointer, size_bytes)
    return _Fingerprint(pointer, size_bytes, threads)


class Snapshot(Protocol):
    """A weight's memory as it was."""

    was_asked: bool
    """Whether somebody has asked what follows."""

    @property
    def look(self) -> Launch | None:
        """What a list of launches finds out the same by."""

    def is_current(self, threads: int) -> bool:
        """Whether the memory still holds the same."""


class _Copy:
    """A copy of a small weight."""

    def __init__(self, pointer: int, size_bytes: int) -> None:
        self._memory = (c_char * size_bytes).from_address(pointer)
        self._copy = self._memory.raw
        self._pointer = pointer
        self.was_asked = False

    @cached_property
    def look(self) -> Launch:
        """A comparison by native code."""
        isa = machine().instruction_set
        scalars = {"data_at": self._pointer, "size_bytes": len(self._copy)}
        tables = {"copy_at": array("B", self._copy)}
        block = ArgumentBlock.of(COMPARISON_INDEX, scalars, tables)
        looks = kernel("comparison", comparison_source, isa, authorship())
        return Launch(looks, block, 1, {}, flag="changed")

    def is_current(self, _: int) -> bool:
        self.was_asked = True
        return self._memory.raw == self._copy


class _Fingerprint:
    """The fingerprint of a larger one: a mark for each block of its memory."""

    def __init__(self, pointer: int, size_bytes: int, threads: int) -> None:
        self._kernel = kernel("fingerprint", fingerprint_source, machine().instruction_set, authorship())
        blocks = -(-size_bytes // BLOCK_BYTES)
        self._tasks = -(-blocks // BLOCKS_OF_TASK)
        self._marks = array("q", bytes(blocks * MARK_BYTES))
        scalars = {
            "data_at": pointer, "size_bytes": size_bytes, "keys_at": address(_keys),
            "marks_at": address(self._marks), "renew": 1, "tasks": self._tasks,
        }  # fmt: skip
        template = ArgumentBlock.of(FINGERPRINT_INDEX, scalars, {})
        block = template.fresh()
        self._kernel.launch(address(block), min(threads, self._tasks))
        self._block = template.changed({"renew": 0})
        self.look = Launch(self._kernel, self._block, self._tasks, {}, flag="changed")
        self.was_asked = False

    def is_current(self, threads: int) -> bool:
        self.was_asked = True
        block = self._block.fresh()
        self._kernel.launch(address(block), min(threads, self._tasks))
        return block[_CHANGED] == 0
