"""Rules for windows written out beside each other."""

from __future__ import annotations

from outstride.inspection.lineage import free, reshaped
from outstride.inspection.rules.context import Context, Result, RuleTable, known
from outstride.inspection.rules.convolution import slid
from outstride.models.operators.reach import Reach
from outstride.models.operators.unfolding import Columns, FromColumns, Unfold


def columns(context: Context, kind: Columns) -> Result:
    """A column of taps for each window, the windows in one row."""
    sizes = [
        window.outputs(size) for window, size in zip(kind.windows, context.source.shape[-2:], strict=True)
    ]
    channel = len(context.source.dims) - 3
    found = context.source.reduced([channel])[0].put(channel, free(context.shape[-2]))
    return known(reshaped(slid(found, kind.windows, sizes), context.shape))


def from_columns(context: Context, kind: FromColumns) -> Result:
    """The adjoint, which adds columns up."""
    sizes = [window.outputs(size) for window, size in zip(kind.windows, context.shape[-2:], strict=True)]
    found = context.source.reduced([len(context.source.dims) - 2])[0]
    shape = (*context.shape[:-3], 1, *sizes)
    parts = known(reshaped(found, shape)).put(len(shape) - 3, free(context.shape[-3]))
    return slid(parts, kind.windows, context.shape[-2:])


def unfolding(context: Context, kind: Unfold) -> Result:
    """Windows along one axis, their elements in a new last one."""
    reach = Reach.window(kind.step, range(kind.size))
    moved = known(context.source.through(kind.axis, reach, context.shape[kind.axis]))
    return moved.with_dims((*moved.dims, free(kind.size)))


RULES: RuleTable = {Columns: columns, FromColumns: from_columns, Unfold: unfolding}
