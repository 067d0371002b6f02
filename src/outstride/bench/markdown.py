"""Lines of a table in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def cells(*values: Any) -> str:
    """One line of a table."""
    return "| " + " | ".join(str(value) for value in values) + " |"


def head(*names: str) -> Iterator[str]:
    """The names of the columns: those that begin with a colon hold words, and the first does anyway."""
    yield cells(*(name.removeprefix(":") for name in names))
    yield cells("---", *("---" if name.startswith(":") else "---:" for name in names[1:]))


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 thread, 2 threads."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
