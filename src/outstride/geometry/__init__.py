"""Where a layer reads and writes: sizes in both directions, phases, receptive fields, and the way back.

Integers of any length and fractions, never a float; nothing here needs torch or NumPy.
"""

from __future__ import annotations

from outstride.geometry.axes import SizesLike
from outstride.geometry.extents import (
    input_sizes,
    legal_output_padding,
    output_size,
    resolve,
    resolved_padding,
)
from outstride.geometry.gathering import axis_phases, phases, receptive_field
from outstride.geometry.solver.chain import ChainSolution, Fit
from outstride.geometry.solver.chaining import ChainSolutions, solve_chain
from outstride.geometry.solver.judging import Judgement, judge
from outstride.geometry.solver.solution import Reason, Solution
from outstride.geometry.solver.solving import Solutions, solve
from outstride.layer.axis import Phase, source_index

__all__ = [
    "ChainSolution",
    "ChainSolutions",
    "Fit",
    "Judgement",
    "Phase",
    "Reason",
    "SizesLike",
    "Solution",
    "Solutions",
    "axis_phases",
    "input_sizes",
    "judge",
    "legal_output_padding",
    "output_size",
    "phases",
    "receptive_field",
    "resolve",
    "resolved_padding",
    "solve",
    "solve_chain",
    "source_index",
]
