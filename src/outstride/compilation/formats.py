"""The memory formats of values between launches: of two the one that kernels are predicted to be faster in.

A value that only kernels of this package read may lie as torch would lay it out, or with its channels side
by side (or apart, where torch has them so): no bit depends on it. A contraction reads one format and writes
another, at different costs; what is done to elements needs all its tensors alike. So values that must be
alike are one choice, each contraction is a cost that depends on two of them, and the least sum is a minimum
cut of their graph (Greig, Porteous and Seheult, "Exact maximum a posteriori estimation for binary images",
1989).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import torch
from torch import Tensor

from outstride.compilation.arena import Lifetime
from outstride.compilation.scripts import Line
from outstride.compilation.stages import Reads

#: By the number of axes of a value.
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_LEAST_SAVED = 0.01
"""Of all predicted cycles, the share that other formats must save: predictions are not better than that."""


class Formats:
    """The choice for the lines of a program; `kept` are the places of values that it returns."""

    def __init__(self, lines: Sequence[Line], kept: set[int]) -> None:
        self._lines = lines
        self._class_of = _classes(lines)
        made = {line.place for line in lines if line.formats is not None}
        fixed = kept | {p for line in lines for p in line.inputs if p not in made}
        for line in lines:
            reads = line.formats
            as_they_are = range(len(line.inputs)) if reads is None else _fixed_inputs(line, reads)
            fixed.update(line.inputs[i] for i in as_they_are)
        self._fixed = {self._class_of[place] for place in fixed if place in self._class_of}
        self._chosen: frozenset[int] | None = None
        self._costs: list[tuple[int, int, dict[tuple[bool, bool], float]]] = []

    def note(self, number: int, given: Sequence[Any], result: Any) -> None:
        """See what a line is given and makes, of the size that the choice is for."""
        line = self._lines[number]
        if self._chosen is not None or line.formats is None:
            return
        own = self._class_of[line.place]
        if not isinstance(result, Tensor) or _other_format(result) is None:
            self._fixed.add(own)
        reads = line.formats
        if reads.cycles is None or reads.free is None or not isinstance(result, Tensor):
            return
        x = given[reads.free]
        source = self._class_of.get(line.inputs[reads.free], -1)
        options = (self._is_free(source, x), self._is_free(own, result))
        if not any(options):
            return
        costs = dict[tuple[bool, bool], float]()
        for changed_x in (False, True)[: 1 + options[0]]:
            for changed_y in (False, True)[: 1 + options[1]]:
                if source != own or changed_x == changed_y:
                    costs[changed_x, changed_y] = reads.cycles(
                        given, _like(x, changed_x), _like(result, changed_y)
                    )
        self._costs.append((source, own, costs))

    def applied(self, made: Mapping[int, Lifetime]) -> dict[int, Lifetime]:
        """The values as they are to lie, by the lines that make them."""
        if self._chosen is None:
            self._chosen = self._choose()
        found = dict[int, Lifetime]()
        for number, value in made.items():
            changes = (
                number < len(self._lines) and self._class_of.get(self._lines[number].place) in self._chosen
            )
            found[number] = replace(value, strides=_other_strides(value)) if changes else value
        return found

    def _is_free(self, number: int, value: Any) -> bool:
        return (
            number >= 0
            and number not in self._fixed
            and isinstance(value, Tensor)
            and _other_format(value) is not None
        )

    def _choose(self) -> frozenset[int]:
        """The classes whose values lie in their other format."""
        graph, as_they_are = nx.DiGraph(), 0.0
        single, pairs = defaultdict[int, float](float), defaultdict[tuple[int, int], float](float)
        for source, own, costs in self._costs:
            free_x, free_y = source not in self._fixed, own not in self._fixed
            base = costs[False, False]
            as_they_are += base
            both = costs.get((True, True))
            if source == own:
                single[own] += 0.0 if both is None else both - base
                continue
            x, y = (costs.get(key) for key in ((True, False), (False, True)))
            if free_x and free_y and both is not None and x is not None and y is not None:
                single[source] += x - base
                single[own] += both - x
                pairs[source, own] += max(0.0, x + y - base - both)
            elif free_x and x is not None:
                single[source] += x - base
            elif free_y and y is not None:
                single[own] += y - base
        if not single:
            return frozenset()
        for number, cost in single.items():
            if number in self._fixed:
                continue
            if cost > 0:
                graph.add_edge("as they are", number, capacity=round(cost))
            else:
                graph.add_edge(number, "other", capacity=round(-cost))
        for (source, own), cost in pairs.items():
            graph.add_edge(source, own, capacity=round(cost))
        if not {"as they are", "other"} <= set(graph):
            chosen = {number for number, cost in single.items() if cost < 0 and number not in self._fixed}
        else:
            _, (_, there) = nx.minimum_cut(graph, "as they are", "other")
            chosen = {number for number in there if isinstance(number, int)}
        saved = -sum(self._difference(chosen, *cost) for cost in self._costs)
        return frozenset(chosen) if saved >= _LEAST_SAVED * as_they_are else frozenset()

    def _difference(
        self, chosen: set[int], source: int, own: int, costs: dict[tuple[bool, bool], float]
    ) -> float:  # fmt: skip
        return costs.get((source in chosen, own in chosen), costs[False, False]) - costs[False, False]


def _classes(lines: Sequence[Line]) -> dict[int, int]:
    """Of the places of values that lines make or read alike, a number for all that must be alike."""
    parents = dict[int, int]()

    def root(place: int) -> int:
        while parents.setdefault(place, place) != place:
            place = parents[place]
        return place

    for line in lines:
        if line.formats is None:
            continue
        own = root(line.place)
        for i in line.formats.alike:
            other = root(line.inputs[i])
            parents[max(own, other)] = own = min(own, other)
    return {place: root(place) for place in list(parents)}


def _fixed_inputs(line: Line, reads: Reads) -> list[int]:
    """The inputs that a stage takes as they are."""
    return [i for i in range(len(line.inputs)) if i != reads.free and i not in reads.alike]


def _other_format(value: Tensor) -> torch.memory_format | None:
    """The format that a value may have instead of its own; None: there is none."""
    last = _CHANNELS_LAST.get(value.dim())
    if last is None or not value.numel() or 1 in (value.shape[1], value[0, 0].numel()):
        return None
    if value.is_contiguous():
        return last
    return torch.contiguous_format if value.is_contiguous(memory_format=last) else None


def _like(value: Tensor, changed: bool) -> Tensor:
    """A meta tensor of the size of a value, as it is or in its other format."""
    if not changed:
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    memory_format = _other_format(value)
    assert memory_format is not None, "only such are free"
    return torch.empty(value.shape, dtype=value.dtype, device="meta", memory_format=memory_format)


def _other_strides(value: Lifetime) -> tuple[int, ...]:
    as_it_is = torch.empty_strided(value.shape, value.strides, device="meta")
    return tuple(_like(as_it_is, changed=True).stride()) if _other_format(as_it_is) else value.strides
