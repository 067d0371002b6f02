"""The argument blocks of a list's launches, and which of their words are addresses of values."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Protocol

from outstride.engine.codegen.arguments import STRAND_INDEX
from outstride.engine.launch.argument_block import address
from outstride.engine.launch.entries import Entries
from outstride.engine.launch.launches import At, Kept, Launch, Weight

#: By place, words that hold where its value is.
Words = dict[int, list["Word"]]


class Word:
    """A word that holds an address, or the bytes from another address to it."""

    def __init__(self, words: array[int], index: int, at: At, base: At | None = None) -> None:
        self._words, self._index, self._place = words, index, at.place
        self._base = None if base is None else base.place
        self._offset = at.offset - (0 if base is None else base.offset)

    def write(self, addresses: dict[int, int]) -> None:
        """Fill it in."""
        begin = 0 if self._base is None else addresses[self._base]
        self._words[self._index] = addresses[self._place] + self._offset - begin


class Part(Protocol):
    """What a list keeps of a launch: none of its tensors."""

    block: array[int]
    """Its argument block."""

    def weights(self, launch: Launch) -> Sequence[tuple[Weight, Sequence[Single]]]:
        """The weights that it has packed, and for whom."""

    def note(self, launch: Launch, addresses: dict[int, int], words: Words) -> None:
        """Tell by place which words hold what, and where that is now."""

    def set_scratch(self, there: int) -> None:
        """Where its threads may write."""

    def excuse(self) -> None:
        """Let the list go on after this launch next time."""


class Single:
    """The argument block of one kernel, and its table of operands."""

    def __init__(self, launch: Launch) -> None:
        self._flag, self._has_scratch = launch.flag, launch.scratch_bytes > 0
        self.block = launch.block.fresh()
        self._index = launch.block.index
        self._table = array("q", [0] * len(launch.operands))
        self._spoiled = 0
        if launch.operands:
            self.block[self._index["operands_at"]] = address(self._table)

    def weights(self, launch: Launch) -> Sequence[tuple[Weight, Sequence[Single]]]:
        """The weight that it has packed, if any."""
        return [] if launch.weight is None else [(launch.weight, [self])]

    def note(self, launch: Launch, addresses: dict[int, int], words: Words) -> None:
        """Tell by place which words hold what, and where that is now."""

        def hold(word: Word, *places: At) -> None:
            for at in places:
                addresses[at.place] = at.value.data_ptr()
                words.setdefault(at.place, []).append(word)

        result = launch.addresses["y_at"]
        for name, at in launch.addresses.items():
            hold(Word(self.block, self._index[name], at), at)
        for number, (at, apart) in enumerate(launch.operands):
            word = Word(self._table, number, at, result if apart else None)
            hold(word, at, *([result] if apart else []))
        if launch.weight is not None:
            addresses[launch.weight.at.place] = launch.weight.at.tensor.data_ptr()

    def set_scratch(self, there: int) -> None:
        """Where its threads may write."""
        if self._has_scratch:
            self.block[self._index["scratch_at"]] = there

    def set_weight(self, kept: Kept) -> None:
        """The packed weight; what is not finite is for Python, after every launch."""
        self.block[self._index["w_at"]] = kept.pointer
        self._spoiled = int(not kept.finite)
        self.excuse()

    def excuse(self) -> None:
        """Let the list go on after this launch next time."""
        if self._flag is not None:
            self.block[self._index[self._flag]] = self._spoiled


class Strands:
    """The argument blocks of launches that threads run beside each other, each a list of its own."""

    def __init__(self, launch: Launch) -> None:
        self.block, self._threads = launch.block.fresh(), launch.workers
        self._strands = [[Single(each) for each in strand] for strand in launch.strands]
        self._scratch_bytes = launch.scratch_bytes // launch.workers
        self._lists = [Entries(len(strand), 1) for strand in launch.strands]
        for entries, launches, parts in zip(self._lists, launch.strands, self._strands, strict=True):
            for number, (each, part) in enumerate(zip(launches, parts, strict=True)):
                entries.set(number, each, part.block, 1)
        self._heads = array("q", [entries.address for entries in self._lists])
        self.block[STRAND_INDEX["lists_at"]] = address(self._heads)

    def weights(self, launch: Launch) -> Sequence[tuple[Weight, Sequence[Single]]]:
        """Each weight once for all that need it packed alike."""
        found = dict[tuple[int, object], tuple[Weight, list[Single]]]()
        for part, each in zip(self._parts, launch.single(), strict=True):
            for weight, _ in part.weights(each):
                shared = found.setdefault(
                    (weight.at.place, weight.form), (weight._replace(threads=self._threads), [])
                )
                shared[1].append(part)
        return list(found.values())

    def note(self, launch: Launch, addresses: dict[int, int], words: Words) -> None:
        """Tell by place which words hold what, and where that is now."""
        for part, each in zip(self._parts, launch.single(), strict=True):
            part.note(each, addresses, words)

    def set_scratch(self, there: int) -> None:
        """Where its threads may write, one strand behind the other."""
        for number, parts in enumerate(self._strands):
            for part in parts:
                part.set_scratch(there + number * self._scratch_bytes)

    def excuse(self) -> None:
        """Let the list go on after this launch next time."""
        self.block[STRAND_INDEX["found"]] = 0
        for part in self._parts:
            part.excuse()

    @property
    def _parts(self) -> list[Single]:
        return [part for strand in self._strands for part in strand]


def part_of(launch: Launch) -> Part:
    """What a list keeps of a launch."""
    return Strands(launch) if launch.strands else Single(launch)
