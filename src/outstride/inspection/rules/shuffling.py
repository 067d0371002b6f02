"""Rules for channels moved into the picture and back."""

from __future__ import annotations

from outstride.inspection.lineage import reshaped
from outstride.inspection.rules.context import Context, Result, RuleTable, known
from outstride.models.operators.shuffling import PixelShuffle, PixelUnshuffle


def pixel_shuffle(context: Context, kind: PixelShuffle) -> Result:
    """Channels to positions."""
    *lead, channels, height, width = context.source.shape
    r, n = kind.factor, len(lead)
    parts = known(reshaped(context.source, (*lead, channels // r**2, r, r, height, width)))
    order = (*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return known(reshaped(parts.with_dims(parts.dims[k] for k in order), context.shape))


def pixel_unshuffle(context: Context, kind: PixelUnshuffle) -> Result:
    """Positions to channels."""
    *lead, channels, height, width = context.source.shape
    r, n = kind.factor, len(lead)
    parts = known(reshaped(context.source, (*lead, channels, height // r, r, width // r, r)))
    order = (*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return known(reshaped(parts.with_dims(parts.dims[k] for k in order), context.shape))


RULES: RuleTable = {PixelShuffle: pixel_shuffle, PixelUnshuffle: pixel_unshuffle}
