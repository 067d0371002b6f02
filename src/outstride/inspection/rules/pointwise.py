"""Rules for what works element by element: tensors meet as they broadcast."""

from __future__ import annotations

from outstride.inspection.rules.context import Context, Result, RuleTable
from outstride.models.operators.pointwise import CopyInto, Pointwise


def pointwise(context: Context, kind: Pointwise) -> Result:
    """All operands that depend on the image meet."""
    del kind
    lineages = [found for found in map(context.known, context.call.inputs) if found is not None]
    return [context.broadcast(lineages, context.shape)] * context.results


def copy_into(context: Context, kind: CopyInto) -> Result:
    """What was there before is gone."""
    written = context.lineage(kind.source)
    return None if written is None else context.broadcast([written], context.shape)


RULES: RuleTable = {Pointwise: pointwise, CopyInto: copy_into}
