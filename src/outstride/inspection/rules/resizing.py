"""The rule for interpolation."""

from __future__ import annotations

from outstride.inspection.rules.visit import Result, RuleTable, Visit, known
from outstride.models.operators.resizing import (
    AntialiasedResize,
    CubicResize,
    LinearResize,
    NearestResize,
    Resize,
)


def resizing(visit: Visit, operator: Resize) -> Result:
    """Axis by axis, as far as it changes something."""
    lineage = visit.source
    for axis in range(operator.nd):
        dim = 2 + axis
        inputs, outputs = lineage.shape[dim], visit.shape[dim]
        if inputs == outputs and operator.ratio(axis, inputs, outputs) == 1:
            continue
        lineage = known(lineage.through(dim, operator.reach(axis, inputs, outputs), outputs))
    return lineage


RULES: RuleTable = dict.fromkeys((NearestResize, LinearResize, CubicResize, AntialiasedResize), resizing)
