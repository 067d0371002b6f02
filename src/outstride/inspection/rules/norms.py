"""Rules for norms: an element is changed by all others whose statistics count."""

from __future__ import annotations

from outstride.inspection.rules.context import Context, Result, RuleTable
from outstride.inspection.rules.reductions import changed_by_others
from outstride.models.operators.norms import BatchNorm, GroupNorm, LayerNorm, RMSNorm

_STATISTICS = "normalises with the statistics of all positions"


def layer_norm(context: Context, kind: LayerNorm) -> Result:
    """Over the last axes."""
    return changed_by_others(context, range(-kind.axes, 0), f"{_STATISTICS} (layer norm)")


def group_norm(context: Context, kind: GroupNorm) -> Result:
    """Over groups of channels and all positions."""
    del kind
    return changed_by_others(context, range(1, len(context.source.dims)), f"{_STATISTICS} (group norm)")


def batch_norm(context: Context, kind: BatchNorm) -> Result:
    """Over batch and positions while it trains; afterwards each element by itself."""
    if not kind.training:
        return [context.source, *[None] * (context.results - 1)]
    axes = [axis for axis in range(len(context.source.dims)) if axis != 1]
    return changed_by_others(context, axes, f"{_STATISTICS} (instance norm, or batch norm that trains)")


RULES: RuleTable = {
    LayerNorm: layer_norm,
    RMSNorm: layer_norm,
    GroupNorm: group_norm,
    BatchNorm: batch_norm,
}
