"""What the page asks, read and bounded: texts, sizes and numbers, never code."""

from __future__ import annotations

import ast
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outstride.errors import ArgumentError, OutstrideError
from outstride.layer.notation import read_call
from outstride.layer.spec import ConvSpec

#: Letters of a field, numbers of an array, digits of a size.
_LONGEST_TEXT, MOST_NUMBERS, _MOST_DIGITS = 2000, 1024, 6
_LARGEST = 1e9
_FAMILIES = {"conv": "Conv", "conv_transpose": "ConvTranspose", "max_pool": "MaxPool", "avg_pool": "AvgPool"}
#: What a page can set of each kind of layer, in the order in which it is written.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "conv": ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
             "padding_mode"),
    "conv_transpose": ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding",
                       "dilation", "groups"),
    "max_pool": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "avg_pool": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
}  # fmt: skip


def text_of(question: Mapping[str, Any], name: str, default: str = "") -> str:
    """A text of bounded length.

    Raises:
        ArgumentError: it is none, or too long.
    """
    value = question.get(name, default)
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ArgumentError(
            f"{name!r} must be a text: got {str(value)[:40]!r}; legal: at most {_LONGEST_TEXT} letters"
        )
    # Keyboards of Chinese and Japanese have brackets, commas and digits of their own.
    return unicodedata.normalize("NFKC", value)


def layer_text(question: Mapping[str, Any]) -> str:
    """The layer as it was typed, or as the fields spell it; the layer's own parser reads both."""
    if "fields" not in question:
        return _pasted(text_of(question, "layer"))
    fields = question["fields"]
    if not isinstance(fields, dict) or fields.get("kind") not in _FAMILIES or not _is_axes(fields.get("nd")):
        raise ArgumentError(
            f"'fields' must hold a kind and a number of axes: got {str(fields)[:60]!r}; "
            "legal: {'kind': 'conv', 'nd': 2, 'kernel_size': '3'}"
        )
    return call_of(fields)


def _pasted(text: str) -> str:
    """A line of a model's code or of what torch prints of it without what stands around the call."""
    bare = re.sub(r"^\s*(?:\([\w.]+\):|[\w.\[\]]+\s*=)\s*(?=[A-Za-z_])", "", text).strip()
    return bare.rstrip(",")


def call_of(fields: Mapping[str, Any]) -> str:
    """The call that fields spell."""
    kind = fields["kind"]
    words = [
        f"{name}={_argument(name, fields)}" for name in FIELDS[kind] if str(fields.get(name, "")).strip()
    ]
    if fields.get("bias") == "False" and kind.startswith("conv"):
        words.append("bias=False")
    return f"{_FAMILIES[kind]}{fields['nd']}d({', '.join(words)})"


def _is_axes(value: object) -> bool:
    return value in (1, 2, 3) and not isinstance(value, bool)


def _argument(name: str, fields: Mapping[str, Any]) -> str:
    text = text_of({name: str(fields[name])}, name).strip()
    if "," in text and not (text.startswith("(") and text.endswith(")") and text.count("(") != 1):
        text = f"({text.strip('()')})" if text.count("(") <= 1 else f"({text})"
    if not _is_value(text):
        raise ArgumentError(
            f"{name!r} must be one number, or one for each axis: got {text[:40]!r}; legal: 3 or (3, 5)"
        )
    return text


def _is_value(text: str) -> bool:
    """Whether it stands as one argument of a call; which it is the call's own parser judges."""
    try:
        node = ast.parse(f"f(a={text})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return isinstance(node, ast.Call) and not node.args and len(node.keywords) == 1


def fields_of(spec: ConvSpec) -> dict[str, Any]:
    """A layer taken apart into what the page can set, as texts."""
    found: dict[str, Any] = {"kind": spec.kind, "nd": spec.nd}
    for name in FIELDS[spec.kind]:
        value = getattr(spec, name)
        if name == "padding" and value != "same":
            value = tuple(low if low == high else (low, high) for low, high in value)
            even = len(set(value)) == 1 and isinstance(value[0], int)
            # One pair of an axis still needs the brackets of a row of axes.
            value = value[0] if even else spec.padding
        elif isinstance(value, tuple):
            value = value[0] if len(set(value)) == 1 else value
        found[name] = "" if value is None else str(value)
    if spec.kind.startswith("conv"):
        found["bias"] = str(spec.bias)
    return found


def fields_in(text: str) -> dict[str, Any] | None:
    """What a call says of its fields, though they make no layer; None where it is no call of a layer."""
    try:
        call = read_call(text)
    except OutstrideError:
        return None
    known = {name: str(call.arguments[name]) for name in FIELDS[call.kind] if name in call.arguments}
    return {"kind": call.kind, "nd": call.nd, **known}


def size_of(question: Mapping[str, Any], name: str, nd: int) -> tuple[int, ...] | None:
    """A size such as 5 or 5x6, one number standing for every axis; None where it is left out.

    Raises:
        ArgumentError: it is no size, or has other axes than the layer.
    """
    text = text_of(question, name).strip().lower().replace("×", "x").replace(",", "x").strip("()")
    if not text:
        return None
    parts = [part.strip() for part in text.split("x") if part.strip()]
    if not parts or not all(
        part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS for part in parts
    ):
        raise ArgumentError(f"{name!r} must be whole numbers joined by x: got {text[:40]!r}; legal: 5 or 5x6")
    numbers = tuple(map(int, parts))
    if len(numbers) == 1:
        numbers *= nd
    if len(numbers) != nd or min(numbers) < 1:
        raise ArgumentError(
            f"{name!r} must have one positive number for each of {nd} axes: got {text[:40]!r}; "
            f"legal: {'x'.join(['5'] * nd)}"
        )
    return numbers


@dataclass(frozen=True)
class Edited:
    """Numbers that a reader typed, row by row; None where they are left to count from 1."""

    input: tuple[float, ...] | None
    kernel: tuple[float, ...] | None
    bias: float


def edited_of(question: Mapping[str, Any]) -> Edited:
    """The numbers of a question."""
    numbers = question.get("numbers") or {}
    if not isinstance(numbers, dict):
        raise ArgumentError(f"'numbers' must name arrays: got {type(numbers).__name__}; legal: {{}}")
    bias = _row(numbers.get("bias"), "bias")
    return Edited(
        _row(numbers.get("input"), "input"), _row(numbers.get("kernel"), "kernel"), bias[0] if bias else 0.0
    )


def _row(values: object, name: str) -> tuple[float, ...] | None:
    if values is None:
        return None
    row = values if isinstance(values, list) else [values]
    if len(row) > MOST_NUMBERS or not all(map(_is_number, row)):
        raise ArgumentError(
            f"{name!r} must hold finite numbers: got {str(values)[:40]}; "
            f"legal: at most {MOST_NUMBERS} of them"
        )
    return tuple(map(float, row))


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and abs(value) < _LARGEST


def fitting(row: Sequence[float] | None, count: int) -> Sequence[float] | None:
    """Typed numbers where there are as many as are needed; a layer that grew counts from 1 again."""
    return row if row is not None and len(row) == count else None
