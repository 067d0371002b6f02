"""One layer as another: modules of plain torch layers with exactly the same function."""

from __future__ import annotations

from outstride.convert.zero_insertion import to_conv

__all__ = ["to_conv"]
