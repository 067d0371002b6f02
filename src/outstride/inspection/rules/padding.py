"""The rule for padding of any kind."""

from __future__ import annotations

from outstride.inspection.rules.visit import Result, RuleTable, Visit, known
from outstride.models.operators.padding import BorderPad, ConstantPad
from outstride.models.operators.reach import Reach


def padding(visit: Visit, operator: ConstantPad | BorderPad) -> Result:
    """A border of any kind: inside it, positions move by the low padding; a negative one cuts off."""
    lineage = visit.source
    for dim, (low, high) in operator.pads.items():
        if lineage.axes_of(dim) and lineage.placed(dim) is None and min(low, high) >= 0 < low + high:
            lineage = lineage.joined(dim, low, visit.shape[dim])
        elif low or high:
            lineage = known(lineage.through(dim, Reach.slice(-low), visit.shape[dim]))
    if visit.call.wraps:
        visit.wraps("circular padding reads the far side of the image")
    return lineage


RULES: RuleTable = {ConstantPad: padding, BorderPad: padding}
