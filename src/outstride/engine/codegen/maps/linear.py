"""Linear resizing along one to three axes: what torch's two ways have in common, and how each rounds.

An output has two inputs along each axis, `low` and `high`, and their weights, `near` and `far`. Torch either
goes axis by axis, the last one first ("nested"), or multiplies the weights of each corner and adds up all
corners ("corners"), in an order that its compiler chose: another one in vectors of channels than in what
fills none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Value
from outstride.engine.codegen.registers import fused

Way = Literal["nested", "corners"]
AXES = "dhw"

#: The argument block: x (images, *input) to y (images, *output), with `channels` side by side, or in planes
#: of their own; those from `whole` on fill no vector of torch's. Tables have an entry for each output of an
#: axis; along a row the first `paired` have inputs that are neighbours. A task has `block` rows of a plane,
#: or slices of three axes, or planes of one; where channels are together a row.
LINEAR_ARGUMENTS = (
    "x_at", "y_at", "scratch_at", "scratch_bytes", "tasks", "channels",
    "whole", "blocks", "block", "planes", "line_pitch", "paired",
    *(f"{name}_{axis}" for name in ("input", "output") for axis in AXES),
    *(f"{name}_{axis}_at" for name in ("low", "high", "near", "far") for axis in AXES),
)  # fmt: skip
LINEAR_INDEX = {name: i for i, name in enumerate(LINEAR_ARGUMENTS)}


def times(k: Vectors, a: Value, b: Value) -> Value:
    """a * b, rounded."""
    return k.f.emit(a.type, f"fmul {a.type} {a.name}, {b.name}")


def mixed(k: Vectors, low: Value, near: Value, high: Value, far: Value) -> Value:
    """One axis: fma(low, near, high * far)."""
    return fused(k, low, near, times(k, high, far))


def nested(k: Vectors, corners: Sequence[Value], weights: Sequence[tuple[Value, Value]]) -> Value:
    """Axis by axis; the corners of the first axis' `low` come first."""
    if len(corners) == 1:
        return corners[0]
    (near, far), half = weights[0], len(corners) // 2
    low, high = (nested(k, part, weights[1:]) for part in (corners[:half], corners[half:]))
    return mixed(k, low, near, high, far)


def in_vectors(k: Vectors, corners: Sequence[Value], weights: Sequence[Value]) -> Value:
    """All corners in torch's vectors: from the last but one, with the last, then back to the first."""
    *terms, before, last = zip(corners, weights, strict=True)
    total = fused(k, *last, times(k, *before))
    for term in reversed(terms):
        total = fused(k, *term, total)
    return total


def alone(k: Vectors, corners: Sequence[Value], weights: Sequence[Value]) -> Value:
    """All corners of a channel that fills no vector, from the first on."""
    first, second, *terms = zip(corners, weights, strict=True)
    total = fused(k, *first, times(k, *second))
    for term in terms:
        total = fused(k, *term, total)
    return total
