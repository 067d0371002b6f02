"""What a call of a layer takes beside its operands, before there is one: time, and memory that stays."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from outstride.engine.launch.compaction import compacted
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.plans import plan_of
from outstride.engine.planner.arguments import kernel_arguments, total_weights
from outstride.engine.planner.dtypes import STORAGE_BYTES


class Footprint(NamedTuple):
    """``packed_bytes``: the weight as the kernel reads it; ``scratch_bytes``: of each thread."""

    cycles: float
    """Predicted, on one thread."""
    packed_bytes: int
    scratch_bytes: int
    compacted_bytes: int
    """A copy of the used positions of an operand of which few are used."""


NOTHING = Footprint(0.0, 0, 0, 0)


def footprint(operands: Operands) -> Footprint:
    """That of a contraction of tensors like these, of which only shapes, strides and dtype are looked at."""
    asked, how = compacted(operands)
    if not (asked.x.numel() and asked.w.numel() and asked.y.numel()):
        return NOTHING
    plan = plan_of(asked, 1)
    made = kernel_arguments(plan)
    item = 8 if plan.problem.dtype == "float64" else 4
    copied = 0
    if how is not None:
        large = asked.x if asked.operator == "conv" else asked.y
        copied = prod(large.shape) * STORAGE_BYTES[plan.problem.dtype]
    return Footprint(plan.predicted_cycles, item * total_weights(plan, made), made.scratch_bytes, copied)
