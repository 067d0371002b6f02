"""Squares of vectors transposed in registers."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.ir import Function, Value


def transpose(f: Function, vectors: Sequence[Value], lanes: int) -> list[Value]:
    """Vector j of the result holds lane j of every given vector.

    Fewer vectors than lanes, a power of two, are several squares side by side: with n vectors, the
    result's lanes [s * n, (s + 1) * n) are those of the given lanes in the same place, transposed.
    Blocks off the diagonal are exchanged, first those of half the square's size, then of a quarter, down to
    single lanes.
    """
    square = list(vectors)
    kind = square[0].type
    block = len(square) // 2
    while block:
        # Lanes of the upper and of the lower vector of a pair, counted through both laid end to end.
        upper = [lane if not lane & block else lanes + lane - block for lane in range(lanes)]
        lower = [lane + block if not lane & block else lanes + lane for lane in range(lanes)]
        for i in range(len(square)):
            if not i & block:
                pair = f"{kind} {square[i].name}, {kind} {square[i + block].name}"
                first = f.emit(kind, f"shufflevector {pair}, {elements.mask(upper)}")
                second = f.emit(kind, f"shufflevector {pair}, {elements.mask(lower)}")
                square[i], square[i + block] = first, second
        block //= 2
    return square
