"""What `check` and `artifacts` find in a model, each finding with the tensors at which it arises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from outstride.artifacts.survey import inspect
from outstride.errors import OutstrideError
from outstride.inspection import Report
from outstride.inspection.figures import LayerFigures

#: What is worth knowing but no fault: a norm over the whole image, for one.
_HARMLESS = ("whole", "even", "uneven overlap, evened out by the weights")
_MOST_NAMES = 4


class Place(NamedTuple):
    """A layer, and the tensor that it makes."""

    layer: str
    node: int


@dataclass(frozen=True)
class Finding:
    """One sentence, where it arises, and what helps."""

    text: str
    bad: bool
    places: tuple[Place, ...] = ()
    helps: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        places = [list(place) for place in self.places]
        return {"text": self.text, "bad": self.bad, "places": places, "helps": list(self.helps)}


def found_in(model: torch.nn.Module, report: Report, rows: Mapping[int, LayerFigures]) -> list[Finding]:
    """The findings of a model, faults first.

    Args:
        model: as the command named it.
        report: what `check` says of it.
        rows: its layers by the tensor that they make; what is found at none of these has no place.
    """
    return sorted([*_noted(report, rows), *_patterns(model, rows)], key=lambda finding: not finding.bad)


def _noted(report: Report, rows: Mapping[int, LayerFigures]) -> Iterator[Finding]:
    """The report's notes, those that say the same together."""
    nodes = {id(row): node for node, row in rows.items()}
    noted: dict[tuple[str, str], list[LayerFigures]] = {}
    for row in report.layers:
        for note in row.notes:
            noted.setdefault((note.kind, note.text), []).append(row)
    for (kind, text), those in noted.items():
        known = [Place(row.name or row.kind, nodes[id(row)]) for row in those if id(row) in nodes]
        names = ", ".join(dict.fromkeys(row.name or row.kind for row in those[:_MOST_NAMES]))
        yield Finding(text if known else f"{names}: {text}", kind not in _HARMLESS, tuple(known))


def _patterns(model: torch.nn.Module, rows: Mapping[int, LayerFigures]) -> Iterator[Finding]:
    """The checkerboards that its layers leave, and what helps."""
    nodes = {row.name: node for node, row in rows.items() if row.name}
    try:
        found = inspect(model).findings
    except OutstrideError as error:
        yield Finding(str(error), True)
        return
    for one in found:
        if one.verdict == "even":
            continue
        ripple = "" if one.ripple is None else f", ripple {one.ripple:.3g}"
        text = f"{one.verdict} ({one.of}{ripple}): {one.layer}"
        places = (Place(one.name, nodes[one.name]),) if one.name in nodes else ()
        said = text if places else f"{one.name}: {text}"
        yield Finding(said, one.verdict not in _HARMLESS, places, tuple(map(str, one.suggestions)))
