"""Register tiles in code: their sums, the vectors that they read, and the way between sums and memory."""

from __future__ import annotations

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import broadcast, zero
from outstride.engine.codegen.ir import Value

#: The sums of a tile: a variable for each vector of each row.
Sums = list[list[Value]]


def fused(k: Vectors, a: Value, b: Value, c: Value) -> Value:
    """fma(a, b, c), rounded once."""
    return k.f.call(c.type, f"llvm.fma.{'v' + str(k.lanes) if k.lanes > 1 else ''}{k.e.mangled}", a, b, c)


def zero_sums(k: Vectors, rows: int, vectors: int) -> Sums:
    """Variables for the sums of a tile, all +0."""
    start = zero(k.e, k.lanes)
    return [[k.f.variable(start.type, start) for _ in range(vectors)] for _ in range(rows)]


def vectors_at(k: Vectors, count: int, pointer: Value) -> list[Value]:
    """`count` neighbouring vectors."""
    f, e = k.f, k.e
    places = (f.at(pointer, j * k.lanes, e.accumulator) for j in range(count))
    return [f.load(k.vector, place, e.accumulator_bytes) for place in places]


def read_row(k: Vectors, start: Value, row: list[Value]) -> None:
    """Set a row of sums to what memory holds."""
    f, e = k.f, k.e
    for j, total in enumerate(row):
        f.set(total, f.load(k.vector, f.at(start, j * k.lanes, e.accumulator), e.accumulator_bytes))


def write_row(k: Vectors, start: Value, row: list[Value]) -> None:
    """Write a row of sums to memory."""
    f, e = k.f, k.e
    for j, total in enumerate(row):
        pointer = f.at(start, j * k.lanes, e.accumulator)
        f.store(f.get(total, k.vector), pointer, e.accumulator_bytes)


def add_products(k: Vectors, row: list[Value], scalar_at: Value, vectors: list[Value]) -> None:
    """row[j] = fma(scalar, vectors[j], row[j]) with a scalar from memory, broadcast to all lanes."""
    f, e = k.f, k.e
    scalars = broadcast(f, f.load(e.accumulator, scalar_at, e.accumulator_bytes), k.lanes)
    for total, vector in zip(row, vectors, strict=True):
        f.set(total, fused(k, scalars, vector, f.get(total, k.vector)))
