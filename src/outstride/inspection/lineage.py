"""Where each element of a tensor comes from: which of its axes run along which axis of the input, and how.

A tensor's axis is a row of *atoms*, outermost first, like the digits of a number. An atom may run along an
axis of the input: its digit then adds ``step`` times itself to a coordinate, and a ``Field`` says what each
coordinate reads. So reshaping, flattening, windows of attention and pixel shuffling are moves of atoms, and
convolutions, pooling and resizing are changes of fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import gcd, prod
from typing import NamedTuple

from outstride.inspection.field import Field
from outstride.models.operators.reach import Reach


class Atom(NamedTuple):
    """One digit of a tensor's axis: along input axis ``axis``, or along none.

    A joined atom holds others in ``inner``, with ``before`` elements of another kind in front of them and
    perhaps some behind: a sequence of image tokens with a class token. Nothing can be said of the positions
    until the others are cut off again.
    """

    size: int
    axis: int | None = None
    step: int = 0
    inner: tuple[Atom, ...] = ()
    before: int = 0

    @property
    def axes(self) -> frozenset[int]:
        """The input axes that it runs along, those of the joined atoms included."""
        own = frozenset() if self.axis is None else frozenset({self.axis})
        return own.union(*(atom.axes for atom in self.inner))


Dim = tuple[Atom, ...]


@dataclass(frozen=True)
class Lineage:
    """Where the elements of one tensor come from.

    ``fields`` holds what is read along each axis of the input that the tensor still runs along, ``whole`` the
    axes of which every element reads everything, and ``unknown`` the operations that nothing is known of.
    """

    dims: tuple[Dim, ...]
    fields: Mapping[int, Field] = field(default_factory=dict)
    whole: frozenset[int] = frozenset()
    unknown: frozenset[str] = frozenset()

    @classmethod
    def start(cls, shape: Sequence[int], axes: Sequence[int]) -> Lineage:
        """The input, of which the given axes are spatial, in that order."""
        numbers = {dim: number for number, dim in enumerate(axes)}
        dims = tuple(
            (Atom(size, numbers[dim], 1),) if dim in numbers else free(size) for dim, size in enumerate(shape)
        )
        return cls(dims, {number: Field.start() for number in numbers.values()})

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the tensor."""
        return tuple(prod(atom.size for atom in dim) for dim in self.dims)

    def atoms(self) -> list[Atom]:
        """All atoms, outermost first."""
        return [atom for dim in self.dims for atom in dim]

    def axes_of(self, dim: int) -> frozenset[int]:
        """The axes of the input along which one axis of the tensor runs."""
        return frozenset().union(*(atom.axes for atom in self.dims[dim]))

    def with_dims(self, dims: Iterable[Dim]) -> Lineage:
        """The same elements in other axes."""
        return replace(self, dims=tuple(map(merged, dims)))

    def put(self, dim: int, atoms: Dim) -> Lineage:
        """The same with one axis replaced."""
        return self.with_dims((*self.dims[:dim], atoms, *self.dims[dim + 1 :]))

    def placed(self, dim: int) -> tuple[int, Lineage] | None:
        """The input axis that this one runs along, it alone and one position a step; None where it does not.

        An axis that is made of positions with free elements inside them, as after a pixel shuffle, counts:
        each position then fills several.
        """
        atoms = self.dims[dim]
        if not atoms or atoms[0].axis is None or any(atom.axis is not None for atom in atoms[1:]):
            return None
        if any(atom.inner for atom in atoms):
            return None
        axis = atoms[0].axis
        if sum(atom.axis == axis for atom in self.atoms()) > 1:
            return None
        inside = prod(atom.size for atom in atoms[1:])
        found = self
        if inside > 1:
            found = found.with_field(axis, self.fields[axis].through(Reach.repeat(inside)))
        return axis, found.put(dim, (Atom(atoms[0].size * inside, axis, 1),))

    def settled(self) -> Lineage:
        """The same with every axis that runs along the image, it alone, in its own positions."""
        result = self
        for dim in range(len(self.dims)):
            found = result.placed(dim)
            result = result if found is None else found[1]
        return result

    def with_field(self, axis: int, field: Field) -> Lineage:
        """The same with another field along one axis of the input."""
        return replace(self, fields={**self.fields, axis: field})

    def through(self, dim: int, reach: Reach, size: int) -> Lineage | None:
        """One axis passed through a reach, to ``size`` positions; None where its positions are not known."""
        if not self.axes_of(dim):
            return self.put(dim, free(size))
        found = self.placed(dim)
        if found is None:
            return None
        axis, lineage = found
        moved = lineage.with_field(axis, lineage.fields[axis].through(reach))
        return moved.put(dim, (Atom(size, axis, 1),))

    def reduced(self, dims: Iterable[int]) -> tuple[Lineage, frozenset[int]]:
        """Each of these axes summed up to one element, and the input axes that are read wholly by that."""
        gone = set(dims)
        result = self.with_dims(() if n in gone else atoms for n, atoms in enumerate(self.dims))
        left = frozenset().union(*(atom.axes for atom in result.atoms()))
        touched = frozenset().union(*(self.axes_of(dim) for dim in gone))
        covered = touched - left | {axis for axis in touched & left if self._outermost(axis) in gone}
        for atom in [atom for dim in gone for atom in self.dims[dim]]:
            if atom.axis in left - covered:
                result = result.spanning(atom)
        fields = {axis: found for axis, found in result.fields.items() if axis not in covered}
        result = replace(result, fields=fields, whole=self.whole | covered).freed(covered)
        for axis in touched - covered:
            result = result.coarsened(axis)
        return result, covered

    def joined(self, dim: int, before: int, size: int) -> Lineage:
        """One axis with elements of another kind put before and behind its positions."""
        atoms = self.dims[dim]
        if len(atoms) == 1 and atoms[0].inner:
            return self.put(dim, (atoms[0]._replace(size=size, before=atoms[0].before + before),))
        return self.put(dim, (Atom(size, inner=atoms, before=before),))

    def _outermost(self, axis: int) -> int:
        """The axis of the tensor that holds the widest steps along one axis of the input.

        To sum over it is to see the image from end to end, though perhaps not every position of it.
        """
        steps = [
            (
                max(step for step in (atom.step for atom in atoms if atom.axis == axis and atom.size > 1)),
                number,
            )
            for number, atoms in enumerate(self.dims)
            if any(atom.axis == axis and atom.size > 1 for atom in atoms)
        ]
        return max(steps, default=(0, -1))[1]

    def freed(self, axes: frozenset[int]) -> Lineage:
        """Without positions along some axes of the input, of which everything is read."""
        if not any(atom.axes & axes for atom in self.atoms()):
            return self
        return self.with_dims(
            tuple(Atom(atom.size) if atom.axes & axes else atom for atom in dim) for dim in self.dims
        )

    def spanning(self, atom: Atom) -> Lineage:
        """Each coordinate reading for all digits of one atom, which is about to be summed."""
        if atom.axis is None or atom.size == 1:
            return self
        taps = tuple(atom.step * digit for digit in range(atom.size))
        return self.with_field(atom.axis, self.fields[atom.axis].through(Reach.window(1, taps)))

    def coarsened(self, axis: int) -> Lineage:
        """Coordinates divided by their common step, once the digits inside them are gone."""
        common = gcd(*(atom.step for atom in self.atoms() if atom.axis == axis and atom.size > 1))
        if common <= 1:
            return self
        dims = [
            tuple(a._replace(step=a.step // common) if a.axis == axis else a for a in dim)
            for dim in self.dims
        ]
        field = self.fields[axis].through(Reach.slice(0, common))
        return replace(self.with_field(axis, field), dims=tuple(dims))


def free(size: int) -> Dim:
    """An axis along which nothing of the input runs."""
    return (Atom(size),) if size != 1 else ()


def merged(dim: Dim) -> Dim:
    """Neighbouring atoms that are one written as one."""
    result: list[Atom] = []
    for atom in dim:
        if atom.size == 1 and not atom.axes:
            continue
        last = result[-1] if result else None
        if last is not None and not atom.axes and not last.axes:
            result[-1] = Atom(last.size * atom.size)
        elif last is not None and _continues(last, atom):
            result[-1] = atom._replace(size=last.size * atom.size)
        else:
            result.append(atom)
    return tuple(result)


def _continues(outer: Atom, inner: Atom) -> bool:
    if outer.inner or inner.inner or outer.axis is None or outer.axis != inner.axis:
        return False
    return outer.step == inner.step * inner.size


def split(atom: Atom, inside: int) -> tuple[Atom, Atom] | None:
    """One atom as two, the inner one of ``inside`` elements; None where that cuts through it."""
    if atom.size % inside or atom.inner:
        return None
    return atom._replace(size=atom.size // inside, step=atom.step * inside), atom._replace(size=inside)


def reshaped(lineage: Lineage, shape: Sequence[int]) -> Lineage | None:
    """The same elements in another shape; None where an axis is cut in a place that is no position."""
    if 0 in shape:
        return None
    left = [atom for atom in lineage.atoms() if atom.size != 1 or atom.axes]
    dims: list[Dim] = []
    for size in shape:
        taken: list[Atom] = []
        need = size
        while need > 1:
            if not left:
                return None
            atom = left.pop(0)
            if need % atom.size == 0:
                need //= atom.size
                taken.append(atom)
                continue
            halves = split(atom, atom.size // need) if atom.size % need == 0 else None
            if halves is None:
                return None
            taken.append(halves[0])
            left.insert(0, halves[1])
            need = 1
        if size == 1 and left and left[0].size == 1:
            taken.append(left.pop(0))
        dims.append(tuple(taken))
    if left and dims:
        # What remains has one element: it stays with the last axis, so that its positions are not lost.
        dims[-1] = (*dims[-1], *left)
    return lineage.with_dims(dims)
