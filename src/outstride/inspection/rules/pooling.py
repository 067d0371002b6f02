"""Rules for pooling over windows that slide or follow the size, and its reverse."""

from __future__ import annotations

from dataclasses import replace

from outstride.inspection.rules.convolution import slid
from outstride.inspection.rules.visit import NotUnderstoodError, Result, RuleTable, Visit, known
from outstride.models.operators.pooling import AdaptivePool, AveragePool, MaxPool, Unpool
from outstride.models.operators.reach import Reach


def pooling(visit: Visit, operator: MaxPool | AveragePool) -> Result:
    """Maximum and average over windows; the indices of a maximum lie where the maximum does."""
    return [slid(visit.source, operator.windows, visit.shape[-len(operator.windows) :])] * visit.results


def adaptive_pooling(visit: Visit, operator: AdaptivePool) -> Result:
    """Windows that follow the size: all of the image decides about each."""
    lineage = visit.source
    covered = frozenset[int]()
    for dim in range(len(lineage.dims) - operator.nd, len(lineage.dims)):
        inputs, outputs = lineage.shape[dim], visit.shape[dim]
        if inputs == outputs:
            continue
        axes = lineage.axes_of(dim)
        covered |= axes
        lineage = replace(lineage, whole=lineage.whole | axes)
        if outputs == 1:
            lineage = lineage.reduced([dim])[0]
            continue
        lineage = known(lineage.through(dim, operator.reach(inputs, outputs), outputs))
    visit.sees_all(covered, "pools windows that follow the size of the image")
    return [lineage] * visit.results


def unpooling(visit: Visit, operator: Unpool) -> Result:
    """Each input goes to one place inside its window."""
    del operator
    lineage = visit.source
    for dim in range(2, len(lineage.dims)):
        inputs, outputs = lineage.shape[dim], visit.shape[dim]
        if outputs % inputs:
            raise NotUnderstoodError(f"unpooling {inputs} positions to {outputs}")
        lineage = known(lineage.through(dim, Reach.repeat(outputs // inputs), outputs))
    return lineage


RULES: RuleTable = {
    MaxPool: pooling,
    AveragePool: pooling,
    AdaptivePool: adaptive_pooling,
    Unpool: unpooling,
}
