"""A stretch as a graph of torch's operators, as ``torch.compile`` would hand one over.

It has no inputs: what is read of the input, what is held and the model's numbers lie where they always lie.
What is new of a tensor is put behind what is held of it; what stays is stored where the next stretch finds
it. Beside convolutions and what works element by element an operator is a call of its rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

from outstride.compilation.copies import store
from outstride.compilation.vectors import InVectors
from outstride.engine.dispatch.shapes import ENGINE_DTYPES
from outstride.models.node import Node, Source
from outstride.models.operation import mapped, parameters_of
from outstride.models.operators import indexing, views
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.describing import describe
from outstride.models.operators.padding import BorderPad, ConstantPad
from outstride.models.operators.pointwise import Pointwise
from outstride.tiling.box import Box, elements, replaced, shape_of, whole
from outstride.tiling.evaluation import INPUT
from outstride.tiling.rules import convolution, pointwise
from outstride.tiling.rules.views import is_kept_together
from outstride.tiling.streams.carrying import States
from outstride.tiling.streams.lengths import Captured
from outstride.tiling.streams.stretches import Stretch

aten = torch.ops.aten
_PARTS = (ConstantPad, BorderPad, indexing.Slice, views.Alias, views.Copy)
"""Kinds whose results are parts of their source, away from borders."""
_RESHAPES = (views.Reshape, views.Squeeze, views.Unsqueeze)


class Writing:
    """Writes a stretch down while it is made of numbers: these say how every tensor lies."""

    def __init__(
        self, captured: Captured, axes: Mapping[int, int], stretch: Stretch, states: States,
        constant: Callable[[int], Tensor],
    ) -> None:  # fmt: skip
        """``constant``: the model's own numbers."""
        self._captured, self._axes, self._stretch = captured, axes, stretch
        self._states, self._constant = states, constant
        self.graph = fx.Graph()
        self.values = dict[str, Tensor]()
        """Tensors that the graph reads, and writes to, by their names in it."""
        #: What is held and new of each tensor, and what is new alone.
        self._all, self._new = dict[int, tuple[Box, fx.Node]](), dict[int, tuple[Box, fx.Node]]()
        self._placed = dict[int, fx.Node]()

    def write(self, input: Tensor, held: Mapping[int, Tensor], places: Mapping[int, Tensor]) -> Tensor:
        """Write all of it, and return the result.

        Args:
            input: the elements that are read of the input.
            held: what is held of each tensor.
            places: where what stays is stored.
        """
        need, nodes = self._stretch.need, self._captured.nodes
        self._new[INPUT] = self._all[INPUT] = need.boxes.get(INPUT, whole(input.shape)), self._given(input)
        for index, tensor in held.items():
            box = replaced(whole(nodes[index].shape), self._axes[index], self._stretch.before.held[index])
            self._all[index] = box, self._given(tensor)
        for index in held.keys() - need.parts.keys():
            self._store(index, places)
        for index in sorted(need.parts):
            self._make(index)
            if index in places:
                self._store(index, places)
        ((index, box),) = need.outputs.items()
        made = self._part(index, box)
        if made is not self._new[index][1] or self._is_lent(made):
            made = self._copied(made)
        self.graph.output([made])
        result: Tensor = made.meta["val"]
        return result

    def _given(self, value: Tensor) -> fx.Node:
        """A tensor that is there; one node for the same memory, which may be read and then written to."""
        found = self._placed.get(id(value))
        if found is None:
            name = f"value_{len(self.values)}"
            found = self._placed[id(value)] = self.graph.get_attr(name)
            found.meta["val"] = self.values[name] = value
        return found

    def _is_lent(self, node: fx.Node) -> bool:
        """Whether it lies in memory that is written to again, as a mere part of an input does."""
        memory = node.meta["val"].untyped_storage().data_ptr()
        return any(value.untyped_storage().data_ptr() == memory for value in self.values.values())

    def _called(self, target: Any, /, *args: Any, **kwargs: Any) -> fx.Node:
        """A call, and what it makes."""
        node = self.graph.call_function(target, args, kwargs)
        given, named = map_arg((args, kwargs), lambda n: n.meta["val"])
        node.meta["val"] = target(*given, **named)
        return node

    def _copied(self, node: fx.Node) -> fx.Node:
        return self._called(aten.clone.default, node, memory_format=torch.contiguous_format)

    def _without_gaps(self, node: fx.Node) -> fx.Node:
        return node if node.meta["val"].is_contiguous() else self._copied(node)

    def _part(self, index: int, box: Box) -> fx.Node:
        """A part of a tensor that is there: of what is new, if that is all."""
        if index in self._captured.program.graph.constants:
            value = self._constant(index)
            return self._cut(self._given(value), whole(value.shape), box)
        if not elements(box) and index not in self._all:
            return self._given(torch.empty(shape_of(box), dtype=self._captured.nodes[index].dtype))
        held, node = self._new.get(index, self._all[index])
        if any(a < first or b > last for (a, b), (first, last) in zip(box, held, strict=True)):
            held, node = self._all[index]
        return self._cut(node, held, box)

    def _cut(self, node: fx.Node, held: Box, box: Box) -> fx.Node:
        for axis, ((a, b), (first, last)) in enumerate(zip(box, held, strict=True)):
            if (a, b) != (first, last):
                node = self._called(aten.slice.Tensor, node, axis, a - first, b - first, 1)
        return node

    def _make(self, index: int) -> None:
        """What is new of a tensor, with what is held before it."""
        box, axis = self._stretch.need.boxes[index], self._axes.get(index)
        new = self._made(index, box)
        before = self._all.get(index)
        self._new[index] = self._all[index] = box, new
        if axis is not None and before is not None and before[0][axis][1] == box[axis][0]:
            both = self._called(aten.cat.default, [before[1], new], axis)
            self._all[index] = replaced(box, axis, (before[0][axis][0], box[axis][1])), both

    def _store(self, index: int, places: Mapping[int, Tensor]) -> None:
        """Keep what stays of a tensor."""
        if index not in places:
            return
        box = replaced(self._all[index][0], self._axes[index], self._stretch.kept[index])
        value, place = self._part(index, box), self._given(places[index])
        if value is not place:
            self._called(store, place, value)

    def _made(self, index: int, box: Box) -> fx.Node:
        node, parts = self._captured.nodes[index], self._stretch.need.parts[index]
        kind = describe(node)
        sources = [
            None if part is None else self._part(source, part)
            for source, part in zip(node.sources, parts, strict=True)
        ]
        if index in self._captured.carried:
            states = self._states
            return self._by(lambda *tensors: states.made(index, node, box, tensors), sources)
        if isinstance(kind, Convolution) and node.dtype in ENGINE_DTYPES and all(map(_has_elements, sources)):
            return self._convolved(node, kind, box, sources)
        if isinstance(kind, Pointwise) and all(source is not None for source in sources):
            return self._by_element(index, node, [source for source in sources if source is not None])
        first = sources[0] if len(sources) == 1 else None
        if first is not None and parts[0] is not None:
            is_part = isinstance(kind, _PARTS) and shape_of(parts[0]) == shape_of(box)
            if is_part and first.meta["val"].dtype == node.dtype:
                return first
            if isinstance(kind, _RESHAPES) and is_kept_together(node, box, parts[0]):
                return self._called(aten.reshape.default, first, list(shape_of(box)))
            if isinstance(kind, views.Permute):
                return self._called(aten.permute.default, first, list(kind.order))
        program = self._captured.program

        def by_rule(*tensors: Tensor) -> Tensor:
            given = iter(tensors)
            return program.rules[index].run(
                node, box, parts, [None if part is None else next(given) for part in parts]
            )

        return self._by(by_rule, sources)

    def _by(self, target: Callable[..., Tensor], sources: Sequence[fx.Node | None]) -> fx.Node:
        return self._called(target, *[source for source in sources if source is not None])

    def _convolved(
        self, node: Node, kind: Convolution, box: Box, sources: Sequence[fx.Node | None]
    ) -> fx.Node:  # fmt: skip
        held = dict(zip(node.sources, sources, strict=True))
        x, weight, bias = (None if s is None else held[s.index] for s in (kind.input, kind.weight, kind.bias))
        made = convolution.made_for(node, box)
        function, numbers = convolution.called(node, made)
        return self._cut(self._called(function, x, weight, bias, *numbers), made, box)

    def _by_element(self, index: int, node: Node, sources: Sequence[fx.Node]) -> fx.Node:
        operands = list(sources)
        if index not in self._captured.remade:  # those a convolution does where it reads
            operands = [self._without_gaps(source) for source in sources]
        placed, named = _arguments(node, dict(zip(node.sources, operands, strict=True)))
        values = [operand.meta["val"] for operand in operands]
        if index in self._captured.remade or pointwise.is_called(node, values):
            return self._called(node.target, *placed, **named)
        by_torch = pointwise.in_vectors(node, values[0])
        others = [a for a in (*placed[1:], *named.values()) if isinstance(a, fx.Node)]
        if placed[:1] != operands or others or not pointwise.is_as_in_order(node, values[0].dtype):
            return self._by(by_torch, operands)
        return self._called(InVectors(node.target, tuple(placed[1:]), named, by_torch), operands[0])


def _arguments(node: Node, held: Mapping[int, fx.Node]) -> tuple[list[Any], dict[str, Any]]:
    """What a node's operator is called with."""

    def put(value: Any) -> Any:
        return held[value.index] if isinstance(value, Source) else value

    named = {name: mapped(put, value) for name, value in node.arguments().items()}
    placed = list[Any]()
    for parameter in parameters_of(node.target):
        if parameter.kwarg_only or parameter.name not in named:
            break
        placed.append(named.pop(parameter.name))
    return placed, named


def _has_elements(node: fx.Node | None) -> bool:
    return node is not None and node.meta["val"].numel() > 0
