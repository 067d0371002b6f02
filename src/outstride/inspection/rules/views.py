"""Rules for other shapes and orders of the same elements, other names for them, and copies."""

from __future__ import annotations

from outstride.inspection.lineage import Dim, Lineage, free, reshaped
from outstride.inspection.rules.context import Context, NotUnderstoodError, Result, RuleTable, known
from outstride.models.operators import views


def same(context: Context, kind: object) -> Result:
    """A copy, or another name for it."""
    del kind
    return context.source


def complex_to_pairs(context: Context, kind: views.ComplexToPairs) -> Result:
    """A new axis of two."""
    del kind
    return context.source.with_dims((*context.source.dims, free(2)))


def pairs_to_complex(context: Context, kind: views.PairsToComplex) -> Result:
    """The axis of two goes."""
    del kind
    return context.source.with_dims(context.source.dims[:-1])


def reshape(context: Context, kind: object) -> Result:
    """Digits of positions dealt out to other axes."""
    del kind
    return known(reshaped(context.source, context.shape))


def permute(context: Context, kind: views.Permute) -> Result:
    """Axes in another order."""
    return context.source.with_dims(context.source.dims[axis] for axis in kind.order)


def squeeze(context: Context, kind: views.Squeeze) -> Result:
    """A position that such an axis has stays with its neighbour."""
    return without(context.source, set(kind.axes))


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


def unsqueeze(context: Context, kind: views.Unsqueeze) -> Result:
    """A new axis of one element."""
    dims = list(context.source.dims)
    dims.insert(kind.axis, ())
    return context.source.with_dims(dims)


def expand(context: Context, kind: views.Expand) -> Result:
    """As where it meets a tensor of that shape."""
    del kind
    return context.broadcast([context.source], context.shape)


def repeat(context: Context, kind: views.Repeat) -> Result:
    """Only where no image is repeated side by side."""
    missing = len(context.shape) - len(context.source.dims)
    dims: list[Dim] = []
    for number, (times, size) in enumerate(zip(kind.times, context.shape, strict=True)):
        if number < missing:
            dims.append(free(size))
        elif times == 1:
            dims.append(context.source.dims[number - missing])
        elif context.source.axes_of(number - missing):
            raise NotUnderstoodError("the image is repeated side by side")
        else:
            dims.append(free(size))
    return context.source.with_dims(dims)


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
