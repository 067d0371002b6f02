"""Graphs in which the axes that a view merges stay apart, so that boxes stay boxes.

A box of rows and columns is no box of the pixels in one row: a linear layer on (N * H * W, C) would ask for
whole rows of the picture. So each tensor is held in parts of its axes, as fine as views have cut them, and
operators that do not look along an axis run on its parts.
"""

from __future__ import annotations

from outstride.tiling.unmerging.builder import unmerged

__all__ = ["unmerged"]
