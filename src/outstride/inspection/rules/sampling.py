"""The rule for what reads a picture wherever a grid of places says."""

from __future__ import annotations

from outstride.inspection.lineage import Lineage, free
from outstride.inspection.rules.context import Context, Result, RuleTable
from outstride.models.operators.sampling import GridSample


def grid_sample(context: Context, kind: GridSample) -> Result:
    """The grid may be computed from the image, or from nothing."""
    read = [lineage for lineage in map(context.lineage, (kind.input, kind.grid)) if lineage is not None]
    axes = frozenset(axis for lineage in read for axis in lineage.fields)
    axes = axes.union(*(lineage.whole for lineage in read))
    context.sees_all(axes, "reads the image wherever a grid of places says")
    unknown = frozenset[str]().union(*(lineage.unknown for lineage in read))
    return Lineage(tuple(map(free, context.shape)), whole=axes, unknown=unknown)


RULES: RuleTable = {GridSample: grid_sample}
