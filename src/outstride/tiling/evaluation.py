"""A box of the output, made of just the boxes that it needs.

What a box needs is found from the output back to the inputs, of every tensor the hull of what is made of
it, or a few boxes where that would be much larger; then these are made in the model's order, each forgotten
after its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from outstride.models.graph import Graph
from outstride.tiling.barriers import barrier_of
from outstride.tiling.box import Box, apart, begun, elements, holds, hull, shape_of, whole, within
from outstride.tiling.maps import Map
from outstride.tiling.rules import rule_of
from outstride.tiling.rules.interface import Rule

INPUT = 0
"""The first input, of models that have one."""
#: Positions of a tensor from which it is not made again for each tile that needs all of it.
_LARGE = 4096

Read = Callable[[int, Box], Tensor]
"""What hands over a box of an input."""
Before = Callable[[int], object]
"""What is told of each tensor before it is made."""


@dataclass(frozen=True)
class Need:
    """What boxes of outputs need of each tensor, and after which tensor it is needed no more."""

    outputs: Mapping[int, Box]
    pieces: Mapping[int, Sequence[Box]]
    """Of each tensor one box, or several that lie far apart, as where a border goes round."""
    demands: Mapping[int, Sequence[Sequence[Box | None]]]
    """For each piece of a tensor that is made, the box of each of its sources."""
    last_use: Mapping[int, int]
    given: Container[int]
    """Tensors that are not made but read where they are kept."""

    @cached_property
    def boxes(self) -> Mapping[int, Box]:
        """The box around all pieces of each tensor."""
        return {index: hull(pieces) for index, pieces in self.pieces.items()}

    @cached_property
    def parts(self) -> Mapping[int, Sequence[Box | None]]:
        """The demands of the first piece, which is the only one of a need that is cut."""
        return {index: demands[0] for index, demands in self.demands.items()}


class Program:
    """A graph with its rules, ready to make any box of its outputs.

    What looks at a whole map is done before (``passes``): of an operator whose order of sums is known, a
    barrier, what it folds the map to; of an anchor, all of its result. ``rules``: others than the usual ones.
    """

    def __init__(self, graph: Graph, rules: Mapping[int, Rule] | None = None) -> None:
        self.graph = graph
        self.rules = {
            index: rule_of(node)
            for index, node in enumerate(graph.nodes)
            if node.target is not None and index not in graph.constants
        } | dict(rules or {})
        self.kept: dict[int, Tensor] = dict(graph.constants)
        self.read_bytes = {index: graph.nodes[index].dtype.itemsize for index in graph.inputs}
        self.maps: Mapping[int, Map] = {}
        self.folded: dict[int, Any] = {}
        self.wholes = tuple(index for index in self.rules if self._needs_all(index))
        found = {index: barrier_of(graph.nodes[index]) for index in self.wholes}
        self.barriers = {index: barrier for index, barrier in found.items() if barrier is not None}
        self.anchors = tuple(index for index in self.wholes if index not in self.barriers)
        for index, barrier in self.barriers.items():
            if barrier.apply is not None:
                self.rules[index] = barrier.rule(partial(self.folded.__getitem__, index))

    def forget(self) -> None:
        """Begin anew, with whatever its inputs are now."""
        self.kept = dict(self.graph.constants)
        self.folded.clear()

    def _needs_all(self, index: int) -> bool:
        """Whether every element is made of all that depends on the input, so that it is better made once."""
        node, rule = self.graph.nodes[index], self.rules[index]
        if not elements(whole(node.shape)):
            return False
        if rule.needs_all(node):
            return any(
                (prod(shape[2:]) > 1 and not _is_vector(shape)) or prod(shape) >= _LARGE
                for source, shape in zip(node.sources, node.source_shapes, strict=True)
                if source not in self.graph.constants
            )
        images = whole(node.shape)[: len(node.shape) > 2]  # each image is made of its own
        corners = [
            (*images, *((at * (n - 1), at * (n - 1) + 1) for n in node.shape[len(images) :])) for at in (0, 1)
        ]
        for source, *parts in zip(
            node.sources, *(rule.demand(node, corner) for corner in corners), strict=True
        ):
            shape = self.graph.nodes[source].shape
            large = (
                source not in self.graph.constants and prod(shape[2:] if len(shape) > 2 else shape) >= _LARGE
            )
            if large and all(part == whole(shape) for part in parts):
                return True
        return False

    def need(
        self, output: int, box: Box, cut: Callable[[int, Box], Box] | None = None,
        given: Container[int] | None = None,
    ) -> Need:  # fmt: skip
        """What a box of an output needs.

        Args:
            output, box: of which tensor which part is made.
            cut: what is made of a tensor of which a box is needed.
            given: tensors that are read where they are kept; by default those that are.
        """
        return self.needs({output: box}, cut, given)

    def needs(
        self, outputs: Mapping[int, Box], cut: Callable[[int, Box], Box] | None = None,
        given: Container[int] | None = None,
    ) -> Need:  # fmt: skip
        """What boxes of several tensors need together."""
        given = self.maps if given is None else given
        needed: dict[int, list[Box]] = {index: [box] for index, box in outputs.items()}
        pieces: dict[int, Sequence[Box]] = {}
        demands: dict[int, Sequence[Sequence[Box | None]]] = {}
        last_use: dict[int, int] = {}
        for index in range(max(outputs), -1, -1):
            if index not in needed:
                continue
            pieces[index] = apart(needed[index]) if cut is None else (cut(index, hull(needed[index])),)
            if not self._is_made(index, outputs, given) or not elements(pieces[index][0]):
                continue
            node, rule = self.graph.nodes[index], self.rules[index]
            demands[index] = [rule.demand(node, piece) for piece in pieces[index]]
            for source, *parts in zip(node.sources, *demands[index], strict=True):
                asked = [part for part in parts if part is not None]
                if asked:
                    needed.setdefault(source, []).extend(asked)
                    last_use.setdefault(source, index)
        return Need(outputs, pieces, demands, last_use, given)

    def _is_made(self, index: int, outputs: Container[int], given: Container[int]) -> bool:
        """Whether a tensor is made for each box of an output, and not read or kept."""
        if index not in self.rules or index in self.kept or index in given:
            return False
        barrier = self.barriers.get(index)
        if barrier is not None:
            return barrier.apply is not None
        return index in outputs or index not in self.anchors

    def bytes_of(self, need: Need, index: int) -> int:
        """Those of a tensor's pieces."""
        count = sum(elements(self._computed(need, index, piece)) for piece in need.pieces[index])
        return count * self.graph.nodes[index].dtype.itemsize

    def making(self, need: Need, index: int) -> Iterator[tuple[Box, Box, Sequence[Box | None]]]:
        """Of each piece of a tensor that is made what is computed, the piece, and its demands."""
        for piece, parts in zip(need.pieces[index], need.demands[index], strict=True):
            yield self._computed(need, index, piece), piece, parts

    def computed(self, need: Need, index: int) -> Box:
        """The box of a tensor that is computed: from where it can begin with the bits of the whole."""
        return self._computed(need, index, need.boxes[index])

    def _computed(self, need: Need, index: int, box: Box) -> Box:
        return begun(box, self.alignment(index)) if index in need.demands else box

    def alignment(self, index: int) -> Sequence[int]:
        """On each axis of a tensor a number of which every start of what is computed is a multiple."""
        node, rule = self.graph.nodes[index], self.rules.get(index)
        return (1,) * len(node.shape) if rule is None else rule.alignment(node)

    @cached_property
    def is_aligned(self) -> bool:
        """Whether any tensor may be computed from other elements on than those that are needed."""
        return any(max(self.alignment(index), default=1) > 1 for index in self.rules)

    def run(self, need: Need, read: Read, before: Before = lambda _: None) -> Tensor:
        """Make the box of the only output."""
        (made,) = self.run_all(need, read, before).values()
        return made

    def run_all(self, need: Need, read: Read, before: Before = lambda _: None) -> dict[int, Tensor]:
        """Make the boxes of all outputs."""
        held: dict[int, list[Tensor]] = {}

        def taken(source: int, part: Box) -> Tensor:
            pieces = need.pieces[source]
            place = next((place for place, piece in enumerate(pieces) if holds(piece, part)), 0)
            return held[source][place][within(part, pieces[place])]

        with torch.inference_mode(), torch.autocast("cpu", enabled=False):  # casts are in the graph
            for index in sorted(need.pieces):
                before(index)
                held[index] = [
                    self._held(need, index, place, read, taken) for place in range(len(need.pieces[index]))
                ]
                for source in self.graph.nodes[index].sources if index in need.demands else ():
                    if need.last_use.get(source) == index and source not in need.outputs:
                        del held[source]
        return {index: taken(index, box) for index, box in need.outputs.items()}

    def _held(
        self, need: Need, index: int, place: int, read: Read, taken: Callable[[int, Box], Tensor]
    ) -> Tensor:
        """A piece of a tensor: kept, read or made."""
        box = need.pieces[index][place]
        if index in self.kept:
            return self.kept[index][within(box, whole(self.kept[index].shape))]
        if index in self.graph.inputs:
            return read(index, box)
        if index in need.given:
            return self.maps[index].read(box)
        if index not in need.demands:
            return torch.empty(shape_of(box), dtype=self.graph.nodes[index].dtype)
        return self.make(index, box, need.demands[index][place], taken)

    def make(
        self, index: int, box: Box, parts: Sequence[Box | None], taken: Callable[[int, Box], Tensor]
    ) -> Tensor:
        """A box of a tensor from the parts of its sources, which are taken from what is held."""
        node = self.graph.nodes[index]
        tensors = [
            None if part is None else taken(source, part)
            for source, part in zip(node.sources, parts, strict=True)
        ]
        return self.rules[index].run(node, box, parts, tensors)


def _is_vector(shape: Sequence[int]) -> bool:
    """Whether a tensor holds numbers of channels behind one position, (N, 1, 1, C), and is no map."""
    return len(shape) > 3 and prod(shape[1:-1]) == 1
