"""A whole model on the page: its tensors in order, what each position reads of the input, its findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from threading import Lock
from typing import Any

import torch

from outstride.errors import ArgumentError, OutstrideError
from outstride.inspection import Report, check
from outstride.inspection.figures import LayerFigures
from outstride.inspection.rendering import axis_names, summary
from outstride.models.copying import inferring
from outstride.models.graph import Graph, capture
from outstride.models.node import Node
from outstride.studio.findings import found_in
from outstride.studio.learned import Learned, learned_of
from outstride.studio.naming import family_of, named, operator_of, rows_of
from outstride.studio.questions import size_of
from outstride.studio.reaching import reach
from outstride.studio.speed import predicted_of
from outstride.tiling.box import Box
from outstride.tiling.evaluation import INPUT, Program

Answer = dict[str, Any]
_MOST_NODES, _MOST_NAMES = 2000, 3


class Network:
    """A model that the command named, with the shape that it is asked about; nothing is run on numbers."""

    def __init__(
        self, name: str, model: torch.nn.Module, shape: Sequence[int], report: Report | None = None
    ) -> None:
        """Take a model; ``report`` is what `check` has said of it at that shape already."""
        self.name, self.model, self.shape = name, inferring(model), tuple(shape)
        self._lock, self._report = Lock(), report

    def answers(self) -> Mapping[str, Callable[[Mapping[str, Any]], Answer]]:
        """The questions that a page may ask of it."""
        more = {} if self.learned is None else self.learned.answers()
        return {"model": self.described, "field": self.field, "fit": self.fit, **more}

    def start(self) -> Mapping[str, str]:
        """What the page is told of it before it asks."""
        return {"model": self.name, **({} if self.learned is None else {"learned": self.learned.name})}

    @cached_property
    def learned(self) -> Learned | None:
        """The kernels that its first layer learned."""
        return learned_of(self.model)

    @cached_property
    def report(self) -> Report:
        """Where every layer looks, what it costs, which sizes the model takes."""
        return named(self._report or check(self.model, self.shape), self.model)

    @cached_property
    def graph(self) -> Graph:
        """Its tensors and what makes them.

        Of doubles, whose sums are direct: what a place reads is then its window alone, and not the cell of a
        short algorithm that it is made in. A model that knows its own type is taken as it is.
        """
        try:
            return capture(deepcopy(self.model).double(), self.shape, torch.float64)
        except OutstrideError:
            dtype = next((p.dtype for p in self.model.parameters()), torch.float32)
            return capture(self.model, self.shape, dtype)

    @cached_property
    def program(self) -> Program:
        """The same with a rule for each, which knows what a box needs."""
        return Program(self.graph)

    def described(self, question: Mapping[str, Any]) -> Answer:
        """Everything that the picture shows, before anybody points at it."""
        del question
        with self._lock:
            return self._described

    @cached_property
    def _layers(self) -> Mapping[int, LayerFigures]:
        return rows_of(self.graph, self.report)

    @cached_property
    def _described(self) -> Answer:
        graph, report = self.graph, self.report
        if len(graph.nodes) > _MOST_NODES:
            raise ArgumentError(
                f"'MODEL' must have few enough tensors to be drawn: got {len(graph.nodes)}; "
                f"legal: {_MOST_NODES}"
            )
        rows = self._layers
        kept = [i for i in range(len(graph.nodes)) if i not in graph.constants]
        return {
            "name": self.name, "shape": list(self.shape), "nodes": [self._node(i, rows) for i in kept],
            "chains": _chains(graph, kept), "summary": [list(line) for line in summary(report)],
            "findings": [finding.to_dict() for finding in found_in(self.model, report, rows)],
        }  # fmt: skip

    def _node(self, index: int, rows: Mapping[int, Any]) -> Answer:
        node, row = self.graph.nodes[index], rows.get(index)
        kind = "input" if node.target is None else operator_of(node)
        made: Answer = {
            "index": index, "kind": kind, "family": family_of(kind), "shape": list(node.shape),
            "sources": [s for s in node.sources if s not in self.graph.constants], "layer": "", "facts": [],
        }  # fmt: skip
        if row is not None:
            made["layer"], made["facts"] = row.name, [*_facts(row, self._axes), *self._time(node, row)]
        return made

    @property
    def _axes(self) -> Sequence[str]:
        return axis_names(self.report)

    def _time(self, node: Node, row: Any) -> list[list[str]]:
        """What the engine predicts for a layer that it serves, by itself: not fused with its neighbours."""
        if row.engine != "served" or not row.name:
            return []
        # A layer may be called under a name that is none of a module: then nothing is known of it.
        layer = dict(self.model.named_modules()).get(row.name)
        said = "" if layer is None else predicted_of(layer, self.graph.nodes[node.sources[0]].shape)
        return [["predicted", said]] if said else []

    def field(self, question: Mapping[str, Any]) -> Answer:
        """The box of every tensor that one position of a tensor reads, back to the input."""
        index, at = question.get("node"), question.get("at")
        with self._lock:
            nodes = self.graph.nodes
            if not isinstance(index, int) or not 0 <= index < len(nodes) or index in self.graph.constants:
                raise ArgumentError(f"'node' must be a tensor of the model: got {str(index)[:20]}; legal: 0")
            box = _position(nodes[index].shape, at)
            found = reach(self.program, index, box)
            names = [self._name(i) for i in found.through]
        boxes = {str(i): [list(span) for span in box[2:]] for i, box in found.boxes.items()}
        first = found.boxes.get(INPUT)
        reads = "" if first is None else " × ".join(f"{b - a} ({a} to {b - 1})" for a, b in first[2:])
        more = max(0, len(names) - _MOST_NAMES)
        return {"boxes": boxes, "reads": reads, "through": names[:_MOST_NAMES], "more": more}

    def _name(self, index: int) -> str:
        """The layer that makes a tensor, or the operator."""
        row = self._layers.get(index)
        return row.name if row is not None and row.name else operator_of(self.graph.nodes[index])

    def fit(self, question: Mapping[str, Any]) -> Answer:
        """Whether the model takes a size, and what to pad or crop where not."""
        axes = len(self.report.axes)
        size = size_of(question, "size", axes)
        if size is None:
            raise ArgumentError("'size' must be given: got none; legal: 224")
        said = []
        for name, fit in zip(self._axes, self.report.fit(size), strict=True):
            if fit.pad == 0:
                said.append(f"{name} {fit.size}: taken as it is")
                continue
            ways = [f"pad {fit.pad} at the high side"] if fit.pad is not None else []
            ways += [f"crop {fit.crop}"] if fit.crop is not None else []
            said.append(f"{name} {fit.size}: {' or '.join(ways) or 'no size near it is taken'}")
        return {"said": said}


def _position(shape: Sequence[int], at: object) -> Box:
    """One position of all channels; tensors without positions are whole."""
    places = shape[2:]
    if (
        not isinstance(at, list)
        or len(at) != len(places)
        or not all(_inside(a, n) for a, n in zip(at, places, strict=True))
    ):
        raise ArgumentError(
            f"'at' must be a place of the tensor: got {str(at)[:40]}; legal: below {list(places)}"
        )
    return (*((0, n) for n in shape[:2]), *((a, a + 1) for a in at))


def _inside(at: object, size: int) -> bool:
    return isinstance(at, int) and not isinstance(at, bool) and 0 <= at < size


def _chains(graph: Graph, kept: Sequence[int]) -> list[list[int]]:
    """Tensors in order, those that change single elements of the one before, and alone use it, beside it."""
    users: dict[int, int] = {}
    for index in kept:
        for source in set(graph.nodes[index].sources):
            users[source] = users.get(source, 0) + 1
    chains: list[list[int]] = []
    for index in kept:
        node = graph.nodes[index]
        sources = [s for s in node.sources if s not in graph.constants]
        last = chains[-1][-1] if chains else None
        alone = last is not None and sources == [last] and users[last] == 1
        plain = node.target is not None and family_of(operator_of(node)) == "pointwise"
        if alone and plain and last is not None and tuple(node.shape) == tuple(graph.nodes[last].shape):
            chains[-1].append(index)
        else:
            chains.append([index])
    return chains


def _facts(row: LayerFigures, names: Sequence[str]) -> list[list[str]]:
    """What the report says of a layer, a name and a word each."""
    found = [
        ["kind", row.kind],
        ["multiply-adds", f"{row.multiply_adds:,}"],
        ["parameters", f"{row.parameters:,}"],
    ]
    for axis, field in row.fields.items():
        sizes = " or ".join(str(n) for n in sorted(set(field.sizes))[:4])
        found.append([names[axis], f"stride {field.stride}, reads {sizes}, offset {field.offset}"])
    found += [["whole image", "every output reads all of it"]] if row.whole else []
    return found + ([["engine", row.engine]] if row.engine is not None else [])
