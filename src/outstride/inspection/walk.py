"""From a trace to lineages: each operation through its rule, writes in place and whole layers included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from outstride.inspection.lineage import Lineage, free
from outstride.inspection.rules import RULES
from outstride.inspection.rules.convolution import with_padding_mode
from outstride.inspection.rules.recurrent import recurrent_layer
from outstride.inspection.rules.visit import Note, NotUnderstoodError, Result, Visit, known
from outstride.models.call import Call
from outstride.models.operators import convolution, indexing, recurrent, views
from outstride.models.operators.describing import VIEWS, describe
from outstride.models.operators.reach import Reach
from outstride.models.trace import Layer, Trace

Slices = dict[int, tuple[int, int]]
"""First element and step along each axis of the tensor that a slice was taken from."""


class Walk:
    """The lineages of every tensor of a trace, and what there is to note."""

    def __init__(self, trace: Trace, axes: Sequence[int]) -> None:
        self.trace = trace
        self.notes: list[Note] = []
        self.unknown: dict[int, str] = {}
        self._found: dict[int, Lineage] = {id(trace.input): Lineage.start(trace.input.shape, axes)}
        self._views: dict[int, tuple[Tensor, Slices | None]] = {}
        self._made: dict[int, list[Call]] = {}
        units = {layer.first: layer for layer in trace.layers if layer.first < layer.last and _is_unit(layer)}
        self.units = frozenset(id(layer) for layer in units.values())
        index = 0
        while index < len(trace.calls):
            if index in units:
                self._unit(units[index], index)
                index = units[index].last
                continue
            self._call(trace.calls[index], index)
            index += 1

    def lineage(self, tensor: Tensor) -> Lineage | None:
        """Where a tensor's elements come from; None where they do not depend on the input."""
        return self._found.get(id(tensor))

    def _call(self, call: Call, index: int) -> None:
        kind = describe(call)
        if isinstance(kind, VIEWS):
            self._note_view(call, kind)
        sources = [tensor for tensor in call.inputs if self.lineage(tensor) is not None]
        if not sources or not call.outputs:
            return
        visit = Visit(call, index, self.lineage, self.notes, self._is_comb)
        try:
            result = self._apply(visit, kind)
        except NotUnderstoodError as reason:
            result = self._lost(call, index, sources, f"{call.name}: {reason}")
        results = [result] * len(call.outputs) if isinstance(result, Lineage) else list(result or [])
        if call.is_in_place:
            self._write(call, index, results[0] if results else None)
        else:
            self._keep(call, results)

    def _keep(self, call: Call, results: Sequence[Lineage | None]) -> None:
        for tensor, lineage in zip(call.outputs, results, strict=False):
            if lineage is not None:
                assert lineage.shape == tuple(tensor.shape), (call.name, lineage.shape, tuple(tensor.shape))
                self._found[id(tensor)] = lineage

    def _apply(self, visit: Visit, kind: Any) -> Result:
        if visit.call.functional_name == "aten.as_strided" and visit.shape == visit.source.shape:
            return visit.source  # torch's own way to choose a memory layout for what it has just made
        rule = RULES.get(type(kind))
        if rule is None:
            raise NotUnderstoodError("no rule for it")
        return rule(visit, kind)

    def _lost(self, call: Call, index: int, sources: Sequence[Tensor], text: str) -> list[Lineage | None]:
        self.unknown.setdefault(index, text)
        self.notes.append(Note("unknown", index, text))
        before = [found for found in map(self.lineage, sources) if found is not None]
        unknown = frozenset({text}).union(*(found.unknown for found in before))
        whole = frozenset[int]().union(*(found.whole for found in before))
        return [
            Lineage(tuple(map(free, tensor.shape)), whole=whole, unknown=unknown) for tensor in call.outputs
        ]

    def _note_view(self, call: Call, kind: Any) -> None:
        parent = call.args[0]
        base, slices = self._views.get(id(parent), (parent, {}))
        self._made.setdefault(id(base), []).append(call)
        for output in call.outputs:
            chain: Slices | None = None
            if isinstance(kind, indexing.Slice) and slices is not None:
                first, every = kind.positions.start, kind.positions.step
                before, step = slices.get(kind.axis, (0, 1))
                chain = {**slices, kind.axis: (before + step * first, step * every)}
            elif isinstance(kind, views.Alias):
                chain = slices
            self._views[id(output)] = (base, chain)

    def _is_comb(self, tensor: Tensor) -> bool:
        _, slices = self._views.get(id(tensor), (tensor, None))
        return slices is not None and any(every > 1 for _, every in slices.values())

    def base(self, tensor: Tensor) -> Tensor:
        """The tensor that this one is a view of, or itself."""
        return self._views.get(id(tensor), (tensor, None))[0]

    def _write(self, call: Call, index: int, result: Lineage | None) -> None:
        """A tensor is changed in place: so is the one that it is a view of."""
        target = call.args[0]
        if result == self.lineage(target):
            return
        if result is None:
            if id(target) not in self._views:
                self._found.pop(id(target), None)
            return
        self._found[id(target)] = result
        base, slices = self._views.get(id(target), (target, {}))
        if base is not target:
            self._found[id(base)] = self._pasted_into(base, slices, result, call, index)
        self._look_again(base, target, index)

    def _pasted_into(
        self, base: Tensor, slices: Slices | None, part: Lineage, call: Call, index: int
    ) -> Lineage:
        old = self.lineage(base)
        try:
            if slices is None:
                raise NotUnderstoodError("writes into a tensor through a view of it")
            pasted = _pasted(part, tuple(base.shape), slices)
            visit = Visit(call, index, self.lineage, self.notes)
            return pasted if old is None else visit.broadcast([pasted, old], tuple(base.shape), True)
        except NotUnderstoodError as reason:
            whole = part.whole | (old.whole if old else frozenset())
            text = f"{call.name}: {reason}"
            self.unknown.setdefault(index, text)
            self.notes.append(Note("unknown", index, text))
            dims = tuple(map(free, base.shape))
            return Lineage(dims, whole=whole, unknown=part.unknown | {text})

    def _look_again(self, base: Tensor, written: Tensor, index: int) -> None:
        """Other views of a tensor that was written show what was written."""
        for call in self._made.get(id(base), ()):
            sources = [tensor for tensor in call.inputs if self.lineage(tensor) is not None]
            if not sources or any(output is written for output in call.outputs):
                continue
            try:
                result = self._apply(Visit(call, index, self.lineage, []), describe(call))
            except NotUnderstoodError as reason:
                result = self._lost(call, index, sources, f"{call.name}: {reason}")
            self._keep(call, [result] * len(call.outputs) if isinstance(result, Lineage) else result or [])

    def _unit(self, layer: Layer, index: int) -> None:
        source = self.lineage(layer.inputs[0])
        if source is None:
            return
        call = Call(type(layer.module).__name__, layer.inputs, {}, layer.outputs)
        visit = Visit(call, index, self.lineage, self.notes)
        try:
            rule = recurrent_layer if isinstance(layer.module, recurrent.LAYER) else with_padding_mode
            results: Sequence[Lineage | None] = rule(visit, layer.module)
        except NotUnderstoodError as reason:
            results = self._lost(call, index, [layer.inputs[0]], f"{type(layer.module).__name__}: {reason}")
        for tensor, lineage in zip(layer.outputs, results, strict=False):
            if isinstance(lineage, Lineage):
                self._found[id(tensor)] = lineage


def _is_unit(layer: Layer) -> bool:
    """Whether a layer is taken as one: what torch or this package does inside it would hide what it is."""
    module: Any = layer.module
    if not layer.leaf or not layer.inputs or not layer.outputs:
        return False
    if isinstance(module, recurrent.LAYER):
        return True
    plain = type(module).__module__.startswith(("torch.nn.", "outstride.nn"))
    return plain and isinstance(module, convolution.LAYERS) and module.padding_mode != "zeros"


def _pasted(lineage: Lineage, shape: Sequence[int], slices: Slices) -> Lineage:
    for dim, (first, every) in slices.items():
        if (first, every, lineage.shape[dim]) != (0, 1, shape[dim]):
            lineage = known(lineage.through(dim, Reach.paste(first, every), shape[dim]))
    return lineage
