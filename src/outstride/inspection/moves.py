"""Rules for what moves elements and computes nothing: views, slices, concatenations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

from torch import Tensor

from outstride.inspection.field import Field, Interval
from outstride.inspection.gather import Gather
from outstride.inspection.lineage import Atom, Dim, Lineage, free, reshaped
from outstride.inspection.steps import NotUnderstoodError, Result, Step, known

TAKEN = "takes positions of the image by a list of indices"


def same(step: Step) -> Result:
    """A copy, or another name for it."""
    return step.source


def constant(step: Step) -> Result:
    """A tensor of the same shape, and nothing else of it."""
    del step
    return None


def parted(step: Step) -> Result:
    """Complex numbers as pairs."""
    return step.source.with_dims((*step.source.dims, free(2)))


def put_together(step: Step) -> Result:
    """Pairs as complex numbers."""
    return step.source.with_dims(step.source.dims[:-1])


def reshape(step: Step) -> Result:
    """view and its kin."""
    return known(reshaped(step.source, step.shape))


def permute(step: Step) -> Result:
    """Axes in another order."""
    rank = len(step.source.dims)
    return step.source.with_dims(step.source.dims[dim % rank] for dim in step.arg(1))


def transpose(step: Step) -> Result:
    """Two axes change places."""
    dims = list(step.source.dims)
    if len(dims) > 1:
        a, b = step.arg(1, 0), step.arg(2, 1)
        dims[a], dims[b] = dims[b], dims[a]
    return step.source.with_dims(dims)


def squeeze(step: Step) -> Result:
    """Axes of one element left out; a position that such an axis has stays with its neighbour."""
    source = step.source
    rank, wanted = len(source.dims), step.arg(1)
    listed = range(rank) if wanted is None else [wanted] if isinstance(wanted, int) else wanted
    gone = {dim % rank for dim in listed if source.shape[dim % rank] == 1}
    return without(source, gone)


def without(source: Lineage, gone: set[int]) -> Lineage:
    """A tensor without some axes of one element."""
    dims: list[Dim] = []
    carried: Dim = ()
    for number, atoms in enumerate(source.dims):
        if number not in gone:
            dims.append((*carried, *atoms))
            carried = ()
        elif dims:
            dims[-1] = (*dims[-1], *atoms)
        else:
            carried = (*carried, *atoms)
    return source.with_dims(dims)


def unsqueeze(step: Step) -> Result:
    """A new axis of one element."""
    dims = list(step.source.dims)
    at = step.arg(1)
    dims.insert(at if at >= 0 else at + len(dims) + 1, ())
    return step.source.with_dims(dims)


def expand(step: Step) -> Result:
    """Axes of one element repeated."""
    return step.met([step.source], step.shape)


def repeat(step: Step) -> Result:
    """The whole tensor repeated."""
    missing = len(step.shape) - len(step.source.dims)
    dims: list[Dim] = []
    for number, (times, size) in enumerate(zip(step.arg(1), step.shape, strict=True)):
        if number < missing:
            dims.append(free(size))
        elif times == 1:
            dims.append(step.source.dims[number - missing])
        elif step.source.axes_of(number - missing):
            raise NotUnderstoodError("the image is repeated side by side")
        else:
            dims.append(free(size))
    return step.source.with_dims(dims)


def bounds(step: Step) -> tuple[int, int, int]:
    """Axis, first element and step of a slice."""
    dim, start, every = step.given("dim", 1, 0), step.given("start", 2), step.given("step", 4, 1)
    shape = tuple(step.call.args[0].shape)
    size = shape[dim % len(shape)]
    first = min(max((start or 0) + (size if (start or 0) < 0 else 0), 0), size)
    return dim % len(shape), first, every


def slicing(step: Step) -> Result:
    """Some positions of one axis."""
    dim, first, every = bounds(step)
    return sliced(step.source, dim, first, every, step.shape[dim])


def sliced(source: Lineage, dim: int, first: int, every: int, size: int) -> Lineage:
    """``size`` elements of one axis from ``first`` on."""
    atoms = source.dims[dim]
    if size == source.shape[dim] and every == 1:
        return source
    if len(atoms) == 1 and atoms[0].inner and every == 1:
        return _cut_out(source, dim, atoms[0], first, size)
    return known(source.moved(dim, Gather.slice(first, every), size))


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


def select(step: Step) -> Result:
    """One element of one axis, which goes away."""
    dim, at = step.arg(1), step.arg(2)
    dim %= len(step.source.dims)
    return _selected(step, dim, at % step.source.shape[dim])


def _selected(step: Step, dim: int, at: int) -> Lineage:
    source = step.source
    if source.dims[dim] and source.dims[dim][0].inner:
        return without(sliced(source, dim, at, 1, 1), {dim})
    found, covered = source.reduced([dim])
    step.sees_all(covered, "takes positions of the image one by one")
    return without(found, {dim})


def splitting(step: Step) -> Result:
    """Neighbouring pieces of one axis."""
    dim = step.arg(2, 0) % len(step.source.dims)
    pieces, first = [], 0
    for output in step.call.outputs:
        pieces.append(sliced(step.source, dim, first, 1, output.shape[dim]))
        first += output.shape[dim]
    return pieces


def unbinding(step: Step) -> Result:
    """Every element of one axis by itself."""
    dim = step.arg(1, 0) % len(step.source.dims)
    return [_selected(step, dim, at) for at in range(len(step.call.outputs))]


def concatenation(step: Step) -> Result:
    """Tensors one behind the other, along channels or along the image."""
    pieces = [piece for piece in step.arg(0) if piece.dim() > 1 or piece.numel()]
    dim = step.arg(1, 0) % len(step.shape)
    found = [(piece, step.known(piece)) for piece in pieces]
    lineages = [lineage for _, lineage in found if lineage is not None]
    if any(lineage.axes_of(dim) for lineage in lineages):
        return _behind(step, found, dim)
    shape = [size if number != dim else 1 for number, size in enumerate(step.shape)]
    rows = [lineage.put(dim, ()) for lineage in lineages]
    # The positions of a block moved into channels lie beside each other on purpose.
    blocks = len(rows) == len(pieces) and all(map(step.comb, pieces))
    met = step.met(rows, shape, silent=blocks)
    for axis in met.fields if blocks else ():
        places = [row.fields[axis].centre for row in rows if axis in row.fields]
        middle = sum(places, Fraction(0)) / len(places)
        met = met.with_field(axis, replace(met.fields[axis], centre=middle))
    return met.put(dim, free(step.shape[dim]))


def _behind(step: Step, found: Sequence[tuple[Any, Lineage | None]], dim: int) -> Lineage:
    total, first = step.shape[dim], 0
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
        return known(lineage.moved(dim, Gather.slice(-at), total))
    moved = [(at, size, known(row.moved(dim, Gather.slice(-at), total))) for at, size, row in rows]
    met = step.met([row for *_, row in moved], step.shape, silent=True)
    (axis,) = met.axes_of(dim)
    reads: list[Interval | None] = [None] * total
    for at, size, row in moved:
        reads[at : at + size] = map(row.fields[axis].at, range(at, at + size))
    main = max(moved, key=lambda piece: piece[1])[2].fields[axis]
    return met.with_field(
        axis, Field(total, round(main.stride * total), tuple(reads), main.stride, main.centre)
    )


def stacking(step: Step) -> Result:
    """Tensors side by side along a new axis."""
    lineages = [lineage for lineage in map(step.known, step.arg(0)) if lineage is not None]
    dim = step.arg(1, 0) % len(step.shape)
    shape = [size for number, size in enumerate(step.shape) if number != dim]
    dims = list((met := step.met(lineages, shape)).dims)
    dims.insert(dim, free(step.shape[dim]))
    return met.with_dims(dims)


def flip(step: Step) -> Result:
    """Axes turned round."""
    lineage = step.source
    for dim in step.arg(1):
        size = lineage.shape[dim % len(lineage.dims)]
        lineage = known(lineage.moved(dim % len(lineage.dims), Gather.slice(size - 1, -1), size))
    return lineage


def roll(step: Step) -> Result:
    """Axes moved on, what leaves on one side coming back on the other."""
    lineage = step.source
    if not step.arg(2):
        raise NotUnderstoodError("a roll of the flattened image")
    for shift, dim in zip(step.arg(1), step.arg(2), strict=True):
        number = dim % len(lineage.dims)
        if lineage.axes_of(number):
            step.wraps("a roll brings the far side of the image to this one")
        lineage = known(lineage.moved(number, Gather.slice(-shift), lineage.shape[number]))
    return lineage


def indexing(step: Step) -> Result:
    """Elements taken by lists of indices."""
    source, lists = step.source, list(step.arg(1))
    if any(isinstance(entry, Tensor) and step.known(entry) is not None for entry in lists):
        raise NotUnderstoodError("indices that are computed from the image")
    taken = [dim for dim, entry in enumerate(lists) if entry is not None]
    found, covered = source.reduced(taken)
    step.sees_all(covered, TAKEN)
    kept = [atoms for dim, atoms in enumerate(found.dims) if dim not in taken]
    new = [free(n) for n in step.shape[taken[0] : taken[0] + len(step.shape) - len(kept)]]
    if taken != list(range(taken[0], taken[-1] + 1)):
        raise NotUnderstoodError("several lists of indices that are not neighbours")
    return found.with_dims((*kept[: taken[0]], *new, *kept[taken[0] :]))


def index_selecting(step: Step) -> Result:
    """Elements of one axis taken by a list of indices."""
    dim = step.arg(1) % len(step.source.dims)
    if step.known(step.arg(2)) is not None:
        raise NotUnderstoodError("indices that are computed from the image")
    if not step.source.axes_of(dim):
        return step.source.put(dim, free(step.shape[dim]))
    found, covered = step.source.reduced([dim])
    step.sees_all(covered, TAKEN)
    return found.put(dim, free(step.shape[dim]))


def turning(step: Step) -> Result:
    """rot90: by a quarter is two axes that change places, one of them turned round."""
    times, (a, b) = step.arg(1, 1) % 4, (dim % len(step.source.dims) for dim in step.arg(2, (0, 1)))
    source = step.source
    for dim in ((), (b,), (a, b), (a,))[times]:
        size = source.shape[dim]
        source = known(source.moved(dim, Gather.slice(size - 1, -1), size))
    dims = list(source.dims)
    if times % 2:
        dims[a], dims[b] = dims[b], dims[a]
    return source.with_dims(dims)


def embedding(step: Step) -> Result:
    """A row of a table for each element."""
    lineage = step.lineage(1)
    if lineage is None:
        raise NotUnderstoodError("a table that is computed from the image")
    return lineage.with_dims((*lineage.dims, free(step.shape[-1])))


VIEWS: dict[str, Callable[[Step], Result]] = {
    "view": reshape,
    "_unsafe_view": reshape,
    "reshape": reshape,
    "_reshape_alias": reshape,
    "permute": permute,
    "transpose": transpose,
    "t": transpose,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": expand,
    "slice": slicing,
    "select": select,
    "split": splitting,
    "split_with_sizes": splitting,
    "unsafe_split": splitting,
    "unsafe_split_with_sizes": splitting,
    "unbind": unbinding,
    "alias": same,
    "detach": same,
}
RULES: dict[str, Callable[[Step], Result]] = {f"aten.{name}": rule for name, rule in VIEWS.items()}
RULES |= {
    f"aten.{name}": same
    for name in (
        "clone",
        "contiguous",
        "_to_copy",
        "lift_fresh",
        "lift_fresh_copy",
        "positive",
        "_conj",
        "conj",
    )
}
RULES |= {
    f"aten.{name}": constant
    for name in (
        *("new_zeros", "new_ones", "new_empty", "new_full", "zeros_like", "ones_like", "empty_like"),
        *("full_like", "rand_like", "randn_like", "new_empty_strided", "sym_size", "randint_like"),
    )
}
RULES |= {
    "aten.view_as_real": parted,
    "aten.view_as_complex": put_together,
    "aten.repeat": repeat,
    "aten.cat": concatenation,
    "aten.stack": stacking,
    "aten.flip": flip,
    "aten.roll": roll,
    "aten.index": indexing,
    "aten.index_select": index_selecting,
    "aten.rot90": turning,
    "aten.embedding": embedding,
}
