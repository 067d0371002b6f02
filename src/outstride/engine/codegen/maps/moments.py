"""Mean and variance of neighbours as torch takes them by rows, bit for bit: Welford's sums in vectors.

A chunk is some steps of `WIDTH` chains from +0: with step j's x, d = x - mean, mean = fma(1 / j, d, mean)
and squares = fma(d, x - mean, squares). Chunks are joined as a binary counter counts: the first level takes
each of them, and of every two joins one goes up. Then all levels are joined, and at last the chains, one
after the other behind what fills no vector. Vectors of chains are joined with other roundings than single
ones.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import I64, Operand, Value
from outstride.engine.codegen.packing.transpose import transpose
from outstride.engine.codegen.registers import fused

#: Chains side by side, which are the lanes of torch's vectors, steps of a chunk and levels of the counter.
WIDTH, STEPS, LEVELS = 8, 16, 40
#: Chunks that are computed at the same time: none waits for another.
_TOGETHER = 4
#: Bytes of the counter: of each level how many steps it has, the means and the squares.
ROOM_BYTES = LEVELS * (8 + 2 * 4 * WIDTH)


def levels_of(count: int) -> int:
    """The levels that so many elements take."""
    chunks = -(-(count // WIDTH) // STEPS)
    return 1 if chunks <= 2 else (chunks - 1).bit_length()


def row_moments(
    k: Vectors, source: Value, count: Operand, levels: Operand, room: Value
) -> tuple[Value, Value]:  # fmt: skip
    """The mean and the variance of float32 elements; `room` has `ROOM_BYTES`."""
    f = k.f
    vectors = Vectors(f, k.e, WIDTH)
    counter = _Counter(vectors, room, levels)
    counter.clear(0, levels)
    steps = f.div(count, WIDTH)
    chunks = f.div(steps, STEPS)
    many = f.mul(f.div(chunks, _TOGETHER), _TOGETHER)
    for together, begin, end in ((_TOGETHER, 0, many), (1, many, chunks)):
        with f.loop(begin, end, together) as chunk:
            starts = [
                f.at(source, f.mul(f.add(chunk, c), STEPS * WIDTH), k.e.storage) for c in range(together)
            ]
            for c, (mean, squares) in enumerate(_chunks(vectors, starts)):
                counter.take(f.add(chunk, c), STEPS, mean, squares)
    whole = f.mul(chunks, STEPS)
    rest = f.sub(steps, whole)
    with f.when(f.compare("sgt", rest, 0)):
        start = f.at(source, f.mul(whole, WIDTH), k.e.storage)
        counter.take(chunks, rest, *_part_of_chunk(vectors, start, rest))
    with f.loop(1, levels) as level:
        counter.join(level, 0)
    _, means, squares = counter.read(0)
    mean, total = _alone(k, source, f.mul(steps, WIDTH), count, steps, means, squares)
    return mean, f.emit("float", f"fdiv float {total.name}, {_number(k, count).name}")


def moments_of_rows(
    k: Vectors, rows: Sequence[Value], count: Operand, levels: Operand, room: Value, pitch: Operand
) -> tuple[Value, Value]:  # fmt: skip
    """The mean and the variance of `WIDTH` rows of elements, a lane for each row.

    Squares of vectors are transposed, so that the vectors are chains of all rows. `room` has `pitch`
    bytes, `ROOM_BYTES`, for each chain, and a square.
    """
    f, e = k.f, k.e
    counters = [_Counter(k, f.at(room, f.mul(pitch, chain), "i8"), levels) for chain in range(WIDTH)]
    for counter in counters:
        counter.clear(0, levels)
    chains = [(f.variable(k.vector), f.variable(k.vector)) for _ in range(WIDTH)]
    steps = f.div(count, WIDTH)
    with f.loop(0, f.ceil_div(steps, STEPS)) as chunk:
        for variable in (variable for chain in chains for variable in chain):
            f.set(variable, elements.zero(e, WIDTH))
        first = f.mul(chunk, STEPS)
        own = f.minimum(STEPS, f.sub(steps, first))
        with f.loop(0, own) as step:
            share = f.emit("float", f"fdiv float 1.0, {_number(k, f.add(step, 1)).name}")
            begin = f.mul(f.add(first, step), WIDTH)
            square = [elements.load(f, e, f.at(row, begin, e.storage), WIDTH) for row in rows]
            for x, chain in zip(transpose(f, square, WIDTH), chains, strict=True):
                before = [f.get(variable, k.vector) for variable in chain]
                made = _step(k, x, elements.broadcast(f, share, WIDTH), *before)
                for variable, value in zip(chain, made, strict=True):
                    f.set(variable, value)
        for counter, chain in zip(counters, chains, strict=True):
            counter.take(chunk, own, *(f.get(variable, k.vector) for variable in chain))
    with f.loop(1, levels) as level:
        for counter in counters:
            counter.join(level, 0)
    begin = f.mul(steps, WIDTH)
    rest = f.sub(count, begin)
    mean, total = (f.variable(k.vector) for _ in range(2))
    for variable in (mean, total):
        f.set(variable, elements.zero(e, WIDTH))
    columns = f.at(room, f.mul(pitch, WIDTH), "i8")
    with f.when(f.compare("sgt", rest, 0)):
        inside = elements.first_lanes(f, rest, WIDTH)
        square = [elements.load_masked(f, e, f.at(row, begin, e.storage), WIDTH, inside) for row in rows]
        for lane, column in enumerate(transpose(f, square, WIDTH)):
            f.store(column, f.at(columns, lane * WIDTH, e.storage), e.storage_bytes)
        with f.loop(0, rest) as number:
            x = f.load(k.vector, f.at(columns, f.mul(number, WIDTH), e.storage), e.storage_bytes)
            _take_alone(k, x, f.add(number, 1), mean, total)
    found = [counter.read(0)[1:] for counter in counters]
    m, s = _join_alone(k, found, rest, steps, (f.get(mean, k.vector), f.get(total, k.vector)))
    divisor = elements.broadcast(f, _number(k, count), WIDTH)
    return m, f.emit(k.vector, f"fdiv {k.vector} {s.name}, {divisor.name}")


def _chunks(k: Vectors, starts: Sequence[Value]) -> list[tuple[Value, Value]]:
    """Means and squares of whole chunks."""
    f, e = k.f, k.e
    zero = elements.zero(e, WIDTH)
    found = [(zero, zero) for _ in starts]
    for step in range(STEPS):
        share = Value(elements.splat_constant("float", WIDTH, _constant(1 / (step + 1))), k.vector)
        for i, start in enumerate(starts):
            x = elements.load(f, e, f.at(start, step * WIDTH, e.storage), WIDTH)
            found[i] = _step(k, x, share, *found[i])
    return found


def _part_of_chunk(k: Vectors, start: Value, steps: Operand) -> tuple[Value, Value]:
    f, e = k.f, k.e
    mean, squares = (f.variable(k.vector) for _ in range(2))
    for variable in (mean, squares):
        f.set(variable, elements.zero(e, WIDTH))
    with f.loop(0, steps) as step:
        share = f.emit("float", f"fdiv float 1.0, {_number(k, f.add(step, 1)).name}")
        x = elements.load(f, e, f.at(start, f.mul(step, WIDTH), e.storage), WIDTH)
        made = _step(
            k, x, elements.broadcast(f, share, WIDTH), f.get(mean, k.vector), f.get(squares, k.vector)
        )
        for variable, value in zip((mean, squares), made, strict=True):
            f.set(variable, value)
    return f.get(mean, k.vector), f.get(squares, k.vector)


def _step(k: Vectors, x: Value, share: Value, mean: Value, squares: Value) -> tuple[Value, Value]:
    before = _minus(k, x, mean)
    mean = fused(k, share, before, mean)
    return mean, fused(k, before, _minus(k, x, mean), squares)


@dataclass(frozen=True)
class _Counter:
    """The levels in memory: how many steps each has, its means and squares."""

    k: Vectors
    room: Value
    levels: Operand

    def _places(self, level: Operand) -> tuple[Value, Value, Value]:
        f = self.k.f
        vectors = f.at(self.room, LEVELS, I64)
        mean = f.at(vectors, f.mul(level, 2 * WIDTH), "float")
        return f.at(self.room, level, I64), mean, f.at(mean, WIDTH, "float")

    def read(self, level: Operand) -> tuple[Value, Value, Value]:
        """What a level has."""
        f, vector = self.k.f, self.k.vector
        steps, mean, squares = self._places(level)
        return f.load(I64, steps, 8), f.load(vector, mean, 4), f.load(vector, squares, 4)

    def _write(self, level: Operand, steps: Operand, mean: Value, squares: Value) -> None:
        f, places = self.k.f, self._places(level)
        f.store(f.i64(steps), places[0], 8)
        f.store(mean, places[1], 4)
        f.store(squares, places[2], 4)

    def clear(self, first: Operand, stop: Operand) -> None:
        """Empty levels."""
        zero = elements.zero(self.k.e, WIDTH)
        with self.k.f.loop(first, stop) as level:
            self._write(level, 0, zero, zero)

    def take(self, number: Operand, steps: Operand, mean: Value, squares: Value) -> None:
        """Join a chunk to the first level; as often as its number plus one can be halved, go on upwards."""
        f = self.k.f
        self._add(steps, mean, squares, 0)
        halvings = f.call(I64, "llvm.cttz.i64", f.i64(f.add(number, 1)), "i1 false")
        with f.loop(1, f.minimum(self.levels, f.add(halvings, 1))) as level:
            below = f.sub(level, 1)
            self.join(below, level)
            zero = elements.zero(self.k.e, WIDTH)
            self._write(below, 0, zero, zero)

    def join(self, level: Operand, other: Operand) -> None:
        """Add what a level has to another one."""
        self._add(*self.read(level), other)

    def _add(self, steps: Operand, mean: Value, squares: Value, level: Operand) -> None:
        k, f = self.k, self.k.f
        there, old_mean, old_squares = self.read(level)
        total = f.add(there, steps)
        share = elements.broadcast(f, _share(k, steps, total), WIDTH)
        apart = _minus(k, mean, old_mean)
        moved = _times(k, share, apart)
        weighed = _times(k, apart, elements.broadcast(f, _number(k, there), WIDTH))
        together = elements.plus(f, old_squares, squares)
        self._write(level, total, elements.plus(f, old_mean, moved), fused(k, weighed, moved, together))


def _alone(
    k: Vectors, source: Value, begin: Operand, count: Operand, steps: Operand, means: Value, squares: Value
) -> tuple[Value, Value]:  # fmt: skip
    """The mean and the sum of squares of what fills no vector, and behind it of every chain."""
    f, one = k.f, Vectors(k.f, k.e, 1)
    mean, total = (f.variable("float") for _ in range(2))
    for variable in (mean, total):
        f.set(variable, Value("0.0", "float"))
    with f.loop(begin, count) as place:
        x = elements.load(f, k.e, f.at(source, place, k.e.storage), 1)
        _take_alone(one, x, f.add(f.sub(place, begin), 1), mean, total)
    lanes = [
        tuple(f.emit("float", f"extractelement {v.type} {v.name}, i32 {lane}") for v in (means, squares))
        for lane in range(WIDTH)
    ]
    first = f.get(mean, "float"), f.get(total, "float")
    return _join_alone(one, lanes, f.sub(count, begin), steps, first)


def _take_alone(k: Vectors, x: Value, number: Operand, mean: Value, total: Value) -> None:
    """Take an element, the so manyth, to a mean and a sum of squares in variables: nothing is fused."""
    f, old = k.f, k.f.get(mean, x.type)
    before = _minus(k, x, old)
    divisor = elements.broadcast(f, _number(k, number), k.lanes)
    new = elements.plus(f, old, f.emit(x.type, f"fdiv {x.type} {before.name}, {divisor.name}"))
    f.set(mean, new)
    f.set(total, elements.plus(f, f.get(total, x.type), _times(k, before, _minus(k, x, new))))


def _join_alone(
    k: Vectors, chains: Sequence[Sequence[Value]], there: Operand, steps: Operand, first: tuple[Value, Value]
) -> tuple[Value, Value]:  # fmt: skip
    """Join chains of so many steps, one after the other, to what there is of so many elements."""
    f, (mean, total) = k.f, first
    for own_mean, own_squares in chains:
        following = f.add(there, steps)
        share = elements.broadcast(f, _share(k, steps, following), k.lanes)
        apart = _minus(k, own_mean, mean)
        mean = fused(k, share, apart, mean)
        weighed = _times(k, _times(k, apart, apart), share)
        number = elements.broadcast(f, _number(k, there), k.lanes)
        total = elements.plus(f, total, fused(k, weighed, number, own_squares))
        there = following
    return mean, total


def _share(k: Vectors, part: Operand, whole: Operand) -> Value:
    """part / whole, and 0 of nothing."""
    f = k.f
    quotient = f.emit("float", f"fdiv float {_number(k, part).name}, {_number(k, whole).name}")
    return f.select(f.compare("eq", whole, 0), Value("0.0", "float"), quotient)


def _number(k: Vectors, count: Operand) -> Value:
    return k.f.emit("float", f"sitofp i64 {k.f.ref(count)} to float")


def _minus(k: Vectors, a: Value, b: Value) -> Value:
    return k.f.emit(a.type, f"fsub {a.type} {a.name}, {b.name}")


def _times(k: Vectors, a: Value, b: Value) -> Value:
    return k.f.emit(a.type, f"fmul {a.type} {a.name}, {b.name}")


def _constant(number: float) -> str:
    """A float32 as LLVM writes it: as the double of the same value."""
    (rounded,) = struct.unpack("f", struct.pack("f", number))
    return f"0x{struct.pack('>d', rounded).hex().upper()}"
