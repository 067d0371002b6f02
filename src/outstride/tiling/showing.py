"""Bars of what is being done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

_Item = TypeVar("_Item")


def shown(
    items: Iterable[_Item], count: int, said: str, wanted: bool, transient: bool = False
) -> Iterable[_Item]:
    """So many items with a bar on the error stream, if it is `wanted` and somebody looks.

    A `transient` bar goes away at the end.
    """
    if not wanted:
        return items
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(items, said, total=count, console=console, transient=transient, disable=hidden)
