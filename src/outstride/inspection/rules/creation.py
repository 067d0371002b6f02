"""The rule for new tensors: nothing in them comes from the image."""

from __future__ import annotations

from outstride.inspection.rules.context import Context, Result, RuleTable
from outstride.models.operators.creation import Filled, Unset


def nothing(context: Context, kind: Filled | Unset) -> Result:
    """A tensor of the same shape, and nothing else of it."""
    del context, kind
    return None


RULES: RuleTable = {Filled: nothing, Unset: nothing}
