"""What a user asks for, checked and taken apart: one question for each axis, and the bounds of the search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, SupportsIndex, cast

from outstride.errors import ArgumentError
from outstride.geometry.solver.choices import Bounds, Question, usual_bounds
from outstride.layer.arguments import choice, flag, per_axis, whole
from outstride.layer.spec import KINDS, Kind

Values = SupportsIndex | Iterable[SupportsIndex]
"""The values that may be tried for a parameter: one, or several."""

ScaleLike = int | str | Fraction
"""A whole number, one over a whole number, or either as a text: 2, "1/2"."""


class Limits(NamedTuple):
    """The bounds as they were given: None stands for the usual ones."""

    kernel_size: Values | None = None
    stride: Values | None = None
    padding: Values | None = None
    dilation: Values | None = None
    output_padding: Values | None = None
    ceil_mode: bool | None = None
    asymmetric: bool = False


def questions_of(
    kind: str | None, input_size: object, output_size: object, scale: object, nd: int | None
) -> tuple[Question, ...]:
    """One question per axis; sizes or a scale, not both, as numbers for every axis or one for each."""
    if kind is not None:
        choice("kind", kind, KINDS)
    if scale is not None:
        if input_size is not None or output_size is not None:
            raise ArgumentError(
                f"'scale' must be given alone: got scale={scale!r}, input_size={input_size!r}, "
                f"output_size={output_size!r}; legal: scale, or input_size and output_size"
            )
        return _scaled(kind, scale, nd)
    if input_size is None or output_size is None:
        raise ArgumentError(
            f"'input_size' and 'output_size' must both be given, or 'scale': got input_size={input_size!r}, "
            f"output_size={output_size!r}; legal: input_size=7, output_size=14, or scale=2"
        )
    axes = _count((input_size, output_size), nd)
    sizes_in, sizes_out = (
        per_axis("input_size", input_size, axes, 1),
        per_axis("output_size", output_size, axes, 1),
    )
    if kind is None:
        kind = "conv_transpose" if any(o > i for i, o in zip(sizes_in, sizes_out, strict=True)) else "conv"
    rows = zip(sizes_in, sizes_out, strict=True)
    return tuple(Question(cast(Kind, kind), i, o) for i, o in rows)


def _scaled(kind: str | None, scale: object, nd: int | None) -> tuple[Question, ...]:
    axes = _count((scale,), nd)
    entries = tuple(cast(Iterable[object], scale)) if _is_row(scale) else (scale,) * axes
    factors = [_factor(entry) for entry in entries]
    if kind is None:
        kind = "conv_transpose" if any(factor > 1 for factor in factors) else "conv"
    up = kind == "conv_transpose"
    for factor in factors:
        if (factor < 1 if up else factor > 1) or 1 not in (factor.numerator, factor.denominator):
            legal = "whole numbers" if up else "one over whole numbers, such as '1/2'"
            raise ArgumentError(
                f"'scale' must be one that a single {kind} layer can have: got {scale!r}; legal: {legal} on "
                f"every axis (other scales take a chain of layers)"
            )
    return tuple(Question(cast(Kind, kind), f.denominator, f.numerator, True) for f in factors)


def _factor(value: object) -> Fraction:
    try:
        if isinstance(value, (bool, float)):
            raise TypeError
        factor = Fraction(value.strip() if isinstance(value, str) else cast(Any, value))
    except (TypeError, ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if factor <= 0:
        raise ArgumentError(
            f"'scale' must be a whole number or one over a whole number: got {value!r}; legal: 2 or '1/2', "
            f"or one of these per axis"
        )
    return factor


def _count(values: Sequence[object], nd: int | None) -> int:
    """The number of axes: what is said, or the length of a tuple, or 2 as for pictures."""
    lengths = {len(tuple(cast(Iterable[object], value))) for value in values if _is_row(value)}
    if nd is not None:
        lengths.add(whole("nd", nd, 1))
    if len(lengths) > 1 or any(not 1 <= length <= 3 for length in lengths):
        raise ArgumentError(
            f"'input_size', 'output_size', 'scale' and 'nd' must agree on 1 to 3 axes: got "
            f"{sorted(lengths)}; legal: 1, 2 or 3"
        )
    return lengths.pop() if lengths else 2


def bounds_of(limits: Limits, question: Question) -> Bounds:
    """The bounds of the search on one axis: what was given, and the usual for the rest."""
    usual = usual_bounds(question)
    found: dict[str, tuple[int, ...] | None] = {}
    for name, least in (
        ("kernel_size", 1),
        ("stride", 1),
        ("padding", 0),
        ("dilation", 1),
        ("output_padding", 0),
    ):
        values = getattr(limits, name)
        found[name] = usual.get(name) if values is None else _values(name, values, least)
    if limits.padding is None:
        kernel, spread = (max(cast(tuple[int, ...], found[name])) for name in ("kernel_size", "dilation"))
        found["padding"] = tuple(range(max(kernel, (spread * (kernel - 1) + 1) // 2 + 1)))
    rounding = (False, True) if limits.ceil_mode is None else (flag("ceil_mode", limits.ceil_mode),)
    if not question.kind.endswith("pool"):
        rounding = (False,)
    return Bounds(**cast(Any, found), ceil_mode=rounding, asymmetric=flag("asymmetric", limits.asymmetric))


def _values(name: str, values: Values, least: int) -> tuple[int, ...]:
    rows = cast(Iterable[SupportsIndex], values) if _is_row(values) else (cast(SupportsIndex, values),)
    found = tuple(sorted({whole(name, value, least) for value in rows}))
    if not found:
        raise ArgumentError(
            f"{name!r} must hold a value to try: got {values!r}; legal: a number, a range or a tuple"
        )
    return found


def _is_row(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str)
