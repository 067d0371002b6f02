"""Mean and inverse standard deviation of rows, as torch's batch norm takes them in training, bit for bit.

Torch adds up the elements of a channel in float64 one after the other: a chain that waits for each addition.
Here the lanes of a vector are channels. Squares of vectors of as many rows are transposed in registers, and
each chain goes on as it would alone.

With n elements x the chains are s = sum of x and q = sum of (x - mean)^2, whose terms are computed in
float32. The mean s / n is rounded to float32, and so are q, n and the variance q / n; the inverse of the root
of variance + eps is computed in float64 and rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import Operand, Value, vector_type
from outstride.engine.codegen.packing.transpose import transpose


def statistics(
    k: Vectors, rows: Sequence[Value], count: Operand, eps: Value, room: Value
) -> tuple[Value, Value]:  # fmt: skip
    """Mean and inverse standard deviation of `count` float32 elements from each row on, a lane for each row.

    `room` has space for a square of vectors; `eps` is a double.
    """
    f, lanes = k.f, k.lanes
    wide = vector_type(lanes, "double")
    number = elements.broadcast(f, _from_integer(k, "double", count), lanes)
    total = _chains(k, rows, count, room, None)
    mean = _narrow(k, f.emit(wide, f"fdiv {wide} {total.name}, {number.name}"))
    total = _narrow(k, _chains(k, rows, count, room, mean))
    number = elements.broadcast(f, _from_integer(k, "float", count), lanes)
    variance = _widened(k, f.emit(k.vector, f"fdiv {k.vector} {total.name}, {number.name}"))
    raised = elements.plus(f, variance, elements.broadcast(f, eps, lanes))
    root = f.call(wide, f"llvm.sqrt.v{lanes}f64", raised)
    ones = elements.splat_constant("double", lanes, "1.0")
    return mean, _narrow(k, f.emit(wide, f"fdiv {wide} {ones}, {root.name}"))


def _chains(
    k: Vectors, rows: Sequence[Value], count: Operand, room: Value, mean: Value | None
) -> Value:  # fmt: skip
    """The sums of every row in float64, one after the other: of elements, or of squares about the mean.

    A vector has half as many float64 as float32. So half of the rows are two squares side by side, whose
    columns are the halves of vectors.
    """
    f, e, lanes = k.f, k.e, k.lanes
    half = lanes // 2
    short, wide = vector_type(half, e.accumulator), vector_type(half, "double")
    totals = [f.variable(wide) for _ in range(2)]
    for total in totals:
        f.set(total, Value("zeroinitializer", wide))
    means = [None if mean is None else _part(k, mean, part) for part in range(2)]

    def add(part: int, column: Value) -> None:
        about = means[part]
        if about is not None:
            column = f.emit(short, f"fsub {short} {column.name}, {about.name}")
            column = f.emit(short, f"fmul {short} {column.name}, {column.name}")
        term = f.emit(wide, f"fpext {short} {column.name} to {wide}")
        f.set(totals[part], elements.plus(f, f.get(totals[part], wide), term))

    def columns(read: Callable[[Value], Value]) -> list[tuple[int, int, Value]]:
        """Of each half of the rows the columns, with their numbers."""
        found = []
        for part in range(2):
            pairs = transpose(f, [read(row) for row in rows[part * half :][:half]], lanes)
            found += [
                (part, j + side * half, _part(k, pair, side))
                for side in range(2)
                for j, pair in enumerate(pairs)
            ]
        return sorted(found, key=lambda entry: entry[1])

    whole = f.mul(f.div(count, lanes), lanes)
    with f.loop(0, whole, lanes) as i:
        for part, _, column in columns(lambda row: elements.load(f, e, f.at(row, i, e.storage), lanes)):
            add(part, column)
    rest = f.sub(count, whole)
    with f.when(f.compare("sgt", rest, 0)):
        inside = elements.first_lanes(f, rest, lanes)

        def read(row: Value) -> Value:
            return elements.load_masked(f, e, f.at(row, whole, e.storage), lanes, inside)

        for part, j, column in columns(read):
            f.store(column, f.at(room, j * lanes + part * half, e.storage), e.storage_bytes)
        with f.loop(0, rest) as number:
            for part in range(2):
                there = f.at(room, f.add(f.mul(number, lanes), part * half), e.storage)
                add(part, f.load(short, there, e.storage_bytes))
    low, high = (f.get(total, wide) for total in totals)
    joined = elements.mask(list(range(lanes)))
    return f.emit(
        vector_type(lanes, "double"), f"shufflevector {wide} {low.name}, {wide} {high.name}, {joined}"
    )


def _part(k: Vectors, value: Value, part: int) -> Value:
    """The lower or the upper half of a vector."""
    half = k.lanes // 2
    lanes = elements.mask(list(range(part * half, (part + 1) * half)))
    text = f"shufflevector {value.type} {value.name}, {value.type} poison, {lanes}"
    return k.f.emit(vector_type(half, k.e.accumulator), text)


def _from_integer(k: Vectors, type_: str, count: Operand) -> Value:
    return k.f.emit(type_, f"sitofp i64 {k.f.ref(count)} to {type_}")


def _widened(k: Vectors, value: Value) -> Value:
    type_ = vector_type(k.lanes, "double")
    return k.f.emit(type_, f"fpext {value.type} {value.name} to {type_}")


def _narrow(k: Vectors, value: Value) -> Value:
    return k.f.emit(k.vector, f"fptrunc {value.type} {value.name} to {k.vector}")
