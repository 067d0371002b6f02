"""One layer as another: modules of plain torch layers with exactly the same function."""

from __future__ import annotations

from outstride.convert.comparison import Comparison, compare
from outstride.convert.strides import from_space_to_depth, to_space_to_depth
from outstride.convert.subpixel import from_subpixel, to_subpixel
from outstride.convert.zero_insertion import to_conv

__all__ = [
    "Comparison",
    "compare",
    "from_space_to_depth",
    "from_subpixel",
    "to_conv",
    "to_space_to_depth",
    "to_subpixel",
]
