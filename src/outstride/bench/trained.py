"""Residuals on real data: small networks, trained here for some seconds, and what rounding does to them.

Weights and signals drawn at random have no structure; learned ones have, and ReLUs between them. A network is
run in float64, each layer is given the very inputs that it had there, rounded to float32, and what short
algorithms and the direct chain make of them is compared with float64. So is the whole network.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from outstride.bench.trained_networks import TASKS, Task
from outstride.bench.work import LAYERS, residual, takes_short
from outstride.engine.runtime import resolved
from outstride.errors import ArgumentError
from outstride.layer.spec import ConvSpec

STEPS = 150
WHOLE = "the whole network"


def select(patterns: Sequence[str]) -> list[str]:
    """The networks whose name holds one of the texts; all where there is none."""
    found = [name for name in TASKS if not patterns or any(p.lower() in name.lower() for p in patterns)]
    if not found:
        raise ArgumentError(f"'filter' must be a part of {', '.join(TASKS)}: got {', '.join(patterns)}.")
    return found


def observe(name: str, threads: int, steps: int = STEPS) -> Iterator[dict[str, Any]]:
    """Train a network, and judge each of its layers by short algorithms, then the whole.

    Raises:
        ArgumentError: this process computes by none, so there is nothing to compare.
    """
    if resolved("auto") == "direct":
        raise ArgumentError("'--study trained' must run where OUTSTRIDE_ALGORITHM is not 'direct'.")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        task = TASKS[name]()
        first, last = train(task, steps)
        for layer, found in judge(task.network, task.shown):
            entry = {"id": f"{name}: {layer}", "network": name, "layer": layer, "threads": threads}
            yield {
                **entry,
                "contender": "outstride",
                "cache": "",
                "steps": steps,
                "loss": last / first,
                **found,
            }
    finally:
        torch.set_num_threads(before)


def train(task: Task, steps: int) -> tuple[float, float]:
    """Train by this package's layers; the mean losses of the first and of the last tenth of the steps."""
    from outstride import accelerate

    served, draws = accelerate(task.network), torch.Generator().manual_seed(1)
    optimiser = torch.optim.Adam(served.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps + 1)
    losses = []
    for _ in range(steps):
        loss = task.loss(served, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    tenth = max(1, steps // 10)
    return sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth


@torch.no_grad()
def judge(network: nn.Module, shown: Tensor) -> Iterator[tuple[str, dict[str, float]]]:
    """Every layer that takes short algorithms on its own inputs, then the whole network."""
    exact = copy.deepcopy(network).double()
    modules: Iterator[tuple[str, nn.Module]] = exact.named_modules()
    layers = {name: m for name, m in modules if isinstance(m, tuple(LAYERS.values()))}
    inputs: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        inputs[layer] = given[0].float()

    hooks = [layer.register_forward_pre_hook(note) for layer in layers.values()]
    truth = exact(shown.double())
    for hook in hooks:
        hook.remove()
    for name, layer in layers.items():
        spec = ConvSpec.of(layer)
        if takes_short(spec, torch.float32):
            x = inputs[layer]
            yield f"{name}: {_words(spec)}", compare(network.get_submodule(name), x, layer(x.double()))
    yield WHOLE, compare(network, shown, truth)


def _words(spec: ConvSpec) -> str:
    """A layer by what its algorithm depends on."""
    name = f"Conv{'Transpose' if spec.kind == 'conv_transpose' else ''}{spec.nd}d"
    words = [str(spec.in_channels), str(spec.out_channels), str(spec.kernel_size[0])]
    words += [f"stride={spec.stride[0]}"] * (spec.stride[0] > 1)
    words += [f"dilation={spec.dilation[0]}"] * (spec.dilation[0] > 1)
    return f"{name}({', '.join(words)})"


@torch.no_grad()
def compare(module: nn.Module, x: Tensor, truth: Tensor) -> dict[str, float]:
    """Errors of both ways, the largest and the root mean square, how far the two lie apart, and zeros of x.

    Errors are shares of the largest value of the float64 result, zeros of all inputs.
    """
    from outstride import accelerate

    short, direct = (accelerate(module, algorithm=name)(x) for name in ("auto", "direct"))
    scale = float(truth.abs().max())

    def mean(y: Tensor) -> float:
        return float((y.double() - truth).square().mean().sqrt()) / scale

    return {
        "residual": residual((short,), (truth,)), "direct_residual": residual((direct,), (truth,)),
        "mean_error": mean(short), "direct_mean_error": mean(direct),
        "apart": float((short.double() - direct.double()).abs().max()) / scale,
        "zeros": float((x == 0).double().mean()),
    }  # fmt: skip
