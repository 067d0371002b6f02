"""Argument blocks: arrays of i64 with scalars by name and addresses of tables, kept alive as long as they."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Block:
    """A template of an argument block; `fresh` copies it for one call."""

    def __init__(
        self, index: Mapping[str, int], scalars: Mapping[str, int], tables: Mapping[str, array[int]]
    ) -> None:
        self.index = index
        self._tables = tables
        values = [0] * len(index)
        for name, value in scalars.items():
            values[index[name]] = value
        for name, table in tables.items():
            if name in index:
                values[index[name]] = table.buffer_info()[0]
        self._values = array("q", values)
        #: A copy for one call: counters at zero, pointers to be set.
        self.fresh: Callable[[], array[int]] = self._values.__copy__

    def scalar(self, name: str) -> int:
        """The value of a scalar."""
        return self._values[self.index[name]]


def table(fields: Sequence[str], rows: Sequence[Mapping[str, int]]) -> array[int]:
    """Rows of named fields, one behind the other."""
    return array("q", [row[name] for row in rows for name in fields])


def address(values: array[Any]) -> int:
    """Where the array's items lie."""
    return values.buffer_info()[0]
