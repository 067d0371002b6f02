"""The arguments of a layer, each checked and brought to one form: the one place for constructors and calls.

Torch's constructors and functions refuse the same mistake with exceptions of different families; a
``Convention`` says which. The sentence is the same.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, SupportsIndex, cast

from outstride.errors import ArgumentError, ShapeError

Sizes = SupportsIndex | Sequence[SupportsIndex]
Pads = SupportsIndex | str | Sequence[SupportsIndex | Sequence[SupportsIndex]]
Pairs = tuple[tuple[int, int], ...]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
# Numbers of a call and positions in a padded tensor are counted in 63 bits, as in torch.
MOST = 2**63 - 1


class Convention(NamedTuple):
    """How arguments come and are refused: as torch's constructors take them, or as its functions do."""

    wrong_type: type[Exception]
    wrong_value: type[Exception]
    rows: Any
    """The types of sequences."""
    is_call: bool
    """Whether integers have 64 bits and may be symbolic."""


CONSTRUCTOR = Convention(ArgumentError, ArgumentError, Iterable, False)
CALL = Convention(TypeError, ShapeError, (tuple, list), True)


def choice(name: str, value: object, legal: Sequence[str], convention: Convention = CONSTRUCTOR) -> None:
    """Refuse what is none of the legal names."""
    if not isinstance(value, str) or value not in legal:
        raise convention.wrong_value(
            f"{name!r} must be one of its names: got {name}={value!r}; legal: {', '.join(map(repr, legal))}"
        )


def flag(name: str, value: object) -> bool:
    """Refuse what is not True or False."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name!r} must be a truth value: got {name}={value!r}; legal: True or False")
    return value


def whole(
    name: str, value: object, least: int, argument: object = None, convention: Convention = CONSTRUCTOR
) -> int:
    """Return one integer of at least ``least``; ``argument`` is what the caller wrote, if that was a row."""
    shown = value if argument is None else argument
    number = cast(int, value)
    if type(value) is not int and not (convention.is_call and hasattr(value, "node")):  # a symbolic integer
        try:
            if isinstance(value, (bool, str)):
                raise TypeError
            number = operator.index(cast(SupportsIndex, value))
        except TypeError:
            message = f"{name!r} must be an integer: got {name}={shown!r}; legal: {least} or more"
            raise convention.wrong_type(message) from None
    if number < least:
        raise convention.wrong_value(
            f"{name!r} must be at least {least}: got {name}={shown!r}; legal: {least} or more"
        )
    if convention.is_call and type(number) is int and number > MOST:
        raise ArgumentError(
            f"{name!r} must be a 64-bit integer: got {name}={shown!r}; legal: {least} to {MOST}"
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
    shown, legal, own = value, "(1, 3, 256, 256)", getattr(value, "shape", ())
    if len(own) > 1:  # of a tensor or an array: its numbers are no sizes
        shown, legal = f"a {type(value).__name__}", f"its shape, {tuple(own)}"
    elif not isinstance(value, (str, bytes)):
        try:
            row = tuple(cast("Iterable[SupportsIndex]", value))
            sizes = tuple(map(operator.index, row))
            if min(sizes, default=0) >= least and not any(isinstance(size, bool) for size in row):
                return sizes
        except TypeError:
            pass
    raise ArgumentError(f"{name!r} must be whole numbers of at least {least}: got {shown}; legal: {legal}")


def optional_whole(name: str, value: object, least: int) -> int | None:
    """Return one integer of at least ``least``, or None."""
    return None if value is None else whole(name, value, least)


def axis_count(kernel_size: object, nd: int | None) -> int:
    """Return the number of axes: ``nd``, or the length of ``kernel_size``."""
    if nd is not None:
        axes = whole("nd", nd, 1)
    elif _is_row(kernel_size, CONSTRUCTOR):
        axes = len(tuple(cast(Iterable[object], kernel_size)))
    else:
        raise ArgumentError(
            f"'nd' must say how many axes there are where 'kernel_size' is one number: got kernel_size="
            f"{kernel_size!r}; legal: nd=1, 2 or 3, or a tuple with one number per axis"
        )
    if not 1 <= axes <= 3:
        raise ArgumentError(f"'kernel_size' must have 1, 2 or 3 axes: got {axes}; legal: 1, 2 or 3")
    return axes


def per_axis(
    name: str, value: object, axes: int, least: int, convention: Convention = CONSTRUCTOR
) -> tuple[int, ...]:
    """Return one integer of at least ``least`` for every axis."""
    entries = _entries(name, value, axes, convention)
    return tuple(whole(name, entry, least, value, convention) for entry in entries)


def padding_pairs(
    padding: object, axes: int, convention: Convention = CONSTRUCTOR
) -> Pairs | Literal["same"]:
    """Return one (low, high) pair for every axis, or "same"."""
    if isinstance(padding, str):
        choice("padding", padding, ("valid", "same"), convention)
        return "same" if padding == "same" else ((0, 0),) * axes
    pairs: list[tuple[int, int]] = []
    for entry in _entries("padding", padding, axes, convention, ", or (low, high) pairs"):
        ends = tuple(cast(Iterable[object], entry)) if _is_row(entry, convention) else (entry, entry)
        if len(ends) != 2:
            raise convention.wrong_value(
                f"'padding' must be an integer or a (low, high) pair on every axis: got padding={padding!r}; "
                f"legal: two integers of 0 or more in each pair"
            )
        low, high = (whole("padding", end, 0, padding, convention) for end in ends)
        pairs.append((low, high))
    return tuple(pairs)


def check_output_padding(
    output_padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    same: bool,
    convention: Convention = CONSTRUCTOR,
) -> None:
    """Refuse an output_padding that no input size of the convolution leaves open."""
    if same and any(extra != 0 for extra in output_padding):
        raise convention.wrong_value(
            "'output_padding' must be 0 with padding='same', which fixes the output at input * stride: got "
            f"output_padding={output_padding}; legal: 0, or 'output_size' at the call"
        )
    if any(e >= s and e >= d for e, s, d in zip(output_padding, stride, dilation, strict=True)):
        bounds = [max(s, d) - 1 for s, d in zip(stride, dilation, strict=True)]
        most = bounds[0]
        legal = "0" if most == 0 else "0 or 1" if most == 1 else f"0 to {most}"
        if len(set(bounds)) > 1:
            legal = f"at most {tuple(bounds)}"
        raise convention.wrong_value(
            "'output_padding' must be smaller than 'stride' or 'dilation' on every axis: got output_padding="
            f"{output_padding} with stride={stride}, dilation={dilation}; legal: {legal}"
        )


def _is_row(value: object, convention: Convention) -> bool:
    if isinstance(value, str) or not isinstance(value, convention.rows):
        return False
    if isinstance(value, (tuple, list)):  # the tracer of torch 2.6 stumbles over the index of one
        return True
    try:
        operator.index(cast(SupportsIndex, value))  # arrays without axes claim to be iterable
    except TypeError:
        return True
    return False


def _entries(
    name: str, value: object, axes: int, convention: Convention, also: str = ""
) -> tuple[object, ...]:
    if not _is_row(value, convention):
        return (value,) * axes
    entries = tuple(cast(Iterable[object], value))
    # torch's functional form takes a list of one number as that number for every axis.
    if len(entries) == 1 and not _is_row(entries[0], convention):
        return entries * axes
    if len(entries) != axes:
        raise convention.wrong_value(
            f"{name!r} must have one entry per axis: got {name}={value!r} for {axes} "
            f"{'axis' if axes == 1 else 'axes'}; legal: an integer or {axes} of them{also}"
        )
    return entries
