"""What the lineage of a result is, by the kind of operator that makes it; a file for each kind."""

from __future__ import annotations

from outstride.inspection.rules import (
    concatenation,
    convolution,
    creation,
    indexing,
    norms,
    padding,
    pointwise,
    pooling,
    products,
    reductions,
    resizing,
    sampling,
    shuffling,
    unfolding,
    views,
)
from outstride.inspection.rules.visit import RuleTable

RULES: RuleTable = (
    convolution.RULES | pooling.RULES | unfolding.RULES | resizing.RULES | padding.RULES | shuffling.RULES
    | views.RULES | indexing.RULES | concatenation.RULES | reductions.RULES | norms.RULES | products.RULES
    | pointwise.RULES | creation.RULES | sampling.RULES
)  # fmt: skip
