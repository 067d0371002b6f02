"""What would be legal instead: the nearest values that make a layer, one step away from what was asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from outstride.errors import OutstrideError
from outstride.geometry import output_size
from outstride.layer.spec import ConvSpec
from outstride.studio.questions import FIELDS, call_of

#: How far a number is moved, how many ways out are offered.
_FURTHEST, _MOST_OFFERS = 24, 5
_NUMERIC = ("kernel_size", "stride", "padding", "dilation", "output_padding", "groups", "in_channels",
            "out_channels")  # fmt: skip
_LEAST = {"padding": 0, "output_padding": 0}


@dataclass(frozen=True)
class Offer:
    """One way out: what it changes, and the layer and size that it leads to."""

    label: str
    layer: str
    size: tuple[int, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        size = None if self.size is None else "x".join(map(str, self.size))
        return {"label": self.label, "layer": self.layer, "size": size}


def offers(fields: Mapping[str, Any], size: tuple[int, ...] | None, sentence: str) -> list[Offer]:
    """The nearest legal neighbours of fields that are not, those of the argument that is named first."""
    named = re.search(r"'(\w+)'", sentence)
    first = named[1] if named else ""
    found = list(_sizes(fields, size, sentence))
    order = sorted(FIELDS[fields["kind"]], key=lambda name: name != first)
    for name in order:
        if name in _NUMERIC:
            found += _of_number(name, fields, size)
    if first == "input_size":
        return found[:_MOST_OFFERS]
    mine = [offer for offer in found if offer.label.startswith(f"{first}=")]
    return [*mine, *(offer for offer in found if offer not in mine)][:_MOST_OFFERS]


def respelt(text: str, sentence: str) -> list[Offer]:
    """The word that an error says was meant, put in the place of what was typed."""
    meant = re.search(r"(?:got|argument) '?(?:[\w.]*\.)?(\w+)'? \(did you mean (\w+)\?\)", sentence)
    if meant is None or meant[1] not in text:
        return []
    better = text.replace(meant[1], meant[2], 1)
    found = _legal(better, None)
    return [Offer(meant[2], repr(found), None)] if found else []


def _sizes(fields: Mapping[str, Any], size: tuple[int, ...] | None, sentence: str) -> Iterator[Offer]:
    """The least larger input, where the layer itself is legal."""
    text = call_of(fields)
    if not _legal(text, None):
        return
    nearer = [] if size is None else [tuple(n + more for n in size) for more in range(1, _FURTHEST + 1)]
    least = re.search(r"'input_size'.*legal: (\d{1,6}) or more$", sentence)
    for larger in [*nearer, *([(int(least[1]),) * fields["nd"]] if least else [])]:
        if found := _legal(text, larger):
            yield Offer(f"input {'x'.join(map(str, larger))}", repr(found), larger)
            return


def _of_number(name: str, fields: Mapping[str, Any], size: tuple[int, ...] | None) -> Iterator[Offer]:
    """The nearest legal numbers below and above, for a field that holds one number or one for each axis."""
    numbers = [int(n) for n in re.findall(r"-?\d{1,6}", str(fields.get(name, "")))]
    if not numbers:
        return
    for sign in (-1, 1):
        for by in range(1, _FURTHEST + 1):
            value = max(numbers) + sign * by if sign < 0 else min(numbers) + by
            if value < _LEAST.get(name, 1):
                continue
            text = call_of({**fields, name: str(value)})
            if found := _legal(text, size):
                yield Offer(f"{name}={value}", repr(found), size)
                break


def _legal(text: str, size: tuple[int, ...] | None) -> ConvSpec | None:
    """The layer, where it is one and takes an input of that size."""
    try:
        spec = ConvSpec.parse(text)
        if size is not None:
            output_size(spec, size)
    except OutstrideError:
        return None
    return spec
