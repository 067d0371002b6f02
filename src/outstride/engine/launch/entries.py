"""The entries of a list of launches, as native code reads them, and its argument block."""

from __future__ import annotations

from array import array
from functools import lru_cache

from outstride.engine.codegen.arguments import ENTRY_FIELDS, ENTRY_INDEX, LIST_ARGUMENTS, LIST_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.launch_list import launch_list_source
from outstride.engine.launch.argument_block import address
from outstride.engine.launch.launches import Launch
from outstride.engine.runtime import Kernel, fork_address, kernel, machine, team

_NEXT = LIST_INDEX["next"]


class Entries:
    """So many entries, left out until they are set, for launches on at most so many threads."""

    def __init__(self, count: int, threads: int) -> None:
        self._head = array("q", [0] * len(LIST_ARGUMENTS))
        self._entries = array("q", self._left_out() * count)
        self._team = team(threads)
        for name, value in {
            "entries_at": address(self._entries), "count": count, "fork_at": fork_address(),
            "team_at": address(self._team),
        }.items():  # fmt: skip
            self._head[LIST_INDEX[name]] = value

    @property
    def address(self) -> int:
        """Where the argument block is."""
        return address(self._head)

    @property
    def position(self) -> int:
        """The entry that the list goes on from, or stopped at."""
        return self._head[_NEXT]

    @position.setter
    def position(self, number: int) -> None:
        self._head[_NEXT] = number

    @property
    def workers(self) -> tuple[int, ...]:
        """The threads that each entry runs on, 0 where it is left out."""
        return tuple(self._entries[ENTRY_INDEX["workers"] :: len(ENTRY_FIELDS)])

    def set(self, number: int, launch: Launch, block: array[int], workers: int) -> None:
        """Launch on an argument block that stays where it is."""
        begin = address(block)
        words = {
            "kernel_at": launch.kernel.address, "block_at": begin,
            "workers": workers if fork_address() else 1,
            "flag_at": self._nothing if launch.flag is None else begin + 8 * launch.block.index[launch.flag],
        }  # fmt: skip
        self._write(number, [words[name] for name in ENTRY_FIELDS])

    def leave_out(self, number: int) -> None:
        """Have nothing launched there."""
        self._write(number, self._left_out())

    def _write(self, number: int, words: list[int]) -> None:
        begin = number * len(ENTRY_FIELDS)
        self._entries[begin : begin + len(words)] = array("q", words)

    def _left_out(self) -> list[int]:
        return [self._nothing if name == "flag_at" else 0 for name in ENTRY_FIELDS]

    @property
    def _nothing(self) -> int:
        """Where the word is that stays 0."""
        return address(self._head) + 8 * LIST_INDEX["nothing"]


@lru_cache(maxsize=1)
def list_kernel() -> Kernel:
    """What runs the entries, called with the argument block itself."""
    isa = machine().instruction_set
    return kernel("launch_list", launch_list_source, isa, authorship())
