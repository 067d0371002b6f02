"""The one table of cases: every option at least once, sizes at, below and beyond a tile, odd, one and zero.

Register tiles are multiples of 16 wide and input channels are summed in blocks of 64, so widths around 16, 32
and 48 and channel counts around 16 and beyond 64 are where an edge can go wrong. Every case is small enough
for loops.
"""

from __future__ import annotations

from math import prod

from tests.cases.convolutions import CONVOLUTIONS
from tests.cases.large import LARGE_CASES
from tests.cases.layer_case import LAYOUTS, Case, Pairs, case
from tests.cases.transposed import TRANSPOSED_CONVOLUTIONS

__all__ = ["BY_ID", "CASES", "LARGE_CASES", "LAYOUTS", "Case", "Pairs", "case", "closure_cases"]

CASES: tuple[Case, ...] = (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS)
BY_ID: dict[str, Case] = {c.id: c for c in CASES}
assert len(BY_ID) == len(CASES), "two cases share an id"


def closure_cases() -> tuple[Case, ...]:
    """Every combination of options once, on the smallest tensors, for the laws that cost a Jacobian."""
    seen: dict[tuple[object, ...], Case] = {}
    for c in CASES:
        if c.batch and c.kernel_size and prod(c.kernel_size) <= 36:
            small = c.tiny()
            key = tuple(
                getattr(small, f)
                for f in small.__dataclass_fields__
                if f not in ("id", "layout", "weight_layout")
            )
            seen.setdefault(key, small)
    return tuple(seen.values())
