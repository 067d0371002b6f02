"""What a compiled model computes has the bits of the accelerated one, and so have its derivatives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import outstride
from tests.compilation.networks import NETWORKS, Network
from tests.tolerance import assert_same_bits


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(model: nn.Module, **how: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = torch.compile(model, backend="outstride", fullgraph=True, **how)
    return made


def assert_same(found: Any, expected: Any, what: str) -> None:
    """Every tensor of two nests has the same bits."""
    a, b = pytree.tree_leaves(found), pytree.tree_leaves(expected)
    assert len(a) == len(b), what
    for number, (x, y) in enumerate(zip(a, b, strict=True)):
        assert x.stride() == y.stride(), f"{what}, result {number} lies in another way"
        assert_same_bits(x, y, f"{what}, result {number}")


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_inference(network: Network) -> None:
    """Calls of one size, the first, those in an arena, and in channels_last; then another size."""
    model = network.build()
    served, fast = outstride.accelerate(model), compiled(model)
    with torch.no_grad():
        for seed in (1, 2, 3):
            inputs = network.inputs(seed)
            assert_same(fast(*inputs), served(*inputs), f"seed {seed}")
        spoiled = [x.index_fill(-1, torch.tensor(1), float("nan")) for x in network.inputs(4)]
        assert_same(fast(*spoiled), served(*spoiled), "with NaN")
        kept = fast(*network.inputs(4))
        expected = [x.clone() for x in pytree.tree_leaves(kept)]
        fast(*network.inputs(5))
        assert_same(pytree.tree_leaves(kept), expected, "a result, after another call")
        larger = network.inputs(6, more=4)
        for _ in range(2):
            assert_same(fast(*larger), served(*larger), "another size")


@pytest.mark.parametrize("name", ["residual", "skips", "instance norms", "mobile", "shuffle", "volumes"])
def test_channels_last(name: str) -> None:
    model = NETWORKS[name].build()
    layout = torch.channels_last_3d if name == "volumes" else torch.channels_last
    inputs = [x.to(memory_format=layout) for x in NETWORKS[name].inputs()]
    served, fast = outstride.accelerate(model), compiled(model)
    with torch.inference_mode():
        for _ in range(2):
            assert_same(fast(*inputs), served(*inputs), name)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_training(network: Network) -> None:
    """Results, gradients of inputs and parameters, and running statistics of a step in training mode."""
    model = network.build().train()

    def step(run: Callable[..., Any], owner: nn.Module) -> list[Tensor]:
        inputs = [x.requires_grad_() for x in network.inputs()]
        results = pytree.tree_leaves(run(*inputs))
        sum(x.square().sum() for x in results).backward()
        gradients = [x.grad for x in (*inputs, *owner.parameters())]
        return [*results, *(g for g in gradients if g is not None), *owner.buffers()]

    first, second = copy.deepcopy(model), copy.deepcopy(model)
    assert_same(step(compiled(first), first), step(outstride.accelerate(second), second), "a step")


def test_nothing_is_fused_on_demand() -> None:
    network = NETWORKS["residual"]
    model = network.build()
    fast = compiled(model, options={"fuse": False})
    with torch.no_grad():
        assert_same(fast(*network.inputs()), outstride.accelerate(model)(*network.inputs()), "each by itself")


def test_the_direct_chain() -> None:
    network = NETWORKS["residual"]
    model = network.build()
    fast = compiled(model, options={"algorithm": "direct"})
    served = outstride.accelerate(model, algorithm="direct")
    with torch.no_grad():
        assert_same(fast(*network.inputs()), served(*network.inputs()), "direct")


@pytest.mark.parametrize("name", ["residual", "mobile", "branches"])
def test_what_is_not_finite(name: str) -> None:
    """NaN and infinities in an input and in a weight."""
    network = NETWORKS[name]
    model = network.build()
    served, fast = outstride.accelerate(model), compiled(model)
    with torch.no_grad():
        for value in (float("nan"), float("inf"), -float("inf")):
            inputs = network.inputs()
            inputs[0][..., 3] = value
            assert_same(fast(*inputs), served(*inputs), f"{value} in the input")
        next(model.parameters())[0, 0] = float("inf")
        assert_same(fast(*network.inputs()), served(*network.inputs()), "an infinite weight")


def test_changed_parameters_are_seen() -> None:
    network = NETWORKS["residual"]
    model = network.build()
    served, fast = outstride.accelerate(model), compiled(model)
    inputs = network.inputs()
    with torch.no_grad():
        fast(*inputs)
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.data.mul_(1.5)
        assert_same(fast(*inputs), served(*inputs), "after a change that torch does not count")
