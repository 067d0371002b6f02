"""Instance norms have the bits of torch's own, whatever the shape, the layout and the threads."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.normalisation import instance_norm, instance_norm_declines
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.planner.steps import Step
from tests.engine.launch.agreed import needs
from tests.engine.launch.maps.map_inputs import laid_out, operands_of
from tests.engine.launch.maps.norm_contract import Norm
from tests.engine.planner.chains import RELU, RESIDUAL
from tests.environments import threads
from tests.guard import Edge
from tests.tolerance import assert_same_bits

SEEDS = (range(100), pytest.param(range(100, 1500), marks=pytest.mark.slow))
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 33, 70)
SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 1e38)
CHAIN = (Step("prelu", (), ("channel",)), RESIDUAL)


def drawn(seed: int) -> tuple[Tensor, Tensor | None, Tensor | None, float]:
    """An input, a weight, a bias and an eps."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    size = [rng.choice(SIZES) for _ in range(rng.choice((1, 2, 3)))]
    size[0] += size == [1] * len(size)  # a channel of a single element is refused
    shape = (rng.choice((1, 1, 2, 3)), rng.choice((1, 2, 3, 15, 16, 17, 40)), *size)
    x = torch.randn(shape, generator=generator) * 10.0 ** rng.randint(-3, 3) + rng.choice((0, 1, 100, -3e4))
    if rng.random() < 0.3:
        x.view(-1)[torch.randint(x.numel(), (5,), generator=generator)] = torch.tensor(SPECIAL)
    if rng.random() < 0.1:
        x.fill_(rng.choice((0.0, -0.0, 2.5)))
    weight, bias = (
        torch.randn(shape[1], generator=generator) if rng.random() < 0.6 else None for _ in range(2)
    )
    return laid_out(x, rng.random() < 0.3), weight, bias, rng.choice((1e-5, 1e-3, 1e-12))


def by_torch_alone(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    return F.instance_norm(x, weight=weight, bias=bias, eps=eps)


def drawn_in_order(seed: int) -> tuple[Tensor, Tensor | None, Tensor | None, float]:
    """The same with a contiguous input."""
    x, weight, bias, eps = drawn(seed)
    return x.contiguous(), weight, bias, eps


NORM = Norm(instance_norm, instance_norm_declines, by_torch_alone, drawn)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_norms_have_the_bits_of_torch(isa: str, seeds: range) -> None:
    NORM.has_the_bits_of_torch(isa, seeds)


def test_long_channels() -> None:
    """The chains of a mean far from zero lose what another order would keep."""
    x = torch.randn(1, 19, 70001) + 1000
    assert_same_bits(instance_norm(x), F.instance_norm(x))


def test_steps_come_after_the_norm() -> None:
    for seed in range(40):
        x, weight, bias, eps = drawn(seed)
        operands = operands_of(CHAIN, x.contiguous(), seed)
        expected = by_torch(by_torch_alone(x, weight, bias, eps), CHAIN, operands)
        assert instance_norm_declines(x, weight, bias, eps, CHAIN, operands) is None
        assert_same_bits(instance_norm(x, weight, bias, eps, CHAIN, operands), expected, f"seed {seed}")
        room = operands[-1].clone()
        instance_norm(x, weight, bias, eps, CHAIN, [*operands[:-1], room], out=room)
        assert_same_bits(room, expected, f"seed {seed}, where the tensor was")


def test_the_result_may_lie_where_the_input_lies() -> None:
    needs((RELU,))
    for shape in ((2, 19, 7, 9), (1, 3, 1000)):
        x = torch.randn(shape)
        expected = torch.relu(F.instance_norm(x))
        assert instance_norm(x, steps=(RELU,), out=x) is x
        assert_same_bits(x, expected)


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    replace(NORM, drawn=drawn_in_order).touches_nothing_beyond_the_tensors(isa, edge, range(40))


def test_large_inputs_on_many_threads() -> None:
    for channels in (3, 16, 45):
        x = torch.randn(1, channels, 70, 71)
        expected = F.instance_norm(x)
        for count in (1, 2, 4):
            with threads(count):
                assert_same_bits(instance_norm(x), expected, f"{channels} channels on {count} threads")


_X = torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("x", "further", "reason"),
    [
        (_X[0, 0], (), "inputs have a batch, channels and one to three axes"),
        (_X.double(), (), "inputs are float32"),
        (_X.to("meta"), (), "inputs are dense and on the CPU"),
        (_X[..., :1, :1], (), "channels have two elements or more"),
        (_X[:0], (), "channels have two elements or more"),
        (_X, (None, None, 0.0), "'eps' is greater than 0"),
        (_X, (torch.ones(2),), "weight or bias is of another type, shape or layout"),
        (_X, (None, torch.ones(6)[::2]), "weight or bias is of another type, shape or layout"),
        (_X, (None, None, 1e-5, (RESIDUAL,)), "there are other operands than the steps take"),
        (_X, (None, None, 1e-5, (RESIDUAL,), (_X.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3),)),
         "operands that are tensors have the shape and the strides of the result"),
    ],
)  # fmt: skip
def test_what_is_declined_has_a_reason(x: Tensor, further: tuple[object, ...], reason: str) -> None:
    assert instance_norm_declines(x, *further) == reason  # type: ignore[arg-type]


def test_new_sizes_compile_nothing() -> None:
    instance_norm(torch.randn(1, 3, 20))
    before = runtime.compilations()
    for shape in ((1, 1, 2), (2, 40, 300), (1, 3, 5, 6, 7)):
        instance_norm(torch.randn(shape))
    assert runtime.compilations() == before
