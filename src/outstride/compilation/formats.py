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
from outstride.engine.launch.memory_format import FORMATS

_LEAST_SAVED = 0.01
"""Of all predicted cycles, the share that other formats must save: predictions are not better than that."""
#: The ends of the cut; others are numbers of classes.
_AS_THEY_ARE, _OTHER = -2, -3


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
            changes = self._class_of.get(self._lines[number].place) in self._chosen
            found[number] = replace(value, strides=_other_strides(value)) if changes else value
        return found

    def changes(self, line: Line) -> bool:
        """Whether a line is to read or to make a value in another format than the one that was noted."""
        places = (*line.inputs, line.place)
        return self._chosen is not None and any(self._class_of.get(p) in self._chosen for p in places)

    def _is_free(self, number: int, value: Any) -> bool:
        own = number >= 0 and number not in self._fixed
        return own and isinstance(value, Tensor) and _other_format(value) is not None

    def _choose(self) -> frozenset[int]:
        """The classes whose values lie in their other format."""
        single, pairs = self._terms()
        graph = nx.DiGraph()
        graph.add_nodes_from((_AS_THEY_ARE, _OTHER))
        for number, cost in single.items():
            ends = (_AS_THEY_ARE, number) if cost > 0 else (number, _OTHER)
            graph.add_edge(*ends, capacity=round(abs(cost)))
        for (source, own), cost in pairs.items():
            graph.add_edge(source, own, capacity=round(cost))
        _, (_, there) = nx.minimum_cut(graph, _AS_THEY_ARE, _OTHER)
        chosen = there - {_OTHER}
        before = sum(costs[False, False] for _, _, costs in self._costs)
        after = sum(
            costs.get((source in chosen, own in chosen), costs[False, False])
            for source, own, costs in self._costs
        )
        return frozenset(chosen) if before - after > _LEAST_SAVED * before else frozenset()

    def _terms(self) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
        """What a class adds where it changes, and two where the first stays as it is and the second changes.

        With a cost c of formats (input, result), as they are or changed, c[x, y] is the sum of c[0, 0], of
        c[1, 0] - c[0, 0] for a changed input, of c[1, 1] - c[1, 0] for a changed result, and of what mixed
        formats cost more than equal ones where only the result changes. That is seldom less than nothing,
        which no cut can weigh.
        """
        single, pairs = defaultdict[int, float](float), defaultdict[tuple[int, int], float](float)
        for source, own, costs in self._costs:
            base, both = costs[False, False], costs.get((True, True))
            of_x, of_y = costs.get((True, False)), costs.get((False, True))
            free_x, free_y = source not in self._fixed, own not in self._fixed
            if source == own and both is not None and free_y:
                single[own] += both - base
            elif free_x and free_y and both is not None and of_x is not None and of_y is not None:
                single[source] += of_x - base
                single[own] += both - of_x
                pairs[source, own] += max(0.0, of_x + of_y - base - both)
            elif free_x and of_x is not None:
                single[source] += of_x - base
            elif free_y and of_y is not None:
                single[own] += of_y - base
        return single, pairs


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
    last = FORMATS.get(value.dim())
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
