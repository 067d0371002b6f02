"""Argument blocks of kernels: 64-bit integers by name, and the tables whose addresses some of them are."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class ArgumentBlock:
    """The template of a kernel's argument block; `fresh` copies it for one call."""

    def __init__(
        self, index: Mapping[str, int], values: array[int], tables: Mapping[str, array[int]]
    ) -> None:
        self.index = index
        self._values = values
        self._tables = tables
        #: A copy for one call: counters at zero, pointers to be set.
        self.fresh: Callable[[], array[int]] = values.__copy__

    @classmethod
    def of(
        cls, index: Mapping[str, int], scalars: dict[str, int], tables: Mapping[str, array[int]]
    ) -> ArgumentBlock:
        """The template with these scalars, by the names of the arguments, and the addresses of the tables."""
        block = cls(index, array("q", bytes(8 * len(index))), tables)
        return block.changed(scalars | {name: address(at) for name, at in tables.items() if name in index})

    def changed(self, scalars: Mapping[str, int]) -> ArgumentBlock:
        """The template with other scalars and the same tables."""
        values, index = self.fresh(), self.index
        for name, value in scalars.items():
            values[index[name]] = value
        return ArgumentBlock(index, values, self._tables)

    def scalar(self, name: str) -> int:
        """The value of a scalar."""
        return self._values[self.index[name]]


def table(fields: Sequence[str], rows: Sequence[Mapping[str, int]]) -> array[int]:
    """Rows of named fields, one behind the other."""
    return array("q", [row[name] for row in rows for name in fields])


def address(values: array[Any]) -> int:
    """Where the array's items lie."""
    return values.buffer_info()[0]
