"""Group norms have the bits of torch's own, whatever the shape and the threads."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.group_norms import group_norm, group_norm_declines
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.planner.steps import Step
from tests.engine.launch.agreed import assert_served
from tests.engine.launch.maps.map_inputs import operands_of
from tests.engine.launch.maps.norm_contract import Norm
from tests.engine.planner.chains import RELU, RESIDUAL
from tests.guard import Edge
from tests.tolerance import assert_same_bits

SEEDS = (range(100), pytest.param(range(100, 2000), marks=pytest.mark.slow))
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 33, 70)
SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 1e38)
CHAIN = (Step("prelu", (), ("channel",)), RESIDUAL)


def drawn(seed: int) -> tuple[Tensor, int, Tensor | None, Tensor | None, float]:
    """An input, the number of groups, a weight, a bias and an eps."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    size = [rng.choice(SIZES) for _ in range(rng.choice((1, 2, 3)))]
    size = [min(length, 17) if len(size) == 3 else length for length in size]
    size[0] += size == [1] * len(size)
    groups = rng.choice((1, 2, 3, 8))
    shape = (rng.choice((1, 1, 2, 3)), groups * rng.choice((1, 2, 3, 5)), *size)
    x = torch.randn(shape, generator=generator) * 10.0 ** rng.randint(-3, 3) + rng.choice((0, 1, 100, -3e4))
    if rng.random() < 0.3:
        x.view(-1)[torch.randint(x.numel(), (5,), generator=generator)] = torch.tensor(SPECIAL)
    if rng.random() < 0.1:
        x.fill_(rng.choice((0.0, -0.0, 2.5)))
    weight, bias = (
        torch.randn(shape[1], generator=generator) if rng.random() < 0.6 else None for _ in range(2)
    )
    return x, groups, weight, bias, rng.choice((1e-5, 1e-3, 1e-12))


@pytest.fixture(autouse=True)
def _served() -> None:
    assert_served(group_norm_declines(torch.ones(1, 4, 3, 3), 2))


NORM = Norm(group_norm, group_norm_declines, F.group_norm, drawn)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_norms_have_the_bits_of_torch(isa: str, seeds: range) -> None:
    NORM.has_the_bits_of_torch(isa, seeds)


@pytest.mark.parametrize("count", [127, 128, 129, 511, 512, 2048, 2049, 4096 + 8, 70001, 1 << 20])
def test_levels_of_the_counter(count: int) -> None:
    """Numbers of chunks that fill a level, and one more and one less."""
    x = torch.randn(1, 2, count, generator=torch.Generator().manual_seed(count)) + 100
    assert_same_bits(group_norm(x, 2), F.group_norm(x, 2))


def test_steps_come_after_the_norm() -> None:
    for seed in range(40):
        x, groups, weight, bias, eps = drawn(seed)
        operands = operands_of(CHAIN, x, seed)
        expected = by_torch(F.group_norm(x, groups, weight, bias, eps), CHAIN, operands)
        assert group_norm_declines(x, groups, weight, bias, eps, CHAIN, operands) is None
        result = group_norm(x, groups, weight, bias, eps, CHAIN, operands)
        assert_same_bits(result, expected, f"seed {seed}")
        room = operands[-1].clone()
        group_norm(x, groups, weight, bias, eps, CHAIN, [*operands[:-1], room], out=room)
        assert_same_bits(room, expected, f"seed {seed}, where the tensor was")


def test_the_result_may_lie_where_the_input_lies() -> None:
    x = torch.randn(2, 6, 7, 9)
    expected = torch.relu(F.group_norm(x, 3))
    assert group_norm(x, 3, steps=(RELU,), out=x) is x
    assert_same_bits(x, expected)


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    NORM.touches_nothing_beyond_the_tensors(isa, edge, range(40))


_X = torch.ones(2, 4, 4, 4)


@pytest.mark.parametrize(
    ("x", "further", "reason"),
    [
        (_X[0, 0], (2,), "inputs have a batch, channels and one to three axes"),
        (_X.double(), (2,), "inputs are float32"),
        (_X.to("meta"), (2,), "inputs are dense and on the CPU"),
        (_X.contiguous(memory_format=torch.channels_last), (2,),
         "torch takes the moments of groups of such strides in another order"),
        (_X, (3,), "channels are as many in each group, and have elements"),
        (_X[:0], (2,), "channels are as many in each group, and have elements"),
        (_X, (2, torch.ones(2)), "weight or bias is of another type, shape or layout"),
        (_X, (2, None, None, 1e-5, (RESIDUAL,)), "there are other operands than the steps take"),
        (_X, (2, None, None, 0.0), "'eps' is greater than 0"),
    ],
)  # fmt: skip
def test_what_is_declined_has_a_reason(x: Tensor, further: tuple[int, ...], reason: str) -> None:
    assert group_norm_declines(x, *further) == reason  # type: ignore[arg-type]  # of many kinds


def test_new_sizes_compile_nothing() -> None:
    group_norm(torch.randn(1, 3, 20), 3)
    before = runtime.compilations()
    for shape in ((1, 3, 2), (2, 30, 300), (1, 3, 5, 6, 7)):
        group_norm(torch.randn(shape), 3)
    assert runtime.compilations() == before
