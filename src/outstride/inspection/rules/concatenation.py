"""Rules for tensors beside each other, along channels, along the image or along a new axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from torch import Tensor

from outstride.inspection.field import Field, Interval
from outstride.inspection.lineage import Lineage, free
from outstride.inspection.rules.visit import Result, RuleTable, Visit, known
from outstride.models.operators.concatenation import Concatenate, Stack
from outstride.models.operators.reach import Reach


def concatenate(visit: Visit, operator: Concatenate) -> Result:
    """Tensors one behind the other, along channels or along the image."""
    dim = operator.axis
    found = [(piece, visit.known(piece)) for piece in operator.tensors]
    lineages = [lineage for _, lineage in found if lineage is not None]
    if any(lineage.axes_of(dim) for lineage in lineages):
        return _behind(visit, found, dim)
    shape = [size if number != dim else 1 for number, size in enumerate(visit.shape)]
    rows = [lineage.put(dim, ()) for lineage in lineages]
    # The positions of a block moved into channels lie beside each other on purpose.
    blocks = len(rows) == len(operator.tensors) and all(map(visit.is_comb, operator.tensors))
    met = visit.broadcast(rows, shape, silent=blocks)
    for axis in met.fields if blocks else ():
        places = [row.fields[axis].centre for row in rows if axis in row.fields]
        middle = sum(places, Fraction(0)) / len(places)
        met = met.with_field(axis, replace(met.fields[axis], centre=middle))
    return met.put(dim, free(visit.shape[dim]))


def _behind(visit: Visit, found: Sequence[tuple[Tensor, Lineage | None]], dim: int) -> Lineage:
    total, first = visit.shape[dim], 0
    rows: list[tuple[int, int, Lineage]] = []
    for piece, lineage in found:
        size = int(piece.shape[dim])
        if lineage is not None and lineage.axes_of(dim):
            rows.append((first, size, lineage))
        first += size
    if len(rows) == 1:
        at, _, lineage = rows[0]
        if lineage.placed(dim) is None:
            return lineage.joined(dim, at, total)
        return known(lineage.through(dim, Reach.slice(-at), total))
    moved = [(at, size, known(row.through(dim, Reach.slice(-at), total))) for at, size, row in rows]
    met = visit.broadcast([row for *_, row in moved], visit.shape, silent=True)
    (axis,) = met.axes_of(dim)
    reads: list[Interval | None] = [None] * total
    for at, size, row in moved:
        reads[at : at + size] = map(row.fields[axis].at, range(at, at + size))
    main = max(moved, key=lambda piece: piece[1])[2].fields[axis]
    return met.with_field(
        axis, Field(total, round(main.stride * total), tuple(reads), main.stride, main.centre)
    )


def stack(visit: Visit, operator: Stack) -> Result:
    """Tensors side by side along a new axis."""
    lineages = [lineage for lineage in map(visit.known, operator.tensors) if lineage is not None]
    shape = [size for number, size in enumerate(visit.shape) if number != operator.axis]
    dims = list((met := visit.broadcast(lineages, shape)).dims)
    dims.insert(operator.axis, free(visit.shape[operator.axis]))
    return met.with_dims(dims)


RULES: RuleTable = {Concatenate: concatenate, Stack: stack}
