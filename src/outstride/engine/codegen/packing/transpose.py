"""Squares of vectors, loaded and transposed in registers."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Function, Operand, Value


def load_rows(
    k: Vectors, first: Value, pitch: Operand, rows: tuple[int, Operand], count: Operand,
    ahead: Operand, *, masks: bool,
) -> list[Value]:  # fmt: skip
    """Rows of a square: (so many, of which so many exist), `pitch` elements apart; what is absent is zeros.

    Of each row `count` lanes are there. What lies so many elements `ahead` is asked for: the next square's.
    Without `masks` of the instruction set a masked load is a test and a branch for each lane: squares of
    which all is there do without.
    """
    f, e, (side, exist) = k.f, k.e, rows
    held = [f.variable(k.vector, elements.zero(e, k.lanes)) for _ in range(side)]
    inside = elements.lanes_within(f, 0, count, k.lanes)
    whole = f.compare("sge", exist, side)
    if not masks:
        whole = f.both(whole, f.compare("sge", count, k.lanes))
    with f.when(whole):
        place = first
        for number, vector in enumerate(held):
            place = f.at(place, pitch, e.storage) if number else first
            f.prefetch(f.at(place, ahead, e.storage))
            if masks:
                f.set(vector, elements.load_masked(f, e, place, k.lanes, inside))
            else:
                f.set(vector, elements.load(f, e, place, k.lanes))
    with f.when(f.negate(whole)):
        for number, vector in enumerate(held):
            f.set(vector, elements.zero(e, k.lanes))
            with f.when(f.compare("slt", number, exist)):
                place = f.at(first, f.mul(pitch, number), e.storage)
                f.set(vector, elements.load_masked(f, e, place, k.lanes, inside))
    return [f.get(vector, k.vector) for vector in held]


def transpose(f: Function, vectors: Sequence[Value], lanes: int) -> list[Value]:
    """Vector j of the result holds lane j of every vector.

    Fewer vectors than lanes, a power of two, are several squares side by side: with n vectors, the
    result's lanes [s * n, (s + 1) * n) are the same lanes of the vectors, transposed.
    Blocks off the diagonal are exchanged, first those of half the square's size, then of a quarter, down to
    single lanes; or two such sizes at once, where shuffles that processors do at the highest rate have the
    same result: of quarters of a vector of sixteen, and of four lanes, which are 128 bits of float32.
    """
    square = list(vectors)
    half = len(square) // 2
    while half:
        if 2 * half == len(square) == lanes == 16:
            square, half = _quarters(f, square), half // 4
        elif half == 2 and square[0].type.endswith("float>"):
            square, half = _fours(f, square, lanes), 0
        else:
            # Lanes of the upper and of the lower vector of a pair, counted through both laid end to end.
            upper = [lane if not lane & half else lanes + lane - half for lane in range(lanes)]
            lower = [lane + half if not lane & half else lanes + lane for lane in range(lanes)]
            for i in range(len(square)):
                if not i & half:
                    a, b = square[i], square[i + half]
                    square[i], square[i + half] = _shuffled(f, a, b, upper), _shuffled(f, a, b, lower)
            half //= 2
    return square


def _shuffled(f: Function, a: Value, b: Value, lanes: list[int]) -> Value:
    """Lanes of two vectors, counted through both laid end to end."""
    return f.emit(
        a.type, f"shufflevector {a.type} {a.name}, {a.type} {b.name}, {elements.mask(lanes)}"
    )  # fmt: skip


def _quarters(f: Function, square: list[Value]) -> list[Value]:
    """Blocks of eight and of four lanes exchanged, by shuffles of whole quarters."""
    made = list(square)
    for i in range(4):
        a, b, c, d = (square[i + 4 * j] for j in range(4))
        for j, half in enumerate(([0, 1, 4, 5], [2, 3, 6, 7])):
            ab, cd = _shuffled(f, a, b, _of_quarters(half)), _shuffled(f, c, d, _of_quarters(half))
            made[i + 8 * j] = _shuffled(f, ab, cd, _of_quarters([0, 2, 4, 6]))
            made[i + 8 * j + 4] = _shuffled(f, ab, cd, _of_quarters([1, 3, 5, 7]))
    return made


def _of_quarters(quarters: list[int]) -> list[int]:
    return [4 * quarter + lane for quarter in quarters for lane in range(4)]


def _fours(f: Function, square: list[Value], lanes: int) -> list[Value]:
    """Blocks of four lanes transposed: pairs of lanes interleaved, then pairs of pairs."""
    made = list[Value]()
    starts = range(0, lanes, 4)
    low = [at for s in starts for at in (s, lanes + s, s + 1, lanes + s + 1)]
    high = [at + 2 for at in low]
    first = [at for s in starts for at in (s, s + 1, lanes + s, lanes + s + 1)]
    second = [at + 2 for at in first]
    for i in range(0, len(square), 4):
        a, b, c, d = square[i : i + 4]
        for pairs in (low, high):
            ab, cd = _shuffled(f, a, b, pairs), _shuffled(f, c, d, pairs)
            made += [_shuffled(f, ab, cd, first), _shuffled(f, ab, cd, second)]
    return made
