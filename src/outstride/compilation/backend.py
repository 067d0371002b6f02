"""The backend that ``torch.compile`` finds under the name "outstride"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from torch._dynamo.backends.common import aot_autograd  # what every backend of torch.compile begins with
from torch.fx import GraphModule

from outstride.compilation.derivatives import whole_derivatives
from outstride.compilation.fusing import Fusion, fused
from outstride.compilation.in_place import quick_in_place
from outstride.compilation.resizing import whole_resizing
from outstride.compilation.running import Program
from outstride.compilation.serving import served
from outstride.compilation.strides import torchs_strides
from outstride.compilation.tracing import traced_by
from outstride.errors import ArgumentError
from outstride.layer.arguments import choice
from outstride.layer.shortening import ALGORITHMS, AlgorithmName
from outstride.models.isolation import undisturbed

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Those of ``torch.compile``: all ask for the same here, where a plan is chosen by prediction."""


@dataclass(frozen=True)
class Options:
    """What ``torch.compile(..., options={...})`` may hold.

    Args:
        algorithm: of convolutions, as ``accelerate`` takes it.
        frozen: promise that nobody writes to weights, as for ``accelerate``.
        fuse: False computes every operator by itself, which gives the same bits.
    """

    algorithm: AlgorithmName = "auto"
    frozen: bool = False
    fuse: bool = True

    @classmethod
    def read(cls, mode: Any, given: Any) -> Options:
        """Those of a call of ``torch.compile``.

        Raises:
            ArgumentError: a mode or an option of which nothing is known, or with a value that it cannot have.
        """
        if mode is not None and mode not in MODES:
            raise ArgumentError(f"'mode' must be one of {', '.join(map(repr, MODES))}: got {mode!r}.")
        names = [field.name for field in fields(cls)]
        if given is not None and not isinstance(given, Mapping):
            raise ArgumentError(f"'options' must be a dict: got {given!r}; legal: {{'algorithm': 'direct'}}.")
        for name, value in (given or {}).items():
            if name not in names:
                raise ArgumentError(f"'options' must be of {', '.join(map(repr, names))}: got {name!r}.")
            if name != "algorithm" and not isinstance(value, bool):
                raise ArgumentError(f"'options' must have True or False for {name!r}: got {value!r}.")
        found = cls(**(given or {}))
        choice("algorithm", found.algorithm, ALGORITHMS)
        return found


def outstride(
    graph: GraphModule, example_inputs: Sequence[Any], *, mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """Compile a graph of torch's functions; ``torch.compile(model, backend="outstride")`` calls this.

    Args:
        graph: what torch's tracer found in a part of a model that has no graph break.
        example_inputs: tensors like those that it will be called with, and sizes.
        mode: one of torch's, all of which ask for the same.
        options: see ``Options``.

    Returns:
        What computes the graph, with the bits of ``accelerate(model)``.

    Raises:
        ArgumentError: unknown or impossible options.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
        >>> compiled = torch.compile(model, backend="outstride")
        >>> compiled(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 8, 6, 6])
    """
    return compiled(graph, example_inputs, Options.read(mode, options))


def compiled(
    graph: GraphModule, example_inputs: Sequence[Any], options: Options,
    report: Callable[[Fusion, Program], None] | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """Compile a graph, and say of what it and its derivative consist."""
    part = partial(_part, options=options, report=report)
    training = partial(part, trained=True)
    # Statistics that a checkpointed part writes in its graph are what its derivative finds them to be.
    compiler = aot_autograd(
        fw_compiler=training, bw_compiler=training, inference_compiler=part,
        keep_inference_input_mutations=True,
    )  # fmt: skip
    kernels = {**whole_resizing(), **quick_in_place(), **whole_derivatives()}
    with traced_by(kernels), torchs_strides(example_inputs):
        run: Callable[..., Any] = compiler(served(graph, options.algorithm), example_inputs)
    return run


def _part(
    graph: GraphModule,
    _: Sequence[Any],
    *,
    options: Options,
    report: Callable[[Fusion, Program], None] | None,
    trained: bool = False,
) -> Callable[..., Any]:
    """What computes a graph of operators, forward or backward; where weights are `trained` in between."""
    with undisturbed():  # the tracer's modes are on, and kernels are tried
        fusion = fused(graph, options.fuse, trained)
    program = Program(fusion, options.frozen)
    if report is not None:
        report(fusion, program)

    def run(values: list[Any]) -> Any:
        return program(values)

    vars(run)["_boxed_call"] = True  # torch hands its list over, to be emptied
    return run
