"""Phases of a row interleaved in registers: from a vector of each phase to neighbouring outputs."""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.ir import Function, Value


def interleave(f: Function, parts: list[Value], lanes: int) -> list[Value]:
    """The vectors of a row of len(parts) phases: lane l of vector j is element q of phase r, where
    j * lanes + l = q * len(parts) + r.

    Of an even number the even phases and the odd ones are interleaved first: log2(n) shuffles a vector.
    """
    step = len(parts)
    if 1 in (step, lanes):  # a row of one element of each phase is what they are
        return parts
    if step % 2 == 0:
        pairs = zip(*(interleave(f, parts[i::2], lanes) for i in range(2)), strict=True)
        return [_merge(f, list(pair), lanes, j) for pair in pairs for j in range(2)]
    return [_merge(f, parts, lanes, j) for j in range(step)]


def _merge(f: Function, parts: list[Value], lanes: int, j: int) -> Value:
    """Vector j of the interleaved row."""
    where = [divmod(j * lanes + lane, len(parts))[::-1] for lane in range(lanes)]
    merged: Value | None = None
    for p in sorted({phase for phase, _ in where}):
        merged = elements.pick(f, merged, parts[p], p, where)
    assert merged is not None
    return merged
