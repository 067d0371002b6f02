"""The rule for padding of any kind."""

from __future__ import annotations

from outstride.inspection.rules.context import Context, Result, RuleTable, known
from outstride.models.operators.padding import BorderPad, ConstantPad
from outstride.models.operators.reach import Reach


def padding(context: Context, kind: ConstantPad | BorderPad) -> Result:
    """A border of any kind: inside it, positions move by the low padding; a negative one cuts off."""
    lineage = context.source
    for dim, (low, high) in kind.pads.items():
        if lineage.axes_of(dim) and lineage.placed(dim) is None and min(low, high) >= 0 < low + high:
            lineage = lineage.joined(dim, low, context.shape[dim])
        elif low or high:
            lineage = known(lineage.through(dim, Reach.slice(-low), context.shape[dim]))
    if context.call.wraps:
        context.wraps("circular padding reads the far side of the image")
    return lineage


RULES: RuleTable = {ConstantPad: padding, BorderPad: padding}
