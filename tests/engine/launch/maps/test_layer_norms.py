"""Layer norms have the bits of torch's own, whatever the shape, the strides and the threads."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.layer_norms import layer_norm, layer_norm_declines
from tests.engine.launch.agreed import assert_served
from tests.engine.launch.maps.norm_contract import Norm
from tests.environments import threads
from tests.guard import Edge
from tests.tolerance import assert_same_bits

SEEDS = (range(120), pytest.param(range(120, 3000), marks=pytest.mark.slow))
COUNTS = (1, 2, 7, 8, 9, 31, 64, 96, 100, 128, 136, 300, 768, 1037)
SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 1e38)


def drawn(seed: int) -> tuple[Tensor, tuple[int, ...], Tensor | None, Tensor | None, float]:
    """An input, the shape that is normalised, a weight, a bias and an eps."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    shape = (rng.choice(COUNTS),) if rng.random() < 0.8 else (rng.choice((2, 5)), rng.choice(COUNTS[:8]))
    outer = [rng.choice((1, 2, 3, 5, 7)) for _ in range(rng.choice((1, 2, 3)))]
    x = torch.randn(*outer, *shape, generator=generator)
    x = x * 10.0 ** rng.randint(-3, 3) + rng.choice((0, 1, 100, -3e4))
    if rng.random() < 0.3:
        x.view(-1)[torch.randint(x.numel(), (5,), generator=generator)] = torch.tensor(SPECIAL)
    if rng.random() < 0.1:
        x.fill_(rng.choice((0.0, -0.0, 2.5)))
    if rng.random() < 0.4:
        x = x.movedim(-1, 0).contiguous().movedim(0, -1)
    weight = torch.randn(shape, generator=generator) if rng.random() < 0.7 else None
    bias = torch.randn(shape, generator=generator) if weight is not None and rng.random() < 0.7 else None
    if weight is not None and rng.random() < 0.2:
        weight.view(-1)[::2] = -0.0
    return x, shape, weight, bias, rng.choice((1e-5, 1e-6, 1e-12))


@pytest.fixture(autouse=True)
def _served() -> None:
    assert_served(layer_norm_declines(torch.ones(5, 4), (4,)))


NORM = Norm(layer_norm, layer_norm_declines, F.layer_norm, drawn)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_norms_have_the_bits_of_torch(isa: str, seeds: range) -> None:
    NORM.has_the_bits_of_torch(isa, seeds)


def test_large_inputs_on_many_threads() -> None:
    for shape in ((1, 56, 56, 96), (3, 70001), (300, 257)):
        x = torch.randn(shape) + 10
        for each in (x, x.movedim(-1, 1).contiguous().movedim(1, -1)):
            expected = F.layer_norm(each, shape[-1:])
            for count in (1, 2, 4):
                with threads(count):
                    assert_same_bits(layer_norm(each, shape[-1:]), expected, f"{shape} on {count} threads")


def test_the_result_may_lie_where_the_input_lies() -> None:
    x = torch.randn(19, 33)
    expected = F.layer_norm(x, (33,))
    assert layer_norm(x, (33,), out=x) is x
    assert_same_bits(x, expected)


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    NORM.touches_nothing_beyond_the_tensors(isa, edge, range(50))


_X, _W = torch.ones(5, 4), torch.ones(4)


@pytest.mark.parametrize(
    ("x", "further", "reason"),
    [
        (_X.double(), (), "inputs are float32"),
        (_X.to("meta"), (), "inputs are dense and on the CPU"),
        (_X[:, :3], (), "inputs have elements, and end with the shape that is normalised"),
        (_X[:0], (), "inputs have elements, and end with the shape that is normalised"),
        (_X, (None, None, 0.0), "'eps' is greater than 0"),
        (_X, (None, _W), "torch fuses a bias without a weight in another way"),
        (_X, (_W[:3],), "weight or bias is of another type, shape or layout"),
        (
            _X,
            (_W, torch.ones(8)[::2]),
            "weight or bias is of another type, shape or layout",
        ),
    ],
)
def test_what_is_declined_has_a_reason(x: Tensor, further: tuple[object, ...], reason: str) -> None:
    assert layer_norm_declines(x, (4,), *further) == reason  # type: ignore[arg-type]  # of many kinds


def test_new_sizes_compile_nothing() -> None:
    layer_norm(torch.randn(3, 20), (20,))
    before = runtime.compilations()
    for shape in ((1, 1), (40, 300), (2, 5, 6, 7)):
        layer_norm(torch.randn(shape), shape[-1:])
    assert runtime.compilations() == before
