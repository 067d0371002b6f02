"""Cells in runs: those of a dilated axis lie in each other, as far apart as a run is long.

Along the width a vector holds the cells of whole runs, or where those are longer a part of one. An input of
its cells is neighbours of each run with as many others between them, and so is an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from outstride.engine.codegen import elements
from outstride.engine.codegen.box import Box
from outstride.engine.codegen.ir import Function, Operand, Value
from outstride.engine.planner.short_form import loads_of_runs
from outstride.layer.shortening import ShortAxis


def first_input(f: Function, axis: ShortAxis, cell: Operand) -> Operand:
    """Where the inputs of a cell are counted from."""
    return _first(f, axis, axis.in_step, cell)


def output(f: Function, axis: ShortAxis, cell: Operand, member: int) -> Operand:
    """Where an output of a cell lies."""
    return f.add(_first(f, axis, axis.out_step, cell), member * axis.run)


def _first(f: Function, axis: ShortAxis, step: int, cell: Operand) -> Operand:
    if axis.run == 1:
        return f.mul(cell, step)
    return f.add(cell, f.mul(f.div(cell, axis.run), (step - 1) * axis.run))


def of_inputs(f: Function, axes: Sequence[ShortAxis], box: Box) -> Box:
    """The box of the inputs that the cells of a box stand for; of cells without runs it is theirs."""
    start, count = list(box.start), list(box.count)
    for i, axis in enumerate(axes, 1):
        if axis.run > 1:
            start[i] = first_input(f, axis, start[i])
            count[i] = f.add(first_input(f, axis, f.sub(count[i], 1)), 1)
    return Box(tuple(start), tuple(count))


def place(f: Function, axis: ShortAxis, cell: Operand) -> Operand:
    """Where a cell of a box is counted from in what is packed of its inputs."""
    return first_input(f, axis, cell) if axis.run > 1 else cell


@contextmanager
def vectors(f: Function, axis: ShortAxis, cells: Operand, lanes: int) -> Iterator[Operand]:
    """The first cell of every vector of a row; what one holds beyond its cells is in the next."""
    if axis.run > lanes:
        with f.loop(0, cells, axis.run) as start, f.loop(0, axis.run, lanes) as r:
            yield f.add(start, r)
    else:
        with f.loop(0, cells, lanes // axis.run * axis.run) as w:
            yield w


def taken(f: Function, axis: ShortAxis, lanes: int, load: Callable[[int], Value]) -> Value:
    """An input of each cell of a vector: `load` has the vector that begins at a place behind the first."""
    starts = loads_of_runs(axis.run, lanes)
    where = []
    for lane in range(lanes):
        at = axis.first_input(lane)
        part = min(lane // axis.run, len(starts) - 1) if starts[-1] != lanes else at // lanes
        where.append((part, at - starts[part]))
    if len(starts) == 1:
        return load(0)
    found: Value | None = None
    for part, start in enumerate(starts):
        found = elements.pick(f, found, load(start), part, where)
    assert found is not None
    return found


def keep_in_order(
    f: Function, axis: ShortAxis, lanes: int, parts: Sequence[Value], store: Callable[[Value, int], None]
) -> None:  # fmt: skip
    """Store the outputs of a vector of cells, a part for each of a cell's, at places behind the first.

    What is stored beyond them is overwritten by what comes after it.
    """
    runs = lanes // axis.run
    if runs < 2:
        for p, part in enumerate(parts):
            store(part, p * axis.run)
        return
    every = [divmod(i, axis.run) for i in range(runs * len(parts) * axis.run)]
    where = [(block % len(parts), block // len(parts) * axis.run + r) for block, r in every]
    for start in range(0, len(where), lanes):
        of_vector = where[start : start + lanes]
        of_vector += [of_vector[-1]] * (lanes - len(of_vector))
        merged: Value | None = None
        for p in sorted({part for part, _ in of_vector}):
            merged = elements.pick(f, merged, parts[p], p, of_vector)
        assert merged is not None
        store(merged, start)
