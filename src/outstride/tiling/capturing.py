"""The graph that is tiled: that of a model whose convolutions are outstride's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from outstride.acceleration import accelerate
from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.models.graph import Graph, capture
from outstride.models.recurrence import as_one_operator
from outstride.models.unmerging import unmerged


def served_graph(
    model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, strides: Sequence[int] | None = None
) -> Graph:
    """The graph of ``accelerate(model)``, whose bits depend on nothing but what its layers sum.

    Axes that its views merge are apart in it.

    Raises:
        ShapeError: the model does not run at this shape.
        UnsupportedError: what it does depends on the numbers of its input, or on random ones.
    """
    return unmerged(capture(model, shape, dtype, strides, _prepared), ENGINE_DTYPES)


def _prepared(model: torch.nn.Module) -> torch.nn.Module:
    return accelerate(as_one_operator(model), inplace=True)
