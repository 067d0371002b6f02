"""One argument at a time: numbers, flags, names and per-axis tuples, checked and brought to one form."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Literal, SupportsIndex, cast

from outstride.errors import ArgumentError

Sizes = SupportsIndex | Sequence[SupportsIndex]
Pads = SupportsIndex | str | Sequence[SupportsIndex | Sequence[SupportsIndex]]
Pairs = tuple[tuple[int, int], ...]


def choice(name: str, value: object, legal: Sequence[str]) -> None:
    """Refuse what is none of the legal names."""
    if not isinstance(value, str) or value not in legal:
        raise ArgumentError(
            f"{name!r} must be one of its names: got {name}={value!r}; legal: {', '.join(map(repr, legal))}"
        )


def flag(name: str, value: object) -> bool:
    """Refuse what is not True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name!r} must be a truth value: got {name}={value!r}; legal: True or False")
    return value


def whole(name: str, value: object, least: int, given: object = None) -> int:
    """Return one integer of at least ``least``; ``given`` is what the caller wrote, where it was a tuple."""
    shown = value if given is None else given
    try:
        if isinstance(value, (bool, str)):
            raise TypeError
        number = operator.index(cast(SupportsIndex, value))
    except TypeError:
        message = f"{name!r} must be an integer: got {name}={shown!r}; legal: {least} or more"
        raise ArgumentError(message) from None
    if number < least:
        raise ArgumentError(
            f"{name!r} must be at least {least}: got {name}={shown!r}; legal: {least} or more"
        )
    return number


def module(name: str, value: object) -> None:
    """Refuse what is no module of torch's, which is known by what it can do: torch is not imported here."""
    if not hasattr(type(value), "named_modules"):
        text = repr(value)
        shown = f"{type(value).__name__} {text}" if len(text) <= 50 else type(value).__name__
        raise ArgumentError(f"{name!r} must be a torch module: got {shown}; legal: a torch.nn.Module")


def shape(name: str, value: object, least: int) -> tuple[int, ...]:
    """Return a shape, every size at least ``least``; it may be empty where sizes may be 0."""
    row = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else value
    try:
        if not isinstance(row, tuple) or any(isinstance(size, bool) for size in row):
            raise TypeError
        sizes = tuple(operator.index(cast(SupportsIndex, size)) for size in row)
        if min(sizes, default=0) >= least:
            return sizes
    except TypeError:
        pass
    raise ArgumentError(
        f"{name!r} must be whole numbers of at least {least}: got {row}; legal: (1, 3, 256, 256)"
    )


def optional_whole(name: str, value: object, least: int) -> int | None:
    """Return one integer of at least ``least``, or None."""
    return None if value is None else whole(name, value, least)


def axis_count(kernel_size: object, nd: int | None) -> int:
    """Return the number of axes: ``nd``, or the length of ``kernel_size``."""
    if nd is not None:
        axes = whole("nd", nd, 1)
    elif _is_row(kernel_size):
        axes = len(tuple(cast(Iterable[object], kernel_size)))
    else:
        raise ArgumentError(
            f"'nd' must say how many axes there are where 'kernel_size' is one number: got kernel_size="
            f"{kernel_size!r}; legal: nd=1, 2 or 3, or a tuple with one number per axis"
        )
    if not 1 <= axes <= 3:
        raise ArgumentError(f"'kernel_size' must have 1, 2 or 3 axes: got {axes}; legal: 1, 2 or 3")
    return axes


def per_axis(name: str, value: object, axes: int, least: int) -> tuple[int, ...]:
    """Return one integer of at least ``least`` for every axis."""
    return tuple(whole(name, entry, least, value) for entry in _entries(name, value, axes))


def padding_pairs(padding: object, axes: int) -> Pairs | Literal["same"]:
    """Return one (low, high) pair for every axis, or "same"."""
    if isinstance(padding, str):
        choice("padding", padding, ("valid", "same"))
        return "same" if padding == "same" else ((0, 0),) * axes
    pairs: list[tuple[int, int]] = []
    for entry in _entries("padding", padding, axes, ", or (low, high) pairs"):
        ends = tuple(cast(Iterable[object], entry)) if _is_row(entry) else (entry, entry)
        if len(ends) != 2:
            raise ArgumentError(
                f"'padding' must be an integer or a (low, high) pair on every axis: got padding={padding!r}; "
                f"legal: two integers of 0 or more in each pair"
            )
        pairs.append((whole("padding", ends[0], 0, padding), whole("padding", ends[1], 0, padding)))
    return tuple(pairs)


def _is_row(value: object) -> bool:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return False
    try:
        operator.index(cast(SupportsIndex, value))  # arrays without axes claim to be iterable
    except TypeError:
        return True
    return False


def _entries(name: str, value: object, axes: int, also: str = "") -> tuple[object, ...]:
    if not _is_row(value):
        return (value,) * axes
    entries = tuple(cast(Iterable[object], value))
    # torch's functional form takes a list of one number as that number for every axis.
    if len(entries) == 1 and not _is_row(entries[0]):
        return entries * axes
    if len(entries) != axes:
        raise ArgumentError(
            f"{name!r} must have one entry per axis: got {name}={value!r} for {axes} "
            f"{'axis' if axes == 1 else 'axes'}; legal: an integer or {axes} of them{also}"
        )
    return entries
