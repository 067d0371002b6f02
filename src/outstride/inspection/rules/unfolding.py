"""Rules for windows written out beside each other."""

from __future__ import annotations

from outstride.inspection.lineage import free, reshaped
from outstride.inspection.rules.convolution import slid
from outstride.inspection.rules.visit import Result, RuleTable, Visit, known
from outstride.models.operators.reach import Reach
from outstride.models.operators.unfolding import Columns, FromColumns, Unfold


def columns(visit: Visit, operator: Columns) -> Result:
    """A column of taps for each window, the windows in one row."""
    sizes = [
        window.outputs(size) for window, size in zip(operator.windows, visit.source.shape[-2:], strict=True)
    ]
    channel = len(visit.source.dims) - 3
    found = visit.source.reduced([channel])[0].put(channel, free(visit.shape[-2]))
    return known(reshaped(slid(found, operator.windows, sizes), visit.shape))


def from_columns(visit: Visit, operator: FromColumns) -> Result:
    """The adjoint, which adds columns up."""
    sizes = [window.outputs(size) for window, size in zip(operator.windows, visit.shape[-2:], strict=True)]
    found = visit.source.reduced([len(visit.source.dims) - 2])[0]
    shape = (*visit.shape[:-3], 1, *sizes)
    parts = known(reshaped(found, shape)).put(len(shape) - 3, free(visit.shape[-3]))
    return slid(parts, operator.windows, visit.shape[-2:])


def unfolding(visit: Visit, operator: Unfold) -> Result:
    """Windows along one axis, their elements in a new last one."""
    reach = Reach.window(operator.step, range(operator.size))
    moved = known(visit.source.through(operator.axis, reach, visit.shape[operator.axis]))
    return moved.with_dims((*moved.dims, free(operator.size)))


RULES: RuleTable = {Columns: columns, FromColumns: from_columns, Unfold: unfolding}
