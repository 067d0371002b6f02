"""The figures of every layer of a model, from its trace and its lineages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from outstride.acceleration import accelerate
from outstride.engine.launch.plans import declines
from outstride.inspection.costs import Products, products, size_bytes
from outstride.inspection.field import Field
from outstride.inspection.lineage import Lineage
from outstride.inspection.rules.visit import Note
from outstride.inspection.walk import Walk
from outstride.models.call import Call
from outstride.models.operators import convolution, views
from outstride.models.operators.describing import VIEWS, describe
from outstride.models.operators.pointwise import is_tagged
from outstride.models.trace import Layer, Trace
from outstride.nn.kinds import ServedConv, ServedConvTranspose

_SERVED = (ServedConv, ServedConvTranspose)


@dataclass(frozen=True)
class LayerFigures:
    """One layer, or one operation outside of layers: what it makes and where that comes from.

    Per axis of the image, in ``fields``, the stride so far, the middle and the interval that each output
    phase reads; an axis is missing there once no position is left along it, and all of them are once
    something before is not understood.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    fields: Mapping[int, Field]
    whole: tuple[int, ...]
    """Axes of the image of which every element reads everything."""
    unknown: tuple[str, ...]
    """Operations before or in it that are not understood; the figures from there on are not known."""
    multiply_adds: int
    multiply_adds_dense: int
    parameters: int
    output_bytes: int
    engine: str | None
    """"served", or why this engine does not serve the convolution; None for everything else."""
    notes: tuple[Note, ...] = field(default=())

    @property
    def plain(self) -> bool:
        """Whether it changes neither grid nor size and multiplies nothing: an activation, for one."""
        return not (
            self.multiply_adds_dense or self.notes or self.kind in _GRIDS or "pool" in self.kind.lower()
        )


_GRIDS = frozenset({"Upsample", "PixelShuffle", "PixelUnshuffle", "ZeroPad2d", "ReflectionPad2d", "cat"})


def figures(model: torch.nn.Module, trace: Trace, walk: Walk) -> list[LayerFigures]:
    """The figures of every layer that runs, in order, and of what happens between layers."""
    originals = dict(model.named_modules())
    counted: set[int] = set()
    rows = []
    for group in _groups(trace, walk):
        tensor = group.output
        lineage = walk.lineage(tensor)
        cost = sum((products(call) for _, call in group.calls), Products())
        parameters, engine = 0, None
        if group.layer is not None:
            new = [p for p in group.layer.module.parameters() if id(p) not in counted]
            counted.update(map(id, new))
            parameters = sum(p.numel() for p in new)
            engine = _served(originals.get(group.layer.name, group.layer.module))
        if engine is None and any("conv" in call.name for _, call in group.calls):
            engine = "called as a function, not as a layer"
        found = Lineage(()) if lineage is None else lineage.settled()
        rows.append(
            LayerFigures(
                group.name,
                group.kind,
                tuple(tensor.shape),
                {} if found.unknown else dict(sorted(found.fields.items())),
                tuple(sorted(found.whole)),
                tuple(sorted(found.unknown)),
                cost.formed,
                cost.dense,
                parameters,
                size_bytes(tensor),
                engine,
                group.notes,
            )
        )
    return rows


@dataclass
class _Group:
    name: str
    kind: str
    layer: Layer | None
    calls: list[tuple[int, Call]]
    output: Tensor
    notes: tuple[Note, ...] = ()


def _groups(trace: Trace, walk: Walk) -> Iterator[_Group]:
    notes: dict[int, list[Note]] = {}
    for note in walk.notes:
        notes.setdefault(note.call, []).append(note)
    index = 0
    while index < len(trace.calls):
        call = trace.calls[index]
        layer = _outermost_leaf(trace, call.module)
        if layer is None:
            if _worth_a_row(call, walk) or index in notes:
                name = trace.layers[call.module].name if call.module >= 0 else ""
                kind = call.name.split(".")[1].strip("_")
                yield _Group(name, kind, None, [(index, call)], call.outputs[0], tuple(notes.get(index, ())))
            index += 1
            continue
        calls = [(n, trace.calls[n]) for n in range(index, layer.last)]
        found = tuple(note for n, _ in calls for note in notes.get(n, ()))
        output = layer.outputs[0] if layer.outputs else calls[-1][1].outputs[0]
        yield _Group(layer.name, type(layer.module).__name__, layer, calls, output, found)
        index = layer.last


def _outermost_leaf(trace: Trace, number: int) -> Layer | None:
    found = None
    while number >= 0:
        layer = trace.layers[number]
        if layer.leaf:
            found = layer
        number = layer.parent
    return found


def _worth_a_row(call: Call, walk: Walk) -> bool:
    if not call.outputs:
        return False
    if products(call).dense:
        return True
    coming = sum(walk.lineage(tensor) is not None for tensor in call.inputs)
    kind = describe(call)
    if coming == 0 or (isinstance(kind, (*VIEWS, views.Copy)) and call.name not in _SHOWN):
        return False
    return coming > 1 or not is_tagged(call)


#: Views that torch takes by itself, such as at the end of a matrix product, which has no layer to stand in.
_SHOWN = frozenset({"aten._unsafe_view", "aten._reshape_alias"})


def _served(module: Any) -> str | None:
    if not isinstance(module, convolution.LAYERS):
        return None
    served: Any = module if isinstance(module, _SERVED) else accelerate(module)
    if not isinstance(served, _SERVED):
        return f"{type(module).__name__} computes in its own way"
    weight: Tensor = module.weight
    reason = declines(weight.dtype, weight.device)
    return "served" if reason is None else reason


def stride_of(row: LayerFigures, axis: int) -> Fraction | None:
    """Pixels of the input for one position of the output along an axis of the image."""
    return row.fields[axis].stride if axis in row.fields else None
