"""The rule for what reads a picture wherever a grid of places says."""

from __future__ import annotations

from outstride.inspection.lineage import Lineage, free
from outstride.inspection.rules.visit import Result, RuleTable, Visit
from outstride.models.operators.sampling import GridSample


def grid_sample(visit: Visit, operator: GridSample) -> Result:
    """The grid may be computed from the image, or from nothing."""
    read = [lineage for lineage in map(visit.lineage, (operator.input, operator.grid)) if lineage is not None]
    axes = frozenset(axis for lineage in read for axis in lineage.fields)
    axes = axes.union(*(lineage.whole for lineage in read))
    visit.sees_all(axes, "reads the image wherever a grid of places says")
    unknown = frozenset[str]().union(*(lineage.unknown for lineage in read))
    return Lineage(tuple(map(free, visit.shape)), whole=axes, unknown=unknown)


RULES: RuleTable = {GridSample: grid_sample}
