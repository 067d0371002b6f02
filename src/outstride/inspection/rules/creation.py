"""The rule for new tensors: nothing in them comes from the image."""

from __future__ import annotations

from outstride.inspection.rules.visit import Result, RuleTable, Visit
from outstride.models.operators.creation import Filled, Unset


def nothing(visit: Visit, operator: Filled | Unset) -> Result:
    """A tensor of the same shape, and nothing else of it."""
    del visit, operator
    return None


RULES: RuleTable = {Filled: nothing, Unset: nothing}
