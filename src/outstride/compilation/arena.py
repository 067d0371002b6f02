"""The memory plan: where intermediate values lie in one buffer, which calls of a size share.

Values that are never needed at the same time may have the same place. A plan is made of what a first run
noted; the places are given by size, the largest first, each as low as those that it meets allow
(greedy by size; Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from outstride.compilation.scripts import Script
from outstride.compilation.segments import Segment
from outstride.engine.runtime import prefer_large

_ALIGNMENT = 4096
"""Bytes between places: pages, so that no two values share one."""


@dataclass(frozen=True)
class Lifetime:
    """A value that may lie in the buffer: what it is like, the line that makes it, the last that reads it."""

    line: int
    last: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    size_bytes: int
    inside: tuple[int, int] | None = None
    """The line whose value it is a part of, and the bytes before it there: it is made in its place."""
    since: int | None = None
    """The line from which on its place is its own, where that is one before it."""

    @property
    def first(self) -> int:
        """The line from which on its place is its own."""
        return self.line if self.since is None else self.since

    def meets(self, other: Lifetime) -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class MemoryPlan:
    """Where values lie, and how many bytes that takes."""

    places: tuple[tuple[Lifetime, int], ...]
    size_bytes: int
    results: tuple[Lifetime, ...] = ()
    """Values that are needed after the end: each call makes new ones, which are to lie so."""
    segments: tuple[Segment, ...] = ()
    """Lines that are made in bands."""

    @property
    def apart_bytes(self) -> int:
        """What the values would take if none shared memory."""
        return sum(value.size_bytes for value, _ in self.places if value.inside is None)


def memory_plan(values: Sequence[Lifetime]) -> MemoryPlan:
    """Places for values such that none overlaps another that is needed at the same time.

    A value that is part of another lies in it, and the other's place is taken from the first part on.
    """
    known = {value.line: value for value in values}
    wholes = {value.line: value for value in values if value.inside is None}
    for value in values:
        whole, _ = _whole(value, known)
        first, last = min(wholes[whole].first, value.first), max(wholes[whole].last, value.last)
        wholes[whole] = replace(wholes[whole], since=first, last=last)
    placed = _placed([(whole.size_bytes, line, whole) for line, whole in wholes.items()])
    places = list[tuple[Lifetime, int]]()
    for value in values:
        whole, before = _whole(value, known)
        places.append((value, placed[whole] + before))
    size_bytes = max((placed[line] + whole.size_bytes for line, whole in wholes.items()), default=0)
    return MemoryPlan(tuple(places), size_bytes)


def _whole(value: Lifetime, known: Mapping[int, Lifetime]) -> tuple[int, int]:
    """The line of the value that is part of none and holds this one, and the bytes before this one in it."""
    before = 0
    while value.inside is not None:
        line, further = value.inside
        value, before = known[line], before + further
    return value.line, before


def _placed(values: Sequence[tuple[int, int, Lifetime]]) -> dict[int, int]:
    """The place of each value, by the line that makes it."""
    placed = list[tuple[int, Lifetime, int]]()
    for _, line, value in sorted(values, key=lambda v: (-v[0], v[1])):
        met = sorted((at, at + other.size_bytes) for _, other, at in placed if other.meets(value))
        start = 0
        for begin, end in met:
            if start + value.size_bytes <= begin:
                break
            start = max(start, -(-end // _ALIGNMENT) * _ALIGNMENT)
        placed.append((line, value, start))
    return {line: at for line, _, at in placed}


class Arena:
    """The buffer of one call at a time, with the tensors of a plan in it."""

    def __init__(self, plan: MemoryPlan) -> None:
        with torch.inference_mode(False):
            self._buffer = torch.empty(plan.size_bytes + _ALIGNMENT, dtype=torch.uint8)
            address = self._buffer.data_ptr()
            prefer_large(address, plan.size_bytes)
            first = -address % _ALIGNMENT
            #: What calls with tensors of this size do, once one has shown it.
            self.script: Script | None = None
            #: The values behind its inputs when it begins: those that are the same in every call.
            self.made: list[Any] = []
            #: Lines that are made in bands.
            self.segments = plan.segments
            #: By the line that makes a value.
            self.tensors: dict[int, Tensor] = {}
            #: What results are like, by the line that makes them.
            self.likes: dict[int, Tensor] = {
                value.line: torch.empty_strided(value.shape, value.strides, dtype=value.dtype, device="meta")
                for value in plan.results
            }
            for value, at in plan.places:
                row = self._buffer[first + at : first + at + value.size_bytes].view(value.dtype)
                self.tensors[value.line] = row.as_strided(value.shape, value.strides, row.storage_offset())
