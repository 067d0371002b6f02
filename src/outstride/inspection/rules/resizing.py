"""The rule for interpolation."""

from __future__ import annotations

from outstride.inspection.rules.context import Context, Result, RuleTable, known
from outstride.models.operators.resizing import (
    AntialiasedResize,
    CubicResize,
    LinearResize,
    NearestResize,
    Resize,
)


def resizing(context: Context, kind: Resize) -> Result:
    """Axis by axis, as far as it changes something."""
    lineage = context.source
    for axis in range(kind.nd):
        dim = 2 + axis
        inputs, outputs = lineage.shape[dim], context.shape[dim]
        if inputs == outputs and kind.ratio(axis, inputs, outputs) == 1:
            continue
        lineage = known(lineage.through(dim, kind.reach(axis, inputs, outputs), outputs))
    return lineage


RULES: RuleTable = dict.fromkeys((NearestResize, LinearResize, CubicResize, AntialiasedResize), resizing)
