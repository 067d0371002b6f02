"""Graphs in which the axes that a view merges stay apart, so that boxes stay boxes.

A box of rows and columns is no box of the pixels in one row: a linear layer on (N * H * W, C) would ask for
whole rows of the picture. So each tensor is held in parts of its axes, as fine as views have cut them, and
operators that do not look along an axis run on its parts.
"""

from __future__ import annotations

from collections.abc import Container

import torch

from outstride.models.graph import Graph
from outstride.models.unmerging.builder import Builder
from outstride.models.unmerging.writers import WRITERS

__all__ = ["unmerged"]


def unmerged(graph: Graph, served: Container[torch.dtype]) -> Graph:
    """The same model with the axes that its views merge kept apart.

    ``served``: types of which linear layers, in every spelling, become linear maps of one axis.
    """
    return Builder(graph, WRITERS, served).build()
