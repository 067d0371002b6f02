"""The prologue: what is done to every element of the input when it is read, before it is packed or summed.

Each of its steps gives 0 for 0, so padding stays padding, wherever its zeros come from. An element is stepped
each time that it is read, to the same bits.
"""

from __future__ import annotations

from dataclasses import replace

from outstride.engine.codegen.context import Context
from outstride.engine.codegen.ir import Value
from outstride.engine.codegen.steps import operations as steps
from outstride.engine.planner.steps import EXACT


def taken(k: Context, value: Value, lanes: int) -> Value:
    """What is summed of `lanes` elements of the input, which are accumulators."""
    before = k.recipe.before
    if not before:
        return value
    own = replace(k, lanes=lanes)
    made = steps.apply(own, before, value, [()] * len(before))
    return made if before[-1].kind in EXACT else steps.rounded(own, made)
