"""Rules for matrix products, linear layers and attention."""

from __future__ import annotations

from outstride.inspection.lineage import Lineage, free
from outstride.inspection.rules.views import without
from outstride.inspection.rules.visit import NotUnderstoodError, Result, RuleTable, Visit
from outstride.models.operators.products import Attention, FusedAttention, Linear, MatrixProduct

_PRODUCT = "a matrix product over all positions (attention, or a linear layer on the flattened image)"


def matrix_product(visit: Visit, operator: MatrixProduct) -> Result:
    """What is added meets the result."""
    left, right, shape = visit.lineage(operator.left), visit.lineage(operator.right), visit.shape
    if left is not None and right is None:
        found, covered = left.reduced([len(left.dims) - 1])
        vector = len(shape) < len(left.dims)
        found = without(found, {len(left.dims) - 1}) if vector else found.put(len(shape) - 1, free(shape[-1]))
    elif right is not None and left is None:
        found, covered = right.reduced([len(right.dims) - 2])
        found = found.put(len(shape) - 2, free(shape[-2]))
    elif left is not None and right is not None:
        found, covered = _both(visit, left, right)
    else:
        raise NotUnderstoodError("the image is added to a product of constants")
    visit.sees_all(covered, _PRODUCT)
    added = visit.lineage(operator.added)
    return found if added is None else visit.broadcast([found, added], shape)


def _both(visit: Visit, left: Lineage, right: Lineage) -> tuple[Lineage, frozenset[int]]:
    rank = len(visit.shape)
    if not rank == len(left.dims) == len(right.dims):
        raise NotUnderstoodError("a product of a matrix and a vector that both come from the image")
    rows, covered = left.reduced([rank - 1])
    # Rows and columns of an attention matrix both run along the image: the rows are the ones to follow.
    columns_too = right.axes_of(rank - 1) & left.axes_of(rank - 2)
    cols, also = right.reduced([rank - 2, rank - 1] if columns_too else [rank - 2])
    shape = [*visit.shape[:-1], 1] if not cols.axes_of(rank - 1) else list(visit.shape)
    rows, cols = rows.put(rank - 1, ()), cols.put(rank - 2, ())
    if not cols.axes_of(rank - 1):
        cols = cols.put(rank - 1, ())
    # Where both are equally fine, the place is that of the values, and not of the weights that they get.
    met = visit.broadcast([cols, rows], shape, silent=True)
    return (met.put(rank - 1, free(visit.shape[-1])) if shape[-1] == 1 else met), covered | also


def linear(visit: Visit, operator: Linear) -> Result:
    """The last axis is summed."""
    del operator
    source = visit.source
    found, covered = source.reduced([len(source.dims) - 1])
    visit.sees_all(covered, _PRODUCT)
    return found.put(len(source.dims) - 1, free(visit.shape[-1]))


def attention(visit: Visit, operator: Attention) -> Result:
    """Queries that were learned have no place in the image; what they find there may lie anywhere in it."""
    rows = visit.lineage(operator.query)
    rank = len(visit.shape)
    met, covered = [] if rows is None else [rows.reduced([rank - 1])[0]], frozenset[int]()
    for lineage in map(visit.lineage, (operator.key, operator.value)):
        if lineage is not None:
            summed, axes = lineage.reduced([rank - 2, rank - 1])
            covered |= axes
            met.append(summed)
    visit.sees_all(covered, _PRODUCT)
    found = visit.broadcast(met, (*visit.shape[:-1], 1), silent=True).put(rank - 1, free(visit.shape[-1]))
    return [found, *[None] * (visit.results - 1)]


def fused_attention(visit: Visit, operator: FusedAttention) -> Result:
    """Projections before and behind it mix features, which are no place."""
    return attention(visit, Attention(operator.query, operator.key, operator.key))


RULES: RuleTable = {
    MatrixProduct: matrix_product, Linear: linear, Attention: attention, FusedAttention: fused_attention,
}  # fmt: skip
