"""What reads a picture wherever a grid of places says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outstride.models.operation import Operation


@dataclass(frozen=True)
class GridSample:
    """``grid_sample``: the grid may be computed too."""

    input: Any
    grid: Any


def read(operation: Operation) -> GridSample:
    """Of two or three axes."""
    return GridSample(operation.argument("input"), operation.argument("grid"))


OPERATORS = {"aten.grid_sampler_2d": read, "aten.grid_sampler_3d": read}
