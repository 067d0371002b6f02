"""Checkerboards: where they come from, how strong they are with these weights, and what cures them."""

from __future__ import annotations

from outstride.artifacts.coverage import Overlap, overlap
from outstride.artifacts.cures import equalize_, extend, icnr_, smooth, smoothing
from outstride.artifacts.gain import Ripple, ripple
from outstride.artifacts.spectrum import Measurement, measure

__all__ = [
    "Measurement",
    "Overlap",
    "Ripple",
    "equalize_",
    "extend",
    "icnr_",
    "measure",
    "overlap",
    "ripple",
    "smooth",
    "smoothing",
]
