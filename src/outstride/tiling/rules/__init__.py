"""What an operator needs for a box of its result, and how it makes it; a file for each kind."""

from __future__ import annotations

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.tiling.rules import (
    concatenation,
    convolution,
    creation,
    gates,
    indexing,
    norms,
    padding,
    pointwise,
    pooling,
    reductions,
    resizing,
    shuffling,
    views,
)
from outstride.tiling.rules.interface import NEEDS_ALL, Rule, RuleTable

RULES: RuleTable = (
    convolution.RULES | pooling.RULES | resizing.RULES | padding.RULES | shuffling.RULES | views.RULES
    | indexing.RULES | concatenation.RULES | reductions.RULES | norms.RULES | pointwise.RULES | gates.RULES
    | creation.RULES
)  # fmt: skip


def rule_of(node: Node) -> Rule:
    """The rule of a tensor's operator; what has none needs everything."""
    rule = RULES.get(type(describe(node)), NEEDS_ALL)
    return rule if rule.serves(node) else NEEDS_ALL
