"""Bands: layers one behind the other that make some rows each, in turn, while these are in the cache.

Where a map is larger than the second level of the cache, the layer that reads it finds none of it there any
more. So a thread makes some rows of the first layer, then what can be made of them of the second, and so on,
then further rows of the first. Nothing is computed in another way, and values lie where they would lie
without; only rows at the border between two threads are made by both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from outstride.compilation.arena import Lifetime
from outstride.compilation.scripts import Line, Made, Script
from outstride.compilation.segments import Seen, Segment
from outstride.engine.launch.launches import Launch
from outstride.engine.launch.memory_format import FORMATS
from outstride.engine.launch.strands import strands_launch

#: Of the second level: what a value takes at least, what it and another beside it take; what a band takes at
#: most, and what all weights, which every band reads.
_VALUE_SHARE, _PAIR_SHARE, _BAND_SHARE, _WEIGHT_SHARE = 1 / 4, 1 / 2, 1 / 4, 1 / 8
_MOST_AGAIN = 1 / 16
"""The share of its rows that a layer may make twice."""


class Banding:
    """Notes what lines make, then tells which are made in bands, where the second level has so many bytes."""

    def __init__(self, lines: Sequence[Line], threads: int, level_bytes: int) -> None:
        self._lines, self._threads = lines, threads
        self._level_bytes, self._room = level_bytes, level_bytes * threads
        self._seen = dict[int, Seen]()

    def note(self, number: int, given: Sequence[Any], result: Any) -> None:
        """See what a line is given and makes."""
        rows = self._lines[number].rows
        if rows is None or not isinstance(result, Tensor) or result.dim() < 4 or result.shape[0] != 1:
            return
        reach = rows.reach(given)
        if reach is not None:
            line, x = self._lines[number], given[rows.source]
            alike = tuple(line.inputs[i] for i in rows.alike)
            weights = sum(t.nbytes for t, p in zip(given, line.inputs, strict=True) if p == line.weight)
            sizes = (result.nbytes, x.nbytes, weights)
            self._seen[number] = Seen(
                number, result.shape[2], x.shape[2], reach, alike, line.place, *sizes
            )  # fmt: skip

    def segments(self, made: Mapping[int, Lifetime]) -> tuple[Segment, ...]:
        """Those lines of which bands are worth it, of values that lie so."""
        return tuple(segment for run in self._runs(made) for segment in self._cut(run))

    def _cut(self, run: list[Seen]) -> Iterator[Segment]:
        """The segments that lines are made in: fewer at a time where threads would make too much twice."""
        if len(run) < 2:
            return
        size_bytes = run[0].source_bytes + sum(line.size_bytes for line in run)
        bands = -(-size_bytes // int(self._room * _BAND_SHARE))
        segment = Segment(tuple(run), self._threads, min(bands, run[-1].rows // (2 * self._threads)))
        weights = sum(line.weight_bytes for line in run)
        is_small = weights <= self._level_bytes * _WEIGHT_SHARE
        if is_small and segment.bands > 1 and segment.made_again <= _MOST_AGAIN:
            yield segment
            return
        smallest = min(range(1, len(run)), key=lambda number: run[number - 1].size_bytes)
        yield from self._cut(run[:smallest])
        yield from self._cut(run[smallest:])

    def _runs(self, made: Mapping[int, Lifetime]) -> Iterator[list[Seen]]:
        """Lines one behind the other whose values between them do not stay in the cache, or single ones."""
        run = list[Seen]()
        for number, line in self._seen.items():
            if not self._has_rows_beside_each_other(number, made):
                continue  # which no line that is next in a run follows
            if run and not (self._follows(run[-1], line) and self._is_far(run[-1], line)):
                yield run
                run = []
            run.append(line)
        yield run

    def _follows(self, before: Seen, line: Seen) -> bool:
        """Whether a line is the next one, and reads the value of the one before alone as its source."""
        if line.line != before.line + 1:
            return False
        rows, inputs = self._lines[line.line].rows, self._lines[line.line].inputs
        place = self._lines[before.line].place
        return rows is not None and [i for i, p in enumerate(inputs) if p == place] == [rows.source]

    def _is_far(self, before: Seen, line: Seen) -> bool:
        """Whether a value has left the cache when the next line reads it."""
        pair = before.size_bytes + max(before.source_bytes, line.size_bytes)
        return before.size_bytes > self._room * _VALUE_SHARE and pair > self._room * _PAIR_SHARE

    def _has_rows_beside_each_other(self, number: int, made: Mapping[int, Lifetime]) -> bool:
        """Whether a row of a value is one piece of memory, and the rows one behind the other."""
        value = made.get(number)
        if value is None:
            return False
        like = torch.empty_strided(value.shape, value.strides, device="meta")
        return like.is_contiguous(memory_format=FORMATS[like.dim()])


def lasting(made: Mapping[int, Lifetime], segments: Sequence[Segment]) -> dict[int, Lifetime]:
    """Values that a segment makes or reads have their places from its beginning to its end."""
    found = dict(made)
    for segment in segments:
        for number, value in found.items():
            if segment.first < number <= segment.last:
                found[number] = value = replace(value, since=segment.first)
            if segment.first <= value.last < segment.last:
                found[number] = replace(value, last=segment.last)
    return found


class Writing:
    """Adds what lines did to a script, those of a segment as one launch."""

    def __init__(self, script: Script, segments: Sequence[Segment]) -> None:
        self._script, self._made = script, list[Made]()
        self._segments = {number: each for each in segments for number in range(each.first, each.last + 1)}

    def add(self, number: int, made: Made) -> None:
        """Add what the line with that number did; those of a segment come one behind the other."""
        self._made.append(made)
        segment = self._segments.get(number)
        if segment is not None and number < segment.last:
            return
        launch = None if segment is None else _banded(segment, self._made)
        if launch is not None:
            self._script.add_launch(launch, self._made)
        else:
            for each in self._made:
                self._script.add(each)
        self._made = []


def _banded(segment: Segment, made: Sequence[Made]) -> Launch | None:
    """One launch for a segment, of what its lines made; None where there is none."""
    if any(each.launch is None for each in made):
        return None
    ats = [(each.line.rows, each.at, each.result) for each in made]
    strands = list[list[Launch]]()
    for strand in segment.strands():
        strands.append([])
        for number, first, end in strand:
            rows, at, result = ats[number]
            launch = None if rows is None else rows.launch(at, result, first, end)
            if launch is None:
                return None
            strands[-1].append(launch)
    return strands_launch(strands)
