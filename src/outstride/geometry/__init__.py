"""Where a layer reads and writes: sizes in both directions, phases, receptive fields, and the way back.

Integers of any length and fractions, never a float; nothing here needs torch or NumPy.
"""

from __future__ import annotations

from outstride.axis import Phase, source_index
from outstride.geometry.axes import SizesLike
from outstride.geometry.extents import (
    input_sizes,
    legal_output_padding,
    output_size,
    resolve,
    resolved_padding,
)
from outstride.geometry.gathering import axis_phases, phases, receptive_field
from outstride.geometry.solution import Reason, Solution
from outstride.geometry.solving import Solutions, solve

__all__ = [
    "Phase",
    "Reason",
    "SizesLike",
    "Solution",
    "Solutions",
    "axis_phases",
    "input_sizes",
    "legal_output_padding",
    "output_size",
    "phases",
    "receptive_field",
    "resolve",
    "resolved_padding",
    "solve",
    "source_index",
]
