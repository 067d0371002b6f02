"""The size of every axis as a formula, with letters and with the layer's numbers in their place."""

from __future__ import annotations

from typing import Any

from outstride.geometry import output_size, resolved_padding
from outstride.layer.spec import ConvSpec

_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_CONV, _CEIL = "⌊(i + p₀ + p₁ − d·(k − 1) − 1) / s⌋ + 1", "⌈(i + p₀ + p₁ − d·(k − 1) − 1) / s⌉ + 1"
_TRANSPOSED = "(i − 1)·s − p₀ − p₁ + d·(k − 1) + e + 1"
_SAME, _SAME_TRANSPOSED = "⌈i / s⌉", "i·s"


def size_rows(spec: ConvSpec, size: tuple[int, ...]) -> list[dict[str, Any]]:
    """For each axis its name, its sizes, the formula in letters and the formula filled in."""
    out, pads = output_size(spec, size), resolved_padding(spec, size)
    rows = []
    for axis, (name, i, o, pad) in enumerate(zip(_AXES[spec.nd], size, out, pads, strict=True)):
        rows.append(
            {
                "axis": name,
                "input": i,
                "output": o,
                "formula": _letters(spec),
                "filled": f"{_filled(spec, axis, i, pad)} = {o}",
                "padding": list(pad),
            }
        )
    return rows


def _letters(spec: ConvSpec) -> str:
    if spec.kind == "conv_transpose":
        return _SAME_TRANSPOSED if spec.padding == "same" else _TRANSPOSED
    return _SAME if spec.padding == "same" else _CEIL if spec.ceil_mode else _CONV


def _filled(spec: ConvSpec, axis: int, i: int, pad: tuple[int, int]) -> str:
    k, s, d = spec.kernel_size[axis], spec.stride[axis], spec.dilation[axis]
    e, (low, high) = spec.output_padding[axis], pad
    if spec.padding == "same":
        return f"{i}·{s}" if spec.kind == "conv_transpose" else f"⌈{i} / {s}⌉"
    if spec.kind == "conv_transpose":
        return f"({i} − 1)·{s} − {low} − {high} + {d}·({k} − 1) + {e} + 1"
    left, right = "⌈⌉" if spec.ceil_mode else "⌊⌋"
    # A last window that begins in the high padding is left out, as torch does.
    over = i + low + high - spec.window[axis]
    dropped = " − 1" if spec.ceil_mode and -(-over // s) * s >= i + low else ""
    return f"{left}({i} + {low} + {high} − {d}·({k} − 1) − 1) / {s}{right} + 1{dropped}"
