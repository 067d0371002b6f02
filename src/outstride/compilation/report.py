"""``fusions``: what ``torch.compile(model, backend="outstride")`` makes of a model, operator by operator."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils._pytree import tree_leaves

from outstride.compilation.backend import Options, compiled
from outstride.compilation.fusing import Fusion
from outstride.compilation.layers import traced_modules
from outstride.compilation.prediction import predicted_ms
from outstride.compilation.running import Program
from outstride.compilation.stages import Stage
from outstride.compilation.values import is_number
from outstride.compilation.wording import is_view, word
from outstride.errors import ArgumentError
from outstride.models.operators import convolution
from outstride.output.tables import html_table, text_table

_HEAD = ("computed by", "operators", "layer", "result", "ms", "why no more")
_WIDEST = (18, 38, 26, 20)
"""Characters of the columns in text; the last one has what is left of a line."""
_LINE = 140
_NAMED = 4
"""Layers in no graph whose names are in the summary."""
_OFTEN = 2**30
"""How often torch's tracer may see parts of a model that breaks, which are codes of their own."""
_REGISTERED = re.compile(r"\._modules\['([^']+)'\]")
"""A layer of a model as the tracers of older torches name it; later ones leave that to nobody."""


@dataclass(frozen=True)
class Launch:
    """One launch, or one call of torch's: its operators, where they stand in the model, and what it makes."""

    graph: str
    computed_by: str
    operators: tuple[str, ...]
    layer: str
    shape: tuple[int | str, ...]
    predicted_ms: float | None
    reason: str
    bands: int = 0
    """In how many bands of rows it makes its value, in turn with its neighbours; 0: all of it at once."""

    @property
    def is_ours(self) -> bool:
        """Whether a kernel of this package computes it."""
        return self.computed_by != "torch"


@dataclass(frozen=True)
class Fusions:
    """What became of every operator of a model, printable; views and constants are left out."""

    model: str
    launches: tuple[Launch, ...]
    values_bytes: int = 0
    """What the values between launches take, each by itself."""
    arena_bytes: int = 0
    """What they take as they lie, those that are never needed at the same time in the same place."""
    untraced: tuple[str, ...] = ()
    """Convolution and linear layers that no graph holds: never called, or by code that is not compiled."""

    @property
    def fused(self) -> int:
        """Operators that are part of another one's launch."""
        return sum(len(launch.operators) - 1 for launch in self.launches)

    @property
    def operators(self) -> int:
        """Operators of all launches."""
        return sum(len(launch.operators) for launch in self.launches)

    @property
    def by_torch(self) -> int:
        """Launches that are calls of torch's."""
        return sum(not launch.is_ours for launch in self.launches)

    @property
    def predicted_ms(self) -> float | None:
        """What all launches take, where each is known."""
        known = [launch.predicted_ms for launch in self.launches if launch.predicted_ms is not None]
        return sum(known) if len(known) == len(self.launches) else None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "model": self.model, "operators": self.operators, "fused": self.fused, "by_torch": self.by_torch,
            "predicted_ms": self.predicted_ms, "values_bytes": self.values_bytes,
            "arena_bytes": self.arena_bytes, "untraced": list(self.untraced),
            "launches": [
                vars(launch) | {"operators": list(launch.operators), "shape": list(launch.shape)}
                for launch in self.launches
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        rows = [_narrow(row) for row in self._rows()]
        left = _LINE - sum(max(map(len, column)) + 2 for column in zip(_HEAD, *rows, strict=True)) + 2
        left += max(map(len, [_HEAD[-1], *(row[-1] for row in rows)]))
        rows = [(*row[:-1], _begin(row[-1], left)) for row in rows]
        return "\n".join([*self._summary(), *text_table([_HEAD, *rows], right=(4,))])

    def _repr_html_(self) -> str:
        return html_table("; ".join(self._summary()), _HEAD, self._rows())

    def _summary(self) -> list[str]:
        predicted, threads = self.predicted_ms, torch.get_num_threads()
        operators, launches = _count(self.operators, "operator"), _count(len(self.launches), "launch")
        first = f"{self.model}: {operators} in {launches}"
        lines = [f"{first}, {self.fused} of them fused into another; {self.by_torch} by torch"]
        if predicted is not None:
            lines.append(f"predicted {predicted:.3g} ms on {_count(threads, 'thread')}")
        if self.values_bytes:
            values, arena = (f"{size / 1e6:.3g} MB" for size in (self.values_bytes, self.arena_bytes))
            lines.append(f"values between launches: {values} apart, {arena} as they lie")
        banded = sum(launch.bands > 0 for launch in self.launches)
        if banded:
            lines.append(f"{_count(banded, 'launch')} make bands of rows in turn with their neighbours")
        if self.untraced:
            names = ", ".join(self.untraced[:_NAMED]) + (", ..." if len(self.untraced) > _NAMED else "")
            layers = _count(len(self.untraced), "layer")
            lines.append(f"{layers} in no graph, run as they are if they are called: {names}")
        return lines

    def _rows(self) -> list[tuple[str, ...]]:
        several = len({launch.graph for launch in self.launches}) > 1
        return [
            (
                f"{launch.graph.split()[-1]}: {launch.computed_by}" if several else launch.computed_by,
                " + ".join(launch.operators), launch.layer, " x ".join(map(str, launch.shape)),
                "" if launch.predicted_ms is None else f"{launch.predicted_ms:.3f}", launch.reason,
            )
            for launch in self.launches
        ]  # fmt: skip


def fusions(model: Callable[..., Any], *inputs: Any, options: dict[str, Any] | None = None) -> Fusions:
    """Say what ``torch.compile(model, backend="outstride")`` makes of every operator, and why.

    Args:
        model: a module or function, compiled or not. It is run once on the inputs, as it is: in training
            mode if it is in that, and its derivative, too, if gradients are on.
        inputs: its arguments.
        options: those of the backend, such as ``{"algorithm": "direct"}``.

    Returns:
        The launches in order, graph by graph where the model breaks into several; print it, or read
        its ``launches``.

    Raises:
        ArgumentError: `model` cannot be called, or is TorchScript, or an option is unknown.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
        >>> with torch.no_grad():
        ...     print(fusions(model, torch.zeros(1, 3, 8, 8)).launches[0].operators)
        ('conv', 'relu')
    """
    original = getattr(model, "_orig_mod", model)
    if not callable(original):
        raise ArgumentError(f"'model' must be a module or a function: got {type(original).__name__}.")
    if isinstance(original, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise ArgumentError(
            f"'model' must be Python that torch.compile traces: got {type(original).__name__} of TorchScript."
        )
    found, traced = _compiled_once(original, inputs, Options.read(None, options))
    launches = (
        _launch(stage, f"graph {number}" if len(found) > 1 else "", bands.get(line, 0))
        for number, (fusion, bands) in enumerate(((fusion, _bands(program)) for fusion, program in found), 1)
        for line, stage in enumerate(fusion.stages)
        if not stage.is_view and stage.label != "constant" and not is_number(stage.output)
    )
    plans = [plan for _, program in found for plan in program.plans]
    name = type(original).__name__ if isinstance(original, torch.nn.Module) else getattr(
        original, "__name__", type(original).__name__
    )  # fmt: skip
    return Fusions(
        name, tuple(launch for launch in launches if launch.operators),
        sum(value.size_bytes for plan in plans for value, _ in plan.places),
        sum(plan.size_bytes for plan in plans), tuple(_others(original, traced)),
    )  # fmt: skip


def _others(model: Any, traced: Container[int]) -> Iterator[str]:
    """The layers of a model, if it is one, whose calls were not traced."""
    for name, module in model.named_modules() if isinstance(model, torch.nn.Module) else ():
        if isinstance(module, (convolution.FAMILY, torch.nn.Linear)) and id(module) not in traced:
            yield name or "the model"


def _compiled_once(
    model: Callable[..., Any], inputs: Sequence[Any], options: Options
) -> tuple[list[tuple[Fusion, Program]], set[int]]:
    """What becomes of each graph of a model, which is run once for it, and which modules are in a graph."""
    found, traced = list[tuple[Fusion, Program]](), set[int]()

    def backend(graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        traced.update(traced_modules(graph))
        return compiled(graph, example_inputs, options, lambda *made: found.append(made))

    limits = {"cache_size_limit": _OFTEN, "accumulated_cache_size_limit": _OFTEN}
    with torch._dynamo.config.patch(limits):  # noqa: SLF001 - torch's tracer has no other door
        result = torch.compile(_anew(_call), backend=backend, dynamic=False)(model, *inputs)
        _differentiate(result, [model, inputs])
    return found, traced


def _call(model: Callable[..., Any], *inputs: Any) -> Any:
    return model(*inputs)


def _anew(function: Any) -> Callable[..., Any]:
    """A function like this one, of a code of its own.

    Torch's tracer counts how often it compiles a code, and gives up; reports do not use that up.
    """
    return FunctionType(function.__code__.replace(), function.__globals__)


def _differentiate(result: Any, of: Any) -> None:
    """Have the derivative compiled, too, which torch does when it is asked for; nothing is kept of it."""
    made = [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.requires_grad]
    leaves = [t for t in tree_leaves(of) if isinstance(t, Tensor)]
    for module in (m for m in tree_leaves(of) if isinstance(m, torch.nn.Module)):
        leaves += module.parameters()
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    if made and wanted:
        torch.autograd.grad(made, wanted, [torch.zeros_like(t) for t in made], allow_unused=True)


def _bands(program: Program) -> dict[int, int]:
    """The bands of each line that makes some."""
    return {
        line.line: segment.bands * segment.threads
        for plan in program.plans
        for segment in plan.segments
        for line in segment.lines
    }


def _launch(stage: Stage, graph: str, bands: int) -> Launch:
    value = stage.output.meta.get("val")
    made: Any = next(iter(value), None) if isinstance(value, (tuple, list)) else value
    shape: tuple[Any, ...] = tuple(made.shape) if isinstance(made, Tensor) else ()
    sizes = tuple(size if type(size) is int else str(size) for size in shape)
    nodes = [node for node in stage.nodes if len(stage.nodes) == 1 or not is_view(node)]
    operators = tuple(name for name in map(word, nodes) if name)
    predicted = predicted_ms(stage)
    return Launch(graph, stage.label, operators, _layer(stage.head), sizes, predicted, stage.reason, bands)


def _layer(node: Node) -> str:
    """The layer that an operator belongs to, by its name in the model."""
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    path = _REGISTERED.sub(r".\1", modules[-1][0] if modules else "")
    inside = path.rsplit("']", 1)[-1].lstrip(".") if "']" in path else path
    return inside.removeprefix("__self__.")


def _narrow(row: tuple[str, ...]) -> tuple[str, ...]:
    """A row whose cells fit into their columns: of many operators the first ones, of a long name its end."""
    by, operators, layer, result, ms, why = row
    names = operators.split(" + ")
    shown = len(names)
    while len(operators) > _WIDEST[1] and shown > 1:
        shown -= 1
        operators = " + ".join([*names[:shown], f"{len(names) - shown} more"])
    if len(layer) > _WIDEST[2]:
        layer = "..." + layer[3 - _WIDEST[2] :]
    return by, _begin(operators, _WIDEST[1]), layer, _begin(result, _WIDEST[3]), ms, why


def _begin(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def _count(number: int, what: str) -> str:
    plural = "es" if what.endswith("ch") else "s"
    return f"{number} {what}{'' if number == 1 else plural}"
