"""What kernels find by their argument blocks, in rooms between pages that nobody may touch.

Scratch: each room of each worker by itself, such as strip, results, lines, runs of taps, panels and sums,
wherever the block says where rooms begin. Tables: also those whose addresses stand in other tables.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from unittest import mock

from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.launch_list import LaunchList
from outstride.engine.launch.parts import Part, Single, Strands
from outstride.engine.runtime import Kernel
from tests.poison import asked
from tests.protected import ProtectedRooms

#: Rooms of scratch begin at a line of the caches.
_LINE_BYTES = 64
_Words = dict[str, int]


class _Layout:
    """The rooms of a block's scratch: where the block says that they begin, and how large they are."""

    def __init__(self, block: ArgumentBlock) -> None:
        self.names = {n: block.scalar(n) for n in block.index if n.endswith("_bytes_offset")}
        self.starts = sorted({0, *self.names.values()})
        size_bytes = block.scalar("scratch_bytes") if "scratch_bytes" in block.index else 0
        self.sizes = tuple(b - a for a, b in pairwise([*self.starts, size_bytes])) if size_bytes else ()

    def words(self, rooms: ProtectedRooms) -> _Words:
        """What the block has to say where they lie in these."""
        first, *_ = rooms.addresses
        places = {start: at - first for start, at in zip(self.starts, rooms.addresses, strict=True)}
        named = {name: places[start] for name, start in self.names.items()}
        return named | {"scratch_at": first, "scratch_bytes": rooms.pitch}


class _Tables:
    """Copies of a block's tables in protected rooms, of which each says where the others are."""

    def __init__(self, tables: Mapping[str, array[Any]]) -> None:
        self.of = tables
        found = {name: values for name, values in tables.items() if len(values)}
        self.rooms = ProtectedRooms([len(values) * values.itemsize for values in found.values()])
        moved = dict(zip(map(address, found.values()), self.rooms.addresses, strict=False))
        for values in found.values():
            copy = array("q", (moved.get(v, v) for v in values)) if values.typecode == "q" else values
            ctypes.memmove(moved[address(values)], address(copy), len(copy) * copy.itemsize)
        self.words = {name: moved[address(values)] for name, values in found.items()}


class _Fresh:
    """`ArgumentBlock.fresh`, which notes what it makes."""

    def __init__(self, note: Callable[[array[int], ArgumentBlock], None]) -> None:
        self._note = note

    def __get__(self, block: ArgumentBlock, owner: type[ArgumentBlock]) -> Callable[[], array[int]]:
        def fresh() -> array[int]:
            made: array[int] = block.__dict__["fresh"]()
            self._note(made, block)
            return made

        return fresh

    def __set__(self, block: ArgumentBlock, fresh: Callable[[], array[int]]) -> None:
        block.__dict__["fresh"] = fresh


class Fences:
    """Rooms for the launches within `standing()`; `look` is told of those that kernels have had."""

    def __init__(self, look: Callable[[ProtectedRooms], None]) -> None:
        self._look = look
        #: The blocks that were made, by their addresses, and of what.
        self._made = dict[int, tuple["weakref.ref[array[int]]", ArgumentBlock]]()
        self._layouts = weakref.WeakKeyDictionary[ArgumentBlock, _Layout]()
        self._tables = dict[int, _Tables]()
        self._own = threading.local()
        self._rooms = weakref.WeakSet[ProtectedRooms]()
        #: Lists whose blocks are filled in.
        self._lists = weakref.WeakSet[LaunchList]()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Within the block every launch has rooms from here."""
        launch, take = Kernel.launch, LaunchList._take_scratch

        def launched(kernel: Kernel, block: int, workers: int) -> None:
            found, template = self._made.get(block, (lambda: None, None))
            values = found()
            if values is None or template is None:
                launch(kernel, block, workers)
                return
            rooms = self._fill(values, template, workers)
            launch(kernel, block, workers)
            if rooms is not None:
                self._look(rooms)

        def taken(launches: LaunchList) -> None:
            take(launches)
            self._lists.add(launches)
            size_bytes = asked.size_bytes
            for (number, weighed), workers in zip(launches._of, launches.workers, strict=True):
                if weighed is not None:
                    continue
                for strand, part in _singles(launches._parts[number]):
                    asked.size_bytes = size_bytes
                    self._fill(part.block, self._template(part), workers if strand is None else 1, strand)

        with (
            mock.patch.object(ArgumentBlock, "fresh", _Fresh(self._note), create=True),
            mock.patch.object(Kernel, "launch", launched),
            mock.patch.object(LaunchList, "_take_scratch", taken),
        ):
            try:
                yield
            finally:
                for launches in self._lists:
                    self._restore(launches)
                for rooms in self._rooms:
                    self._look(rooms)

    def _note(self, made: array[int], block: ArgumentBlock) -> None:
        self._made[address(made)] = weakref.ref(made), block

    def _template(self, part: Single) -> ArgumentBlock:
        """What the block of a part was made of."""
        _, template = self._made[address(part.block)]
        return template

    def _restore(self, launches: LaunchList) -> None:
        """Let a list ask for scratch again, and find its own tables."""
        for several in launches._parts:
            for _, part in _singles(several):
                template = self._template(part)
                names = [n for n in template.index if n.endswith("_bytes_offset") or n == "scratch_bytes"]
                for name in (*names, *(n for n in template._tables if n in template.index)):
                    part.block[template.index[name]] = template.scalar(name)
        launches._scratch = 0

    def _fill(
        self, values: array[int], template: ArgumentBlock, workers: int, strand: int | None = None
    ) -> ProtectedRooms | None:
        """Write into a block where its rooms and tables are; each strand has its own."""
        layout = self._layouts.get(template)
        if layout is None:
            layout = self._layouts[template] = _Layout(template)
        words: _Words = {}
        if template._tables:
            words |= self._tables_of(template).words
        rooms = self._scratch(layout, workers, strand) if layout.sizes else None
        if rooms is not None:
            assert asked.size_bytes >= workers * sum(layout.sizes), "less scratch was asked for than is used"
            asked.size_bytes = 0
            words |= layout.words(rooms)
        for name, value in words.items():
            if name in template.index:
                values[template.index[name]] = value
        return rooms

    def _tables_of(self, template: ArgumentBlock) -> _Tables:
        found = self._tables.get(id(template._tables))
        if found is None:
            found = self._tables[id(template._tables)] = _Tables(template._tables)
        return found

    def _scratch(self, layout: _Layout, workers: int, strand: int | None) -> ProtectedRooms:
        """Rooms of this thread, full of NaN."""
        kept: dict[Any, ProtectedRooms] = self._own.__dict__
        key = f"{layout.sizes} {workers} {strand}"
        rooms = kept.get(key)
        if rooms is None:
            rooms = kept[key] = ProtectedRooms(layout.sizes, workers, alignment_bytes=_LINE_BYTES)
            self._rooms.add(rooms)
        else:
            self._look(rooms)
            rooms.fill()
        return rooms


def _singles(part: Part) -> list[tuple[int | None, Single]]:
    """The parts with blocks of kernels that a part consists of, and in which strand they are, if in any."""
    if isinstance(part, Strands):
        return [(number, each) for number, strand in enumerate(part._strands) for each in strand]
    assert isinstance(part, Single)
    return [(None, part)]
