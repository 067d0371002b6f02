"""Rules for what works element by element: tensors meet as they broadcast."""

from __future__ import annotations

from outstride.inspection.rules.visit import Result, RuleTable, Visit
from outstride.models.operators.pointwise import CopyInto, Pointwise


def pointwise(visit: Visit, operator: Pointwise) -> Result:
    """All operands that depend on the image meet."""
    del operator
    lineages = [found for found in map(visit.known, visit.call.inputs) if found is not None]
    return [visit.broadcast(lineages, visit.shape)] * visit.results


def copy_into(visit: Visit, operator: CopyInto) -> Result:
    """What was there before is gone."""
    written = visit.lineage(operator.source)
    return None if written is None else visit.broadcast([written], visit.shape)


RULES: RuleTable = {Pointwise: pointwise, CopyInto: copy_into}
