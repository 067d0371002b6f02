"""The graph that is written anew: every tensor in parts of its axes, views where parts must come together."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from outstride.models.graph import Graph
from outstride.models.node import Node, Source
from outstride.models.operation import mapped
from outstride.models.operators.describing import describe
from outstride.models.unmerging.parts import (
    Axes,
    in_parts_of,
    length_of,
    meeting_axes,
    parted,
    plain,
    sizes_of,
    strides_of,
)

_VIEW, _PERMUTE = torch.ops.aten.view.default, torch.ops.aten.permute.default


@dataclass(frozen=True)
class Held:
    """A tensor of the old graph: the node of the new one that holds it, and in which parts."""

    index: int
    axes: Axes
    strides: tuple[int, ...]
    """Of the axes, not of their parts."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the parts."""
        return sizes_of(self.axes)

    def place(self, axis: int) -> int:
        """The first part of an axis among all parts."""
        return sum(len(parts) for parts in self.axes[:axis])

    @property
    def is_plain(self) -> bool:
        """Whether no axis has several parts."""
        return all(len(axis) == 1 for axis in self.axes)


Write = Callable[["Builder", Node, Any], "Held | None"]
"""Writes an operator in parts; None where it has to be written as it was."""


class Builder:
    """A graph that grows."""

    def __init__(self, graph: Graph, writers: Mapping[type, Write], served: Container[torch.dtype]) -> None:
        self._graph, self._writers, self._served = graph, writers, served
        self.nodes: list[Node] = []
        self.constants: dict[int, Tensor] = {}
        self._held: list[Held] = []
        self._views: dict[tuple[int, tuple[int, ...]], int] = {}

    def build(self) -> Graph:
        """All of it."""
        for index, node in enumerate(self._graph.nodes):
            self._held.append(self._written(index, node))
        outputs = tuple(self.plain(self._held[index]).index for index in self._graph.outputs)
        return replace(self._graph, nodes=tuple(self.nodes), constants=self.constants, outputs=outputs)

    def _written(self, index: int, node: Node) -> Held:
        if node.target is None:
            self.nodes.append(node)
            if index in self._graph.constants:
                self.constants[len(self.nodes) - 1] = self._graph.constants[index]
            return Held(len(self.nodes) - 1, plain(node.shape), node.strides)
        kind = describe(node)
        write = self._writers.get(type(kind))
        made = None if write is None or 0 in node.shape else write(self, node, kind)
        if made is not None:
            return made
        sources = {source: self.plain(self._held[source]) for source in node.sources}
        return self.add(node, plain(node.shape), sources)

    # What operators are written of.
    def held(self, source: Source) -> Held:
        """Where a source is."""
        return self._held[source.index]

    def reads_through(self, source: Source, held: Held) -> None:
        """Have whatever is written from now on read a source where it is held so."""
        self._held[source.index] = held

    def serves(self, dtype: torch.dtype) -> bool:
        """Whether linear maps of such numbers can be written as convolutions."""
        return dtype in self._served

    def operator(self, source: Source) -> Any:
        """What made a source; None for what nothing did."""
        node = self._graph.nodes[source.index]
        return None if node.target is None else describe(node)

    def constant(self, source: Any) -> Tensor | None:
        """The numbers of a source that does not depend on the input."""
        return None if source is None else self._graph.constants.get(source.index)

    def add(
        self, node: Node, axes: Axes, sources: Mapping[int, Held], kind: Any = None, **changed: Any
    ) -> Held:
        """An operator as it was, on these tensors and with some arguments changed.

        ``kind``: what it is now, where that is not what its name says.
        """

        def put(value: Any) -> Any:
            return Source(sources[value.index].index) if isinstance(value, Source) else value

        arguments = {name: mapped(put, value) for name, value in (node.arguments() | changed).items()}
        found = tuple(dict.fromkeys(sources[source].index for source in node.sources))
        return self._add(node, arguments, found, axes, kind)

    def add_of(self, node: Node, axes: Axes, sources: Sequence[int], kind: Any) -> Held:
        """Another operator in the place of one, which ``kind`` says all of."""
        return self._add(node, {}, tuple(sources), axes, kind)

    def _add(
        self, node: Node, arguments: Mapping[str, Any], sources: tuple[int, ...], axes: Axes, kind: Any
    ) -> Held:
        made = replace(
            node, args=(), kwargs=arguments, sources=sources, kind=kind,
            source_shapes=tuple(self.nodes[i].shape for i in sources),
            source_strides=tuple(self.nodes[i].strides for i in sources),
            shape=sizes_of(axes), strides=strides_of(axes, node.strides),
        )  # fmt: skip
        self.nodes.append(made)
        return Held(len(self.nodes) - 1, axes, node.strides)

    def add_constant(self, value: Tensor) -> int:
        """Numbers of our own."""
        self.nodes.append(
            Node(None, (), {}, (), (), (), tuple(value.shape), value.stride(), value.dtype, None)
        )
        self.constants[len(self.nodes) - 1] = value
        return len(self.nodes) - 1

    def viewed(self, held: Held, axes: Axes, strides: Sequence[int] | None = None) -> Held:
        """The same elements in other parts; ``strides``: of the axes, where they are others."""
        strides, shape = tuple(held.strides if strides is None else strides), sizes_of(axes)
        if shape == held.shape:
            return Held(held.index, axes, strides)
        known = self._views.get((held.index, shape))
        if known is None:
            source = self.nodes[held.index]
            self.nodes.append(
                Node(
                    _VIEW, (), {"self": Source(held.index), "size": list(shape)}, (held.index,),
                    (source.shape,), (source.strides,), shape, strides_of(axes, strides), source.dtype,
                )
            )  # fmt: skip
            known = self._views[held.index, shape] = len(self.nodes) - 1
        return Held(known, axes, strides)

    def turned(self, held: Held, order: Sequence[int]) -> Held:
        """The same with its axes, each of one part, in another order."""
        source, strides = self.nodes[held.index], tuple(held.strides[axis] for axis in order)
        shape = tuple(held.shape[axis] for axis in order)
        self.nodes.append(
            Node(
                _PERMUTE, (), {"self": Source(held.index), "dims": list(order)}, (held.index,),
                (source.shape,), (source.strides,), shape, strides, source.dtype,
            )
        )  # fmt: skip
        return Held(len(self.nodes) - 1, tuple(held.axes[axis] for axis in order), strides)

    def plain(self, held: Held, axes: Sequence[int] | None = None) -> Held:
        """The same with some axes, or all of them, in one part."""
        chosen = range(len(held.axes)) if axes is None else axes
        made = tuple(
            parted(parts, (length_of(parts),)) if axis in chosen else parts
            for axis, parts in enumerate(held.axes)
        )
        return self.viewed(held, made)

    def together(
        self, helds: Sequence[Held], shape: Sequence[int], apart: Sequence[int] = ()
    ) -> tuple[list[Held], Axes]:
        """Tensors that broadcast to a shape, in parts that meet, and those of the result.

        ``apart``: axes of the result along which they are plain, whatever their sizes.
        """
        axes = meeting_axes([held.axes for held in helds], shape, apart)
        return [self.viewed(held, in_parts_of(held.axes, axes)) for held in helds], axes
