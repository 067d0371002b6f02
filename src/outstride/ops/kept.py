"""What calls keep for the next one: dictionaries that are emptied rather than grow without end."""

from __future__ import annotations

from typing import TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def keep(kept: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> _Value:
    """Keep a value under a key and return it; where there are `most` already, alone."""
    if len(kept) >= most:
        kept.clear()
    kept[key] = value
    return value
