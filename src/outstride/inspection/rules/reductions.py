"""Rules for what looks along whole axes: sums, softmax, running sums, sorting, Fourier transforms."""

from __future__ import annotations

from collections.abc import Iterable

from outstride.inspection.lineage import free
from outstride.inspection.rules.views import without
from outstride.inspection.rules.visit import Result, RuleTable, Visit
from outstride.models.operators.reductions import (
    Deviation,
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


def reduction(visit: Visit, operator: Reduction) -> Result:
    """One value for all elements along some axes."""
    source = visit.source
    gone = set(operator.axes)
    found, covered = source.reduced(gone)
    mean = isinstance(operator, Mean)
    visit.sees_all(covered, "takes the mean over all positions" if mean else "sums over all positions")
    keep = len(visit.shape) == len(source.dims) or operator.keepdim
    return [found if keep else without(found, gone)] * visit.results


def changed_by_others(visit: Visit, axes: Iterable[int], text: str) -> Result:
    """Every element, changed by all the others along some axes."""
    source = visit.source
    summed, covered = source.reduced({axis % len(source.dims) for axis in axes})
    visit.sees_all(covered, text)
    met = visit.broadcast([source, summed], visit.shape, silent=True)
    return [met, *[None] * (visit.results - 1)]


def softmax(visit: Visit, operator: Softmax) -> Result:
    """Softmax and its logarithm."""
    return changed_by_others(visit, [operator.axis], "normalises over all positions (softmax)")


def scan(visit: Visit, operator: Scan) -> Result:
    """Running sums and products."""
    return changed_by_others(visit, [operator.axis], IN_ORDER)


def fourier(visit: Visit, operator: Fourier) -> Result:
    """Frequencies in the place of positions."""
    found, covered = visit.source.reduced(operator.axes)
    visit.sees_all(covered, "a Fourier transform of all positions")
    return found.with_dims(
        free(visit.shape[n]) if n in operator.axes else atoms for n, atoms in enumerate(found.dims)
    )


def sort(visit: Visit, operator: Sort) -> Result:
    """Of the places that they come from nothing is known."""
    found, covered = visit.source.reduced([operator.axis])
    visit.sees_all(covered, "puts all positions in order")
    return [found.put(operator.axis, free(visit.shape[operator.axis]))] * visit.results


RULES: RuleTable = dict.fromkeys((Reduction, Sum, Mean, Deviation, Extremum), reduction)
RULES |= dict.fromkeys((Softmax, MaskedSoftmax), softmax)
RULES |= {Scan: scan, Fourier: fourier, Sort: sort}
