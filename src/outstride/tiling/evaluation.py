"""A box of the output, made of just the boxes that it needs.

What a box needs is found from the output back to the input, of every tensor the hull of what is made of
it; then the boxes are made in the model's order, each forgotten after its last use.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from outstride.models.graph import Graph
from outstride.tiling.box import Box, begun, elements, hull, shape_of, whole, within
from outstride.tiling.rules import rule_of

INPUT = 0
#: Elements of a tensor from which it is not made again for each tile that needs all of it.
_LARGE = 4096

Read = Callable[[Box], Tensor]
"""What hands over a box of the input."""


@dataclass(frozen=True)
class Need:
    """The box of each tensor that boxes of outputs need, and after which tensor it is needed no more."""

    outputs: Mapping[int, Box]
    boxes: Mapping[int, Box]
    parts: Mapping[int, Sequence[Box | None]]
    """For each tensor that is made, the box of each of its sources."""
    last_use: Mapping[int, int]


class Program:
    """A graph with its rules, ready to make any box of its outputs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.rules = {
            index: rule_of(node)
            for index, node in enumerate(graph.nodes)
            if node.target is not None and index not in graph.constants
        }
        self._kept: dict[int, Tensor] = dict(graph.constants)
        self.anchors = tuple(index for index in self.rules if self._needs_all(index))

    def _needs_all(self, index: int) -> bool:
        """Whether every element is made of all that depends on the input, so that it is better made once."""
        node, rule = self.graph.nodes[index], self.rules[index]
        if not elements(whole(node.shape)):
            return False
        if rule.needs_all(node):
            return any(
                prod(shape[2:]) > 1 or prod(shape) >= _LARGE
                for source, shape in zip(node.sources, node.source_shapes, strict=True)
                if source not in self.graph.constants
            )
        corners = [tuple((at * (n - 1), at * (n - 1) + 1) for n in node.shape) for at in (0, 1)]
        for source, *parts in zip(
            node.sources, *(rule.demand(node, corner) for corner in corners), strict=True
        ):
            shape = self.graph.nodes[source].shape
            large = source not in self.graph.constants and prod(shape) >= _LARGE
            if large and all(part == whole(shape) for part in parts):
                return True
        return False

    def keep(self, read: Read) -> None:
        """Make what needs every pixel, once for all boxes."""
        for index in self.anchors:
            if index not in self._kept:
                self._kept[index] = self.run(self.need(index, whole(self.graph.nodes[index].shape)), read)

    def need(self, output: int, box: Box, cut: Callable[[int, Box], Box] | None = None) -> Need:
        """What a box of an output needs; ``cut``: what is made of a tensor of which a box is needed."""
        return self.needs({output: box}, cut)

    def needs(self, outputs: Mapping[int, Box], cut: Callable[[int, Box], Box] | None = None) -> Need:
        """What boxes of several tensors need together."""
        needed: dict[int, list[Box]] = {index: [box] for index, box in outputs.items()}
        boxes: dict[int, Box] = {}
        parts: dict[int, Sequence[Box | None]] = {}
        last_use: dict[int, int] = {}
        for index in range(max(outputs), -1, -1):
            if index not in needed:
                continue
            boxes[index] = hull(needed[index])
            if cut is not None:
                boxes[index] = cut(index, boxes[index])
            if not self._is_made(index, outputs) or not elements(boxes[index]):
                continue
            node = self.graph.nodes[index]
            parts[index] = self.rules[index].demand(node, boxes[index])
            for source, part in zip(node.sources, parts[index], strict=True):
                if part is not None:
                    needed.setdefault(source, []).append(part)
                    last_use.setdefault(source, index)
        return Need(outputs, boxes, parts, last_use)

    def _is_made(self, index: int, outputs: Container[int]) -> bool:
        """Whether a tensor is made for each box of an output, and not read or kept."""
        return (
            index in self.rules
            and index not in self._kept
            and (index in outputs or index not in self.anchors)
        )

    @cached_property
    def kept_bytes(self) -> tuple[int, int]:
        """Bytes of all that is made once, and the most that making it takes."""
        held = most = 0
        for index in self.anchors:
            need = self.need(index, whole(self.graph.nodes[index].shape))
            most = max(most, held + self._made_bytes(need))
            held += self._bytes(need, index)
        return held, most

    def peak_bytes(self, need: Need) -> int:
        """The most bytes that the tensors of a box take at a time, weights aside."""
        held, most = self.kept_bytes
        return max(most, held + self._made_bytes(need))

    def _made_bytes(self, need: Need) -> int:
        held = most = 0
        ends: dict[int, list[int]] = {}
        for source, user in need.last_use.items():
            ends.setdefault(user, []).append(source)
        for index in sorted(need.boxes):
            if index != INPUT and not self._is_made(index, need.outputs):
                continue
            held += self._bytes(need, index)
            most = max(most, held + self._scratch_bytes(need, index))
            for source in ends.get(index, ()):
                if source not in need.outputs and (source == INPUT or self._is_made(source, need.outputs)):
                    held -= self._bytes(need, source)
        return most

    def _scratch_bytes(self, need: Need, index: int) -> int:
        """What making a tensor takes besides: a source in its own type, copies of parts, torch's own."""
        if index == INPUT:
            return self._bytes(need, index)
        if index not in need.parts:
            return 0
        node, parts = self.graph.nodes[index], need.parts[index]
        return self.rules[index].scratch(node, need.boxes[index], parts)

    def _bytes(self, need: Need, index: int) -> int:
        return elements(self.computed(need, index)) * self.graph.nodes[index].dtype.itemsize

    def computed(self, need: Need, index: int) -> Box:
        """The box of a tensor that is computed: from where it can begin with the bits of the whole."""
        box = need.boxes[index]
        return begun(box, self.alignment(index)) if index in need.parts else box

    def alignment(self, index: int) -> Sequence[int]:
        """On each axis of a tensor a number of which every start of what is computed is a multiple."""
        node, rule = self.graph.nodes[index], self.rules.get(index)
        return (1,) * len(node.shape) if rule is None else rule.alignment(node)

    @cached_property
    def is_aligned(self) -> bool:
        """Whether any tensor may be computed from other elements on than those that are needed."""
        return any(max(self.alignment(index), default=1) > 1 for index in self.rules)

    def run(self, need: Need, read: Read) -> Tensor:
        """Make the box of the only output."""
        (made,) = self.run_all(need, read).values()
        return made

    def run_all(self, need: Need, read: Read) -> dict[int, Tensor]:
        """Make the boxes of all outputs."""
        held: dict[int, Tensor] = {}

        def taken(source: int, part: Box) -> Tensor:
            return held[source][within(part, need.boxes[source])]

        with torch.inference_mode(), torch.autocast("cpu", enabled=False):  # casts are in the graph
            for index in sorted(need.boxes):
                if index in self._kept:
                    held[index] = self._kept[index][within(need.boxes[index], whole(self._kept[index].shape))]
                elif index == INPUT:
                    held[index] = read(need.boxes[index])
                elif index not in need.parts:
                    held[index] = torch.empty(
                        shape_of(need.boxes[index]), dtype=self.graph.nodes[index].dtype
                    )
                else:
                    held[index] = self.make(index, need.boxes[index], need.parts[index], taken)
                    for source in self.graph.nodes[index].sources:
                        if need.last_use.get(source) == index and source not in need.outputs:
                            del held[source]
        return {index: taken(index, box) for index, box in need.outputs.items()}

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
