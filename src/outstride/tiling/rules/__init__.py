"""What an operator needs for a box of its result, and how it makes it; a file for each kind."""

from __future__ import annotations

from outstride.models.node import Node
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.describing import describe
from outstride.models.operators.products import ChannelProduct, MatrixProducts
from outstride.tiling.rules import (
    adaptive,
    concatenation,
    convolution,
    creation,
    filtering,
    fourier,
    gates,
    indexing,
    norms,
    padding,
    pointwise,
    pooling,
    products,
    reductions,
    resizing,
    shuffling,
    unfolding,
    views,
)
from outstride.tiling.rules.interface import NEEDS_ALL, Rule, RuleTable

RULES: RuleTable = (
    convolution.RULES | pooling.RULES | adaptive.RULES | resizing.RULES | filtering.RULES | padding.RULES
    | shuffling.RULES | views.RULES | indexing.RULES | concatenation.RULES | reductions.RULES | norms.RULES
    | pointwise.RULES | gates.RULES | creation.RULES | products.RULES | fourier.RULES | unfolding.RULES
)  # fmt: skip


def is_called(node: Node) -> bool:
    """Whether it is no layer that ``accelerate`` serves, and yet computed as those are."""
    kind = None if node.target is None else describe(node)
    if isinstance(kind, (Convolution, ChannelProduct)):
        return node.name.startswith("aten.")
    return isinstance(kind, MatrixProducts) and not products.are_torchs(node)


def rule_of(node: Node) -> Rule:
    """The rule of a tensor's operator; what has none needs everything."""
    rule = RULES.get(type(describe(node)), NEEDS_ALL)
    return rule if rule.serves(node) else NEEDS_ALL
