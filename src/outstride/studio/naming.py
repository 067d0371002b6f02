"""Which row of a report made which tensor of a graph, and what the layers of a saved program were called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from outstride.inspection import Report
from outstride.inspection.figures import LayerFigures
from outstride.models.graph import Graph
from outstride.models.node import Node

#: Layers and operators that come down to one operator, under its name.
_SORTS = {
    "Conv": "convolution", "ConvTranspose": "convolution", "conv": "convolution",
    "conv_transpose": "convolution", "MaxPool": "max_pool", "AvgPool": "avg_pool", "Linear": "linear",
    "BatchNorm": "batch_norm", "InstanceNorm": "batch_norm", "instance_norm": "batch_norm",
    "GroupNorm": "group_norm", "LayerNorm": "layer_norm", "PixelShuffle": "pixel_shuffle",
    "AdaptiveAvgPool": "mean", "adaptive_avg_pool": "mean", "Upsample": "upsample",
}  # fmt: skip


def rows_of(graph: Graph, report: Report) -> dict[int, LayerFigures]:
    """The report's rows by the tensor that they made: operators and layers of a sort come in one order.

    Sorts of which there are not equally many, or whose shapes differ, are left out.
    """
    made = [i for i, node in enumerate(graph.nodes) if node.target is not None and i not in graph.constants]
    nodes = _by_sort((_last(graph.nodes[i]), i) for i in made)
    found: dict[int, LayerFigures] = {}
    for sort, rows in _by_sort((row.kind, row) for row in report.layers).items():
        those = nodes.get(sort, [])
        if [tuple(row.output_shape) for row in rows] == [tuple(graph.nodes[i].shape) for i in those]:
            found |= dict(zip(those, rows, strict=True))
    return found


def named(report: Report, model: torch.nn.Module) -> Report:
    """A report whose rows have the names of the layers that a saved program was exported from."""
    if not isinstance(model, torch.fx.GraphModule):
        return report
    calls = [node for node in model.graph.nodes if node.op == "call_function"]
    names = _by_sort((str(node.target).removeprefix("aten.").partition(".")[0], node) for node in calls)
    rows = _by_sort((row.kind, place) for place, row in enumerate(report.layers) if not row.name)
    layers = list(report.layers)
    for sort, places in rows.items():
        found = names.get(sort, [])
        if len(found) == len(places):
            for place, node in zip(places, found, strict=True):
                layers[place] = replace(layers[place], name=_layer(node))
    return replace(report, layers=tuple(layers))


def _layer(node: Any) -> str:
    """The layer within which an operator was called, by the names that torch.export keeps."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _by_sort(pairs: Iterable[tuple[str, Any]]) -> Mapping[str, Sequence[Any]]:
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(_sort(name), []).append(value)
    return found


def _sort(name: str) -> str:
    plain = re.sub(r"^_*(native_)?|(_with_indices)?_*$", "", name.removeprefix("Served"))
    plain = re.sub(r"[123]d$", "", plain)
    return _SORTS.get(plain, "upsample" if plain.startswith("upsample") else plain)


def _last(node: Node) -> str:
    return node.name.rpartition(".")[2]


def operator_of(node: Node) -> str:
    """What makes a tensor, in the words of torch's layers."""
    last = _last(node).strip("_").removeprefix("native_").removesuffix("_with_indices")
    if last == "convolution":
        return "conv_transpose" if node.argument("transposed") else "conv"
    return last


def family_of(kind: str) -> str:
    """How a tensor that an operator of that name makes is drawn."""
    if kind.startswith("conv"):
        return "transposed" if "transpose" in kind else "conv"
    if any(word in kind for word in ("pool", "upsample", "interpolate", "shuffle")):
        return "resampling"
    return {"input": "input", "cat": "joining", "add": "joining"}.get(kind, "pointwise")
