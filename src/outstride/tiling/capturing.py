"""The graph that is tiled: that of a model whose convolutions are outstride's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from outstride.acceleration import accelerate
from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.models.graph import Graph, Input, capture_call
from outstride.models.recurrence import as_one_operator
from outstride.models.unmerging import unmerged


def served_graph(
    model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, strides: Sequence[int] | None = None
) -> Graph:
    """``served_call`` of a model that takes one tensor."""
    strides = None if strides is None else tuple(strides)
    return served_call(model, (Input(tuple(shape), dtype, strides),), {})


def served_call(model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Graph:
    """The graph of ``accelerate(model)``, whose bits depend on nothing but what its layers sum.

    Axes that its views merge are apart in it. ``args`` and ``kwargs`` as ``capture_call`` has them.

    Raises:
        ShapeError: the model does not run at these shapes.
        UnsupportedError: what it does depends on the numbers of its inputs, or on random ones.
    """
    return unmerged(capture_call(model, args, kwargs, _prepared), ENGINE_DTYPES)


def _prepared(model: torch.nn.Module) -> torch.nn.Module:
    return accelerate(as_one_operator(model), inplace=True)
