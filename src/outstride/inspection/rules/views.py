"""Rules for other shapes and orders of the same elements, other names for them, and copies."""

from __future__ import annotations

from outstride.inspection.lineage import Dim, Lineage, free, reshaped
from outstride.inspection.rules.visit import NotUnderstoodError, Result, RuleTable, Visit, known
from outstride.models.operators import views


def same(visit: Visit, operator: object) -> Result:
    """A copy, or another name for it."""
    del operator
    return visit.source


def complex_to_pairs(visit: Visit, operator: views.ComplexToPairs) -> Result:
    """A new axis of two."""
    del operator
    return visit.source.with_dims((*visit.source.dims, free(2)))


def pairs_to_complex(visit: Visit, operator: views.PairsToComplex) -> Result:
    """The axis of two goes."""
    del operator
    return visit.source.with_dims(visit.source.dims[:-1])


def reshape(visit: Visit, operator: object) -> Result:
    """Digits of positions dealt out to other axes."""
    del operator
    return known(reshaped(visit.source, visit.shape))


def permute(visit: Visit, operator: views.Permute) -> Result:
    """Axes in another order."""
    return visit.source.with_dims(visit.source.dims[axis] for axis in operator.order)


def squeeze(visit: Visit, operator: views.Squeeze) -> Result:
    """A position that such an axis has stays with its neighbour."""
    return without(visit.source, set(operator.axes))


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


def unsqueeze(visit: Visit, operator: views.Unsqueeze) -> Result:
    """A new axis of one element."""
    dims = list(visit.source.dims)
    dims.insert(operator.axis, ())
    return visit.source.with_dims(dims)


def expand(visit: Visit, operator: views.Expand) -> Result:
    """As where it meets a tensor of that shape."""
    del operator
    return visit.broadcast([visit.source], visit.shape)


def repeat(visit: Visit, operator: views.Repeat) -> Result:
    """Only where no image is repeated side by side."""
    missing = len(visit.shape) - len(visit.source.dims)
    dims: list[Dim] = []
    for number, (times, size) in enumerate(zip(operator.times, visit.shape, strict=True)):
        if number < missing:
            dims.append(free(size))
        elif times == 1:
            dims.append(visit.source.dims[number - missing])
        elif visit.source.axes_of(number - missing):
            raise NotUnderstoodError("the image is repeated side by side")
        else:
            dims.append(free(size))
    return visit.source.with_dims(dims)


RULES: RuleTable = dict.fromkeys((views.Reshape, views.Reinterpret), reshape)
RULES |= dict.fromkeys((views.Alias, views.Copy, views.Conjugate), same)
RULES |= {
    views.Permute: permute,
    views.Squeeze: squeeze,
    views.Unsqueeze: unsqueeze,
    views.Expand: expand,
    views.Repeat: repeat,
    views.ComplexToPairs: complex_to_pairs,
    views.PairsToComplex: pairs_to_complex,
}
