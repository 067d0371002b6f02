"""The report that `check` returns: its findings, which print themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outstride.inspection import rendering
from outstride.inspection.findings import Findings


@dataclass(frozen=True)
class Report(Findings):
    """Where every layer of a model looks, what it costs, and which images the model can take.

    Print it, or read ``layers`` (a ``LayerFigures`` each), ``sizes`` and ``halo`` (one entry per axis of the
    image) and ``to_dict()``.
    """

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, fractions as text such as "1/2"."""
        return rendering.to_dict(self)

    def __str__(self) -> str:
        return rendering.text(self)

    def _repr_html_(self) -> str:
        return rendering.html(self)
