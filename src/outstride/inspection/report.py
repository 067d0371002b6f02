"""The report that `check` returns: its findings, which print themselves."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import torch

from outstride.inspection import rendering
from outstride.inspection.findings import Findings


@dataclass(frozen=True)
class Report(Findings):
    """Where every layer of a model looks, what it costs, and which images the model can take.

    Print it, or read ``layers`` (a ``LayerFigures`` each), ``sizes`` and ``halo`` (one entry per axis of the
    image) and ``to_dict()``. It does not keep the model alive.
    """

    reference: weakref.ref[torch.nn.Module] | None = field(default=None, repr=False, compare=False)

    def checked(self) -> torch.nn.Module | None:
        """The model itself, as long as somebody else holds it and in the process that checked it."""
        return None if self.reference is None else self.reference()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "reference": None}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, fractions as text such as "1/2"."""
        return rendering.to_dict(self)

    def __str__(self) -> str:
        return rendering.text(self)

    def _repr_html_(self) -> str:
        return rendering.html(self)
