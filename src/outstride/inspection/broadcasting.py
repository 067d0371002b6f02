"""Broadcasting: several tensors that meet element by element, as in sums, products and concatenations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from outstride.inspection.field import Field, union
from outstride.inspection.lineage import Atom, Dim, Lineage, split
from outstride.models.operators.reach import Reach

Place = tuple[Fraction, Fraction]
"""Stride and centre offset along one axis of the input."""


@dataclass(frozen=True)
class Broadcast:
    """What comes of it, and per input axis the places of the tensors where those differ."""

    result: Lineage
    misaligned: dict[int, tuple[Place, ...]]


def broadcast(lineages: Sequence[Lineage], shape: Sequence[int]) -> Broadcast | None:
    """Let tensors meet that broadcast to ``shape``.

    Returns:
        None where their positions do not match one another: an axis that runs along the width of the input
        meets one that runs along its height, or is cut in another place.
    """
    rank = len(shape)
    rows = [_stretched(lineage, shape) for lineage in lineages]
    dims: list[Dim] = []
    parts: list[list[list[Atom]]] = [[] for _ in rows]
    for dim in range(rank):
        cut = _cut([row.dims[dim] for row in rows], shape[dim])
        if cut is None:
            return None
        for part, atoms in zip(parts, cut, strict=True):
            part.append(atoms)
        labels = [_label(column) for column in zip(*cut, strict=True)]
        if None in labels:
            return None
        dims.append(tuple(label for label in labels if label is not None))
    flat = [[atom for atoms in part for atom in atoms] for part in parts]
    result = Lineage(
        tuple(dims),
        whole=frozenset().union(*(row.whole for row in rows)),
        unknown=frozenset().union(*(row.unknown for row in rows)),
    )
    misaligned: dict[int, tuple[Place, ...]] = {}
    for axis in sorted(frozenset().union(*(row.fields for row in rows))):
        members = [
            (atoms, row.fields[axis]) for atoms, row in zip(flat, rows, strict=True) if axis in row.fields
        ]
        met = _fields(axis, members)
        if met is None:
            return None
        base, steps, fields, size = met
        # A field of stride 0 is one position, seen from everywhere: it lies nowhere in particular.
        places = tuple((field.stride, field.offset) for field in fields if field.stride)
        if len(set(places)) > 1:
            misaligned[axis] = places
        fields.insert(0, fields.pop(base))
        result = _stepped(result.with_field(axis, union(fields, size)), axis, steps)
    return Broadcast(result.with_dims(result.dims), misaligned)


def _stretched(lineage: Lineage, shape: Sequence[int]) -> Lineage:
    missing = len(shape) - len(lineage.dims)
    row = replace(lineage, dims=((),) * missing + lineage.dims)
    stretched = [n for n, size in enumerate(shape) if size != 1 and row.shape[n] == 1 and row.axes_of(n)]
    return row.reduced(stretched)[0] if stretched else row


def _cut(dims: Sequence[Dim], size: int) -> list[list[Atom]] | None:
    """The atoms of one axis of several tensors, cut into pieces of the same sizes."""
    if size == 1:
        first = next((dim for dim in dims if dim), ())
        # A single element has a position all the same; one atom for each axis, whoever knows it.
        return [list(dim) if len(dim) == len(first) else [Atom(1)] * len(first) for dim in dims]
    left = [[atom for atom in dim if atom.size != 1] or [Atom(size)] for dim in dims]
    cut: list[list[Atom]] = [[] for _ in dims]
    while any(left):
        if not all(left):
            return None
        inside = min(row[-1].size for row in left)
        for row, pieces in zip(left, cut, strict=True):
            atom = row.pop()
            if atom.size != inside:
                halves = split(atom, inside)
                if halves is None:
                    return None
                row.append(halves[0])
                atom = halves[1]
            pieces.insert(0, atom)
    return cut


def _label(column: Sequence[Atom]) -> Atom | None:
    """The atom of the result, its step still open; None where two tensors run along different axes here."""
    running = [atom for atom in column if atom.axes]
    if not running:
        return column[0]
    first = running[0]
    same = all((a.axis, a.inner, a.before) == (first.axis, first.inner, first.before) for a in running)
    return first if same else None


def _fields(
    axis: int, members: Sequence[tuple[list[Atom], Field]]
) -> tuple[int, list[int], list[Field], int] | None:
    """Whose coordinate is the finest, its steps, all fields in terms of it, how many positions it has."""
    sizes = [atom.size for atom in members[0][0]]
    forms = [
        [atom.step if atom.axis == axis and atom.size > 1 else 0 for atom in atoms] for atoms, _ in members
    ]
    inner = max(sum(atom.size for atom in atoms if atom.inner) for atoms, _ in members)
    base = max(range(len(forms)), key=lambda n: sum(step != 0 for step in forms[n]))
    steps, fields = forms[base], []
    size = sum(step * (n - 1) for step, n in zip(steps, sizes, strict=True)) + 1 + inner
    for form, (_, field) in zip(forms, members, strict=True):
        times = _coarser(form, steps, sizes)
        if times is None:
            return None
        fields.append(field.through(Reach.repeat(times)) if times > 1 else field)
    return base, steps, fields, size


def _coarser(form: list[int], base: list[int], sizes: list[int]) -> int | None:
    """How many positions of the base lie in one of the form; None where that is no whole number."""
    if form == base:
        return 1
    rows = list(zip(form, base, sizes, strict=True))
    ratios = {b // f if b % f == 0 else 0 for f, b, _ in rows if f}
    times = ratios.pop() if len(ratios) == 1 else 0
    inside = sum(b * (n - 1) for f, b, n in rows if not f)
    return times if times > inside else None


def _stepped(lineage: Lineage, axis: int, steps: list[int]) -> Lineage:
    left = iter(steps)
    dims = []
    for dim in lineage.dims:
        row = [(atom, next(left)) for atom in dim]
        dims.append(tuple(a._replace(step=step or a.step) if a.axis == axis else a for a, step in row))
    return replace(lineage, dims=tuple(dims))
