"""Rules for norms: an element is changed by all others whose statistics count."""

from __future__ import annotations

from outstride.inspection.rules.reductions import changed_by_others
from outstride.inspection.rules.visit import Result, RuleTable, Visit
from outstride.models.operators.norms import BatchNorm, GroupNorm, LayerNorm, RMSNorm

_STATISTICS = "normalises with the statistics of all positions"


def layer_norm(visit: Visit, operator: LayerNorm) -> Result:
    """Over the last axes."""
    return changed_by_others(visit, range(-operator.axes, 0), f"{_STATISTICS} (layer norm)")


def group_norm(visit: Visit, operator: GroupNorm) -> Result:
    """Over groups of channels and all positions."""
    del operator
    return changed_by_others(visit, range(1, len(visit.source.dims)), f"{_STATISTICS} (group norm)")


def batch_norm(visit: Visit, operator: BatchNorm) -> Result:
    """Over batch and positions while it trains; afterwards each element by itself."""
    if not operator.training:
        return [visit.source, *[None] * (visit.results - 1)]
    axes = [axis for axis in range(len(visit.source.dims)) if axis != 1]
    return changed_by_others(visit, axes, f"{_STATISTICS} (instance norm, or batch norm that trains)")


RULES: RuleTable = {
    LayerNorm: layer_norm,
    RMSNorm: layer_norm,
    GroupNorm: group_norm,
    BatchNorm: batch_norm,
}
