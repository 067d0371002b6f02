"""Rules for elements taken by their place."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from torch import Tensor

from outstride.inspection.lineage import Atom, Lineage, free
from outstride.inspection.rules.views import without
from outstride.inspection.rules.visit import NotUnderstoodError, Result, RuleTable, Visit, known
from outstride.models.operators import indexing
from outstride.models.operators.reach import Reach

_BY_LIST = "takes positions of the image by a list of indices"


def slicing(visit: Visit, operator: indexing.Slice) -> Result:
    """Some positions of one axis."""
    first, every = operator.positions.start, operator.positions.step
    return sliced(visit.source, operator.axis, first, every, visit.shape[operator.axis])


def sliced(source: Lineage, dim: int, first: int, every: int, size: int) -> Lineage:
    """``size`` elements of one axis from ``first`` on."""
    atoms = source.dims[dim]
    if size == source.shape[dim] and every == 1:
        return source
    if len(atoms) == 1 and atoms[0].inner and every == 1:
        return _cut_out(source, dim, atoms[0], first, size)
    return known(source.through(dim, Reach.slice(first, every), size))


def _cut_out(source: Lineage, dim: int, joined: Atom, first: int, size: int) -> Lineage:
    inside = prod(atom.size for atom in joined.inner)
    start, end = joined.before, joined.before + inside
    if first == start and size == inside:
        return source.put(dim, joined.inner)
    if first <= start and first + size >= end:
        return source.put(dim, (joined._replace(size=size, before=start - first),))
    if first + size > start and first < end:
        raise NotUnderstoodError("part of a sequence of image positions is taken")
    fields = {axis: field for axis, field in source.fields.items() if axis not in joined.axes}
    return replace(source, fields=fields).put(dim, free(size))


def select(visit: Visit, operator: indexing.Select) -> Result:
    """One element of one axis, which goes away."""
    return _selected(visit, operator.axis, operator.index)


def _selected(visit: Visit, dim: int, at: int) -> Lineage:
    source = visit.source
    if source.dims[dim] and source.dims[dim][0].inner:
        return without(sliced(source, dim, at, 1, 1), {dim})
    found, covered = source.reduced([dim])
    visit.sees_all(covered, "takes positions of the image one by one")
    return without(found, {dim})


def splitting(visit: Visit, operator: indexing.Split) -> Result:
    """Neighbouring pieces of one axis."""
    pieces, first = [], 0
    for output in visit.call.outputs:
        pieces.append(sliced(visit.source, operator.axis, first, 1, output.shape[operator.axis]))
        first += output.shape[operator.axis]
    return pieces


def unbinding(visit: Visit, operator: indexing.Unbind) -> Result:
    """Every element of one axis by itself."""
    return [_selected(visit, operator.axis, at) for at in range(visit.results)]


def flip(visit: Visit, operator: indexing.Flip) -> Result:
    """Axes turned round."""
    lineage = visit.source
    for axis in operator.axes:
        lineage = _flipped(lineage, axis)
    return lineage


def _flipped(source: Lineage, axis: int) -> Lineage:
    size = source.shape[axis]
    return known(source.through(axis, Reach.slice(size - 1, -1), size))


def roll(visit: Visit, operator: indexing.Roll) -> Result:
    """Axes moved on, what leaves on one side coming back on the other."""
    lineage = visit.source
    for axis, shift in operator.shifts:
        if lineage.axes_of(axis):
            visit.wraps("a roll brings the far side of the image to this one")
        lineage = known(lineage.through(axis, Reach.slice(-shift), lineage.shape[axis]))
    return lineage


def flat_roll(visit: Visit, operator: indexing.FlatRoll) -> Result:
    """No rule yet."""
    del operator, visit
    raise NotUnderstoodError("a roll of the flattened image")


def quarter_turns(visit: Visit, operator: indexing.QuarterTurns) -> Result:
    """By a quarter: two axes change places, one of them turned round."""
    a, b = operator.axes
    source = visit.source
    for axis in ((), (b,), (a, b), (a,))[operator.turns]:
        source = _flipped(source, axis)
    dims = list(source.dims)
    if operator.turns % 2:
        dims[a], dims[b] = dims[b], dims[a]
    return source.with_dims(dims)


def indexed(visit: Visit, operator: indexing.Index) -> Result:
    """Elements taken by lists of indices."""
    source = visit.source
    if any(isinstance(entry, Tensor) and visit.known(entry) is not None for entry in operator.lists):
        raise NotUnderstoodError("indices that are computed from the image")
    taken = [dim for dim, entry in enumerate(operator.lists) if entry is not None]
    found, covered = source.reduced(taken)
    visit.sees_all(covered, _BY_LIST)
    kept = [atoms for dim, atoms in enumerate(found.dims) if dim not in taken]
    new = [free(n) for n in visit.shape[taken[0] : taken[0] + len(visit.shape) - len(kept)]]
    if taken != list(range(taken[0], taken[-1] + 1)):
        raise NotUnderstoodError("several lists of indices that are not neighbours")
    return found.with_dims((*kept[: taken[0]], *new, *kept[taken[0] :]))


def index_select(visit: Visit, operator: indexing.IndexSelect) -> Result:
    """Elements of one axis taken by a list of indices."""
    if visit.lineage(operator.positions) is not None:
        raise NotUnderstoodError("indices that are computed from the image")
    if not visit.source.axes_of(operator.axis):
        return visit.source.put(operator.axis, free(visit.shape[operator.axis]))
    found, covered = visit.source.reduced([operator.axis])
    visit.sees_all(covered, _BY_LIST)
    return found.put(operator.axis, free(visit.shape[operator.axis]))


def embedding(visit: Visit, operator: indexing.Embedding) -> Result:
    """A row of a table for each element."""
    lineage = visit.lineage(operator.indices)
    if lineage is None:
        raise NotUnderstoodError("a table that is computed from the image")
    return lineage.with_dims((*lineage.dims, free(visit.shape[-1])))


RULES: RuleTable = {
    indexing.Slice: slicing,
    indexing.Select: select,
    indexing.Split: splitting,
    indexing.Unbind: unbinding,
    indexing.Flip: flip,
    indexing.Roll: roll,
    indexing.FlatRoll: flat_roll,
    indexing.QuarterTurns: quarter_turns,
    indexing.Index: indexed,
    indexing.IndexSelect: index_select,
    indexing.Embedding: embedding,
}
