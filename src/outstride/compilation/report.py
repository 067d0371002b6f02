"""``fusions``: what ``torch.compile(model, backend="outstride")`` makes of a model, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from outstride.compilation.backend import Options, compiled
from outstride.compilation.fusing import Fusion
from outstride.compilation.prediction import predicted_ms
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator
from outstride.errors import ArgumentError
from outstride.output.tables import html_table, text_table

_WORDS = {
    "_native_batch_norm_legit_no_training": "batch_norm",
    "_native_batch_norm_legit": "batch_norm of the input",
    "native_batch_norm": "batch_norm of the input",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "_prelu_kernel": "prelu",
}
"""What users call torch's operators."""
_HEAD = ("computed by", "operators", "layer", "result", "predicted ms", "why no more")


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

    @property
    def is_ours(self) -> bool:
        """Whether a kernel of this package computes it."""
        return self.computed_by != "torch"


@dataclass(frozen=True)
class Fusions:
    """What became of every operator of a model, printable; views and constants are left out."""

    model: str
    launches: tuple[Launch, ...]

    @property
    def fused(self) -> int:
        """Operators that are part of another one's launch."""
        return sum(len(launch.operators) - 1 for launch in self.launches)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "model": self.model, "operators": sum(len(launch.operators) for launch in self.launches),
            "fused": self.fused, "by_torch": sum(not launch.is_ours for launch in self.launches),
            "launches": [
                vars(launch) | {"operators": list(launch.operators), "shape": list(launch.shape)}
                for launch in self.launches
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join([self._summary(), *text_table([_HEAD, *self._rows()], right=(4,))])

    def _repr_html_(self) -> str:
        return html_table(self._summary(), _HEAD, self._rows())

    def _summary(self) -> str:
        operators = sum(len(launch.operators) for launch in self.launches)
        torchs = sum(not launch.is_ours for launch in self.launches)
        return (
            f"{self.model}: {operators} operators in {len(self.launches)} launches, {self.fused} of them "
            f"fused into another; {torchs} by torch"
        )

    def _rows(self) -> list[tuple[str, ...]]:
        several = len({launch.graph for launch in self.launches}) > 1
        return [
            (
                f"{launch.graph}: {launch.computed_by}" if several else launch.computed_by,
                " + ".join(launch.operators), launch.layer, " x ".join(map(str, launch.shape)),
                "" if launch.predicted_ms is None else f"{launch.predicted_ms:.3f}", launch.reason,
            )
            for launch in self.launches
        ]  # fmt: skip


def fusions(model: Callable[..., Any], *inputs: Any, options: dict[str, Any] | None = None) -> Fusions:
    """Say what ``torch.compile(model, backend="outstride")`` makes of every operator, and why.

    Args:
        model: a module or function, compiled or not. It is run once on the inputs, as it is: in training
            mode, and with gradients, if these are on.
        inputs: its arguments.
        options: those of the backend, such as ``{"algorithm": "direct"}``.

    Returns:
        The launches in order, graph by graph where the model breaks into several; print it, or read
        its ``launches``.

    Raises:
        ArgumentError: `model` cannot be called, or an option is unknown.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
        >>> with torch.no_grad():
        ...     print(fusions(model, torch.zeros(1, 3, 8, 8)).launches[0].operators)
        ('conv', 'relu')
    """
    original = getattr(model, "_orig_mod", model)
    if not callable(original):
        raise ArgumentError(f"'model' must be a module or a function: got {type(original).__name__}.")
    found = list[Fusion]()

    def backend(graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        return compiled(graph, example_inputs, Options.read(None, options), found.append)

    torch.compile(original, backend=backend)(*inputs)
    launches = (
        _launch(stage, f"graph {number}" if len(found) > 1 else "")
        for number, fusion in enumerate(found, 1)
        for stage in fusion.stages
        if not stage.is_view and stage.label != "constant" and not _is_number(stage.output)
    )
    name = type(original).__name__ if isinstance(original, torch.nn.Module) else getattr(
        original, "__name__", type(original).__name__
    )  # fmt: skip
    return Fusions(name, tuple(launches))


def _launch(stage: Stage, graph: str) -> Launch:
    value = stage.output.meta.get("val")
    made: Any = next(iter(value), None) if isinstance(value, (tuple, list)) else value
    shape: tuple[Any, ...] = tuple(made.shape) if isinstance(made, Tensor) else ()
    sizes = tuple(size if type(size) is int else str(size) for size in shape)
    operators = tuple(name for name in map(_name, stage.nodes) if name)
    return Launch(graph, stage.label, operators, _layer(stage.head), sizes, predicted_ms(stage), stage.reason)


def _is_number(node: Node) -> bool:
    """Whether a node is a size, or made of sizes."""
    return isinstance(node.meta.get("val"), (int, torch.SymInt))


def _name(node: Node) -> str:
    """What an operator is called; the taking of a result has no name."""
    if node.op != "call_function":
        return str(node.target)
    if not hasattr(node.target, "_schema"):
        return ""
    name = Operator.of(node).name.split(".", 1)[-1]
    return _WORDS.get(name, name)


def _layer(node: Node) -> str:
    """The layer that an operator belongs to, by its name in the model."""
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    path: str = modules[-1][0] if modules else ""
    return path.rsplit("']", 1)[-1].lstrip(".") if "']" in path else path
