"""Checkerboards: where they come from, how strong they are with these weights, and what cures them."""

from __future__ import annotations

from outstride.artifacts.coverage import Overlap, overlap
from outstride.artifacts.cures import constrain_, equalize_, features, icnr_
from outstride.artifacts.gain import Ripple, ripple
from outstride.artifacts.rewrites import extend, smooth, smoothing
from outstride.artifacts.spectrum import Measurement, measure
from outstride.artifacts.suggestions import Suggestion
from outstride.artifacts.survey import Finding, Survey, inspect

__all__ = [
    "Finding",
    "Measurement",
    "Overlap",
    "Ripple",
    "Suggestion",
    "Survey",
    "constrain_",
    "equalize_",
    "extend",
    "features",
    "icnr_",
    "inspect",
    "measure",
    "overlap",
    "ripple",
    "smooth",
    "smoothing",
]
