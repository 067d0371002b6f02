"""From a trace to lineages: each operation through its rule, writes in place and whole layers included."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from outstride.geometry import axis_phases, resolved_padding
from outstride.inspection import moves, sums, windows
from outstride.inspection.gather import Gather
from outstride.inspection.lineage import Lineage, free
from outstride.inspection.moves import VIEWS, bounds
from outstride.inspection.steps import Note, NotUnderstoodError, Result, Step, known
from outstride.layer.spec import ConvSpec
from outstride.models.trace import Call, Layer, Trace

RULES = moves.RULES | windows.RULES | sums.RULES
# Torch does not tag these as working element by element, though they do.
ELEMENTWISE = frozenset(
    f"aten.{name}"
    for name in (
        *("native_dropout", "bernoulli", "max.other", "min.other", "hardswish", "hardsigmoid", "hardtanh"),
        *("_prelu_kernel", "prelu", "rrelu_with_noise", "celu", "selu", "mish", "softplus", "relu6", "logit"),
        *("log_sigmoid_forward", "threshold", "hardshrink", "softshrink", "nan_to_num"),
        *("fake_quantize_per_tensor",),
    )
)
_BORDERED = tuple(
    getattr(torch.nn, f"Conv{transpose}{nd}d") for transpose in ("", "Transpose") for nd in (1, 2, 3)
)
_SEQUENTIAL = (torch.nn.RNNBase,)

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
        packet, overload = call.name.rsplit(".", 1)
        in_place = packet.endswith("_") and not packet.endswith("__")
        name = packet.rstrip("_") if in_place else packet
        if name.removeprefix("aten.") in VIEWS:
            self._note_view(call, name)
        sources = [tensor for tensor in call.inputs if self.lineage(tensor) is not None]
        if not sources or not call.outputs:
            return
        step = Step(call, index, self.lineage, self.notes, self._is_comb)
        try:
            result = self._apply(step, name, overload, sources)
        except NotUnderstoodError as reason:
            result = self._lost(call, index, sources, f"{packet}: {reason}")
        results = [result] * len(call.outputs) if isinstance(result, Lineage) else list(result or [])
        if in_place:
            self._write(call, index, results[0] if results else None)
        else:
            self._keep(call, results)

    def _keep(self, call: Call, results: Sequence[Lineage | None]) -> None:
        for tensor, lineage in zip(call.outputs, results, strict=False):
            if lineage is not None:
                assert lineage.shape == tuple(tensor.shape), (call.name, lineage.shape, tuple(tensor.shape))
                self._found[id(tensor)] = lineage

    def _apply(self, step: Step, name: str, overload: str, sources: Sequence[Tensor]) -> Result:
        call = step.call
        if name == "aten.copy":
            written = step.lineage(1)
            return None if written is None else step.met([written], step.shape)
        if name == "aten.as_strided" and step.shape == tuple(step.source.shape):
            return step.source  # torch's own way to choose a memory layout for what it has just made
        rule = RULES.get(name)
        if rule is not None and overload != "other":
            return rule(step)
        if call.pointwise or name in ELEMENTWISE or f"{name}.{overload}" in ELEMENTWISE:
            lineages = [found for found in map(self.lineage, sources) if found is not None]
            return [step.met(lineages, step.shape)] * len(call.outputs)
        raise NotUnderstoodError("no rule for it")

    def _lost(self, call: Call, index: int, sources: Sequence[Tensor], text: str) -> list[Lineage | None]:
        self.unknown.setdefault(index, text)
        self.notes.append(Note("unknown", index, text))
        before = [found for found in map(self.lineage, sources) if found is not None]
        unknown = frozenset({text}).union(*(found.unknown for found in before))
        whole = frozenset[int]().union(*(found.whole for found in before))
        return [
            Lineage(tuple(map(free, tensor.shape)), whole=whole, unknown=unknown) for tensor in call.outputs
        ]

    def _note_view(self, call: Call, name: str) -> None:
        parent = call.args[0]
        base, slices = self._views.get(id(parent), (parent, {}))
        self._made.setdefault(id(base), []).append(call)
        for output in call.outputs:
            chain: Slices | None = None
            if name == "aten.slice" and slices is not None:
                dim, first, every = bounds(Step(call, -1, self.lineage, []))
                before, step = slices.get(dim, (0, 1))
                chain = {**slices, dim: (before + step * first, step * every)}
            elif name in ("aten.alias", "aten.detach"):
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
            step = Step(call, index, self.lineage, self.notes)
            return pasted if old is None else step.met([pasted, old], tuple(base.shape), True)
        except NotUnderstoodError as reason:
            whole = part.whole | (old.whole if old else frozenset())
            text = f"{call.name.rsplit('.', 1)[0]}: {reason}"
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
            packet, overload = call.name.rsplit(".", 1)
            try:
                result = self._apply(Step(call, index, self.lineage, []), packet, overload, sources)
            except NotUnderstoodError as reason:
                result = self._lost(call, index, sources, f"{packet}: {reason}")
            self._keep(call, [result] * len(call.outputs) if isinstance(result, Lineage) else result or [])

    def _unit(self, layer: Layer, index: int) -> None:
        source = self.lineage(layer.inputs[0])
        if source is None:
            return
        call = Call(f"layer.{type(layer.module).__name__}.", layer.inputs, {}, layer.outputs, -1)
        step = Step(call, index, self.lineage, self.notes)
        try:
            rule = _recurrent if isinstance(layer.module, _SEQUENTIAL) else _bordered
            results: Sequence[Lineage | None] = rule(step, layer.module)
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
    if isinstance(module, _SEQUENTIAL):
        return True
    plain = type(module).__module__.startswith(("torch.nn.", "outstride.nn"))
    return plain and isinstance(module, _BORDERED) and module.padding_mode != "zeros"


def _bordered(step: Step, module: Any) -> Sequence[Lineage]:
    """A convolution with a padding mode, which acts on the border alone."""
    spec = ConvSpec.of(module)
    size = tuple(step.call.inputs[0].shape[-spec.nd :])
    lineage = windows.summed_channels(step, spec.nd)
    first = len(lineage.dims) - spec.nd
    pads = resolved_padding(spec, size)
    for number, phases in enumerate(axis_phases(spec, size)):
        middle = Fraction(spec.window[number] - 1, 2) - pads[number][0]
        gather = windows.gather_of(phases, middle)
        lineage = known(lineage.moved(first + number, gather, step.shape[first + number]))
    if spec.padding_mode == "circular" and any(map(any, pads)):
        step.wraps("circular padding reads the far side of the image")
    return [lineage]


def _recurrent(step: Step, module: Any) -> Sequence[Lineage]:
    """An RNN, GRU or LSTM: the sequence stays, everything in it reads what came before."""
    rank = len(step.source.dims)
    along = rank - 2 if module.batch_first or rank == 2 else 0
    source = step.source.reduced([rank - 1])[0]
    summed, covered = source.reduced([along])
    step.sees_all(covered, sums.WHY["scan"])
    met = step.met([source, summed], (*step.shape[:-1], 1), silent=True).put(rank - 1, free(step.shape[-1]))
    last = Lineage((), whole=met.whole, unknown=met.unknown)
    rest = [
        Lineage(tuple(map(free, tensor.shape)), whole=last.whole, unknown=last.unknown)
        for tensor in step.call.outputs[1:]
    ]
    return [met, *rest]


def _pasted(lineage: Lineage, shape: Sequence[int], slices: Slices) -> Lineage:
    for dim, (first, every) in slices.items():
        if (first, every, lineage.shape[dim]) != (0, 1, shape[dim]):
            lineage = known(lineage.moved(dim, Gather.paste(first, every), shape[dim]))
    return lineage
