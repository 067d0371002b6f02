"""Rules for what looks along whole axes: sums, softmax, running sums, sorting, Fourier transforms."""

from __future__ import annotations

from collections.abc import Iterable

from outstride.inspection.lineage import free
from outstride.inspection.rules.context import Context, Result, RuleTable
from outstride.inspection.rules.views import without
from outstride.models.operators.reductions import (
    Extremum,
    Fourier,
    MaskedSoftmax,
    Mean,
    Reduction,
    Scan,
    Softmax,
    Sort,
    Sum,
)

IN_ORDER = "runs over all positions one after the other"


def reduction(context: Context, kind: Reduction) -> Result:
    """One value for all elements along some axes."""
    source = context.source
    gone = set(kind.axes)
    found, covered = source.reduced(gone)
    mean = isinstance(kind, Mean)
    context.sees_all(covered, "takes the mean over all positions" if mean else "sums over all positions")
    keep = len(context.shape) == len(source.dims) or kind.keepdim
    return [found if keep else without(found, gone)] * context.results


def changed_by_others(context: Context, axes: Iterable[int], text: str) -> Result:
    """Every element, changed by all the others along some axes."""
    source = context.source
    summed, covered = source.reduced({axis % len(source.dims) for axis in axes})
    context.sees_all(covered, text)
    met = context.broadcast([source, summed], context.shape, silent=True)
    return [met, *[None] * (context.results - 1)]


def softmax(context: Context, kind: Softmax) -> Result:
    """Softmax and its logarithm."""
    return changed_by_others(context, [kind.axis], "normalises over all positions (softmax)")


def scan(context: Context, kind: Scan) -> Result:
    """Running sums and products."""
    return changed_by_others(context, [kind.axis], IN_ORDER)


def fourier(context: Context, kind: Fourier) -> Result:
    """Frequencies in the place of positions."""
    found, covered = context.source.reduced(kind.axes)
    context.sees_all(covered, "a Fourier transform of all positions")
    return found.with_dims(
        free(context.shape[n]) if n in kind.axes else atoms for n, atoms in enumerate(found.dims)
    )


def sort(context: Context, kind: Sort) -> Result:
    """Of the places that they come from nothing is known."""
    found, covered = context.source.reduced([kind.axis])
    context.sees_all(covered, "puts all positions in order")
    return [found.put(kind.axis, free(context.shape[kind.axis]))] * context.results


RULES: RuleTable = dict.fromkeys((Reduction, Sum, Mean, Extremum), reduction)
RULES |= dict.fromkeys((Softmax, MaskedSoftmax), softmax)
RULES |= {Scan: scan, Fourier: fourier, Sort: sort}
