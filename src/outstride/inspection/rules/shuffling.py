"""Rules for channels moved into the picture and back."""

from __future__ import annotations

from outstride.inspection.lineage import reshaped
from outstride.inspection.rules.visit import Result, RuleTable, Visit, known
from outstride.models.operators.shuffling import PixelShuffle, PixelUnshuffle


def pixel_shuffle(visit: Visit, operator: PixelShuffle) -> Result:
    """Channels to positions."""
    *lead, channels, height, width = visit.source.shape
    r, n = operator.factor, len(lead)
    parts = known(reshaped(visit.source, (*lead, channels // r**2, r, r, height, width)))
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return known(reshaped(parts.with_dims(parts.dims[k] for k in order), visit.shape))


def pixel_unshuffle(visit: Visit, operator: PixelUnshuffle) -> Result:
    """Positions to channels."""
    *lead, channels, height, width = visit.source.shape
    r, n = operator.factor, len(lead)
    parts = known(reshaped(visit.source, (*lead, channels, height // r, r, width // r, r)))
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return known(reshaped(parts.with_dims(parts.dims[k] for k in order), visit.shape))


RULES: RuleTable = {PixelShuffle: pixel_shuffle, PixelUnshuffle: pixel_unshuffle}
