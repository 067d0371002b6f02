"""Turn the sizes, scales and value lists of a command into numbers."""

from __future__ import annotations

import re
from typing import Any

from outstride.errors import ArgumentError

_LONGEST_RANGE = 10_000
_NUMBER = re.compile(r"[0-9]{1,18}")
_SCALE = re.compile(r"(?:x|/|1/)?([0-9]{1,9})")


def size(text: str, argument: str) -> int | tuple[int, ...]:
    """Read 23 or 23x31; one number stands for every axis."""
    parts = text.lower().split("x")
    if not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        raise ArgumentError(
            f"'{argument}' must be whole numbers joined by x: got {text[:40]!r}; legal: 23 or 23x31"
        )
    numbers = tuple(map(int, parts))
    return numbers[0] if len(numbers) == 1 else numbers


def scale(text: str) -> Any:
    """Read 2, 1/2, or one of these per axis joined by x: 1x2x2."""
    parts = [part.strip() for part in text.lower().split("x")]
    return parts[0] if len(parts) == 1 else tuple(parts)


def several(text: str, argument: str, least: int) -> tuple[int, ...] | None:
    """Read 4, 3..7, or several of these joined by commas; nothing for None."""
    if not text:
        return None
    found: list[int] = []
    for part in text.split(","):
        ends = [end.strip() for end in part.split("..")]
        legal = len(ends) <= 2 and all(_NUMBER.fullmatch(end) for end in ends)
        if not legal or int(ends[0]) < least or not 0 <= int(ends[-1]) - int(ends[0]) < _LONGEST_RANGE:
            raise ArgumentError(
                f"'{argument}' must be whole numbers of at least {least}, or ranges of them: got "
                f"{text[:40]!r}; legal: 4, 3..7 or 3,5,7"
            )
        found += range(int(ends[0]), int(ends[-1]) + 1)
    return tuple(found)


def chain(text: str) -> dict[str, Any]:
    """Read the sizes of a chain, 256,128,256, or its scales, /2,/2,x2,x2."""
    parts = [part.strip().lower() for part in text.split(",")]
    if any(part.startswith(("x", "/", "1/")) for part in parts):
        scales: list[str] = []
        for part in parts:
            number = _SCALE.fullmatch(part)
            if number is None:
                raise ArgumentError(
                    f"'--chain' must hold sizes or scales: got {part[:20]!r}; "
                    "legal: 256,128,256 or /2,/2,x2,x2"
                )
            scales.append(f"1/{number[1]}" if "/" in part else number[1])
        return {"scales": scales}
    return {"sizes": [size(part, "--chain") for part in parts]}
