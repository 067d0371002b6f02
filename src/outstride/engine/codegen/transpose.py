"""Squares of vectors transposed in registers."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.ir import Function, Value


def transpose(f: Function, vectors: Sequence[Value], lanes: int) -> list[Value]:
    """Vector j of the result holds lane j of every vector.

    Fewer vectors than lanes, a power of two, are several squares side by side: with n vectors, the
    result's lanes [s * n, (s + 1) * n) are the same lanes of the vectors, transposed.
    Blocks off the diagonal are exchanged, first those of half the square's size, then of a quarter, down to
    single lanes.
    """
    square = list(vectors)
    vector = square[0].type
    half = len(square) // 2
    while half:
        # Lanes of the upper and of the lower vector of a pair, counted through both laid end to end.
        upper = [lane if not lane & half else lanes + lane - half for lane in range(lanes)]
        lower = [lane + half if not lane & half else lanes + lane for lane in range(lanes)]
        for i in range(len(square)):
            if not i & half:
                pair = f"{vector} {square[i].name}, {vector} {square[i + half].name}"
                first = f.emit(vector, f"shufflevector {pair}, {elements.mask(upper)}")
                second = f.emit(vector, f"shufflevector {pair}, {elements.mask(lower)}")
                square[i], square[i + half] = first, second
        half //= 2
    return square
