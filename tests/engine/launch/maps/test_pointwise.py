"""Chains of steps in one pass have the bits of torch's operators one after the other."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.pointwise import pointwise, pointwise_declines
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.planner.steps import Step
from tests.engine.launch.agreed import assert_served, is_left_to_torch, needs
from tests.engine.launch.maps.map_inputs import LAST, laid_out, numbers, operands_of
from tests.engine.planner.chains import BATCH_NORM, CHAINS, RELU, RESIDUAL, STEPS
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

SEEDS = (range(30), pytest.param(range(30, 300), marks=pytest.mark.slow))
DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16)
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 33)

Drawn = tuple[tuple[Step, ...], Tensor, list[Tensor]]


def drawn(seed: int) -> Drawn:
    """A chain, a tensor and the chain's operands."""
    rng = random.Random(seed)
    dtype = rng.choice(DTYPES)
    chain = rng.choice(CHAINS) if rng.random() < 0.4 else tuple(rng.choices(STEPS, k=rng.randint(1, 3)))
    axes, channels_last = rng.choice((0, 1, 2, 3)), rng.random() < 0.5
    size = [rng.choice(SIZES) for _ in range(axes)]
    shape = (rng.choice((0, 1, 1, 2)), rng.choice((1, 3, 15, 16, 17, 70)), *size)
    x = laid_out(numbers(shape, dtype, seed), channels_last)
    return chain, x, operands_of(chain, x, seed, channels_last)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_chains_have_the_bits_of_torch(isa: str, seeds: range) -> None:
    with runtime.instruction_set(isa):
        for seed in seeds:
            with threads(1 + seed % 3):
                chain, x, operands = drawn(seed)
                reason = pointwise_declines(chain, x, operands)
                if is_left_to_torch(reason):
                    continue
                assert reason is None
                expected = by_torch(x, chain, operands)
                result = pointwise(chain, x, operands)
                what = f"seed {seed}: {chain} on {tuple(x.shape)}"
                assert_same_bits(result, expected, what)
                assert result.stride() == x.stride(), what


def test_the_result_may_lie_where_an_operand_lies() -> None:
    for seed in range(30):
        chain, x, operands = drawn(seed)
        if is_left_to_torch(pointwise_declines(chain, x, operands)):
            continue
        expected = by_torch(x, chain, operands)
        places: list[Tensor] = [x, *(operand for operand in operands if operand.dim() > 1)]
        for place in places:
            room = place.clone()
            given = [room if operand is place else operand for operand in operands]
            assert pointwise(chain, room if place is x else x, given, out=room) is room
            assert_same_bits(room, expected, f"seed {seed}: {chain} on {tuple(x.shape)}")


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    with runtime.instruction_set(isa):
        for seed in range(25):
            chain, x, operands = drawn(seed)
            if is_left_to_torch(pointwise_declines(chain, x, operands)):
                continue
            expected = by_torch(x, chain, operands)
            with GuardedPages() as pages:
                place = pages.empty_like(x, edge)
                pointwise(chain, pages.copy(x, edge), [pages.copy(t, edge) for t in operands], out=place)
                assert_same_bits(place, expected, f"seed {seed}")


def test_large_tensors_on_many_threads() -> None:
    chain = (BATCH_NORM, RESIDUAL, RELU)
    needs(chain)
    for channels_last in (False, True):
        x = laid_out(torch.randn(2, 70, 40, 41), channels_last)
        operands = operands_of(chain, x, 1, channels_last)
        expected = by_torch(x, chain, operands)
        for count in (1, 2, 5):
            with threads(count):
                assert_same_bits(pointwise(chain, x, operands), expected, f"on {count} threads")


def test_without_vectors_any_order_of_axes_is_served() -> None:
    x, other = (torch.randn(4, 5, 6, 7).permute(2, 0, 3, 1) for _ in range(2))
    assert_served(pointwise_declines((RESIDUAL, RELU), x, (other,)))
    assert_same_bits(pointwise((RESIDUAL, RELU), x, (other,)), torch.relu(x + other))
    assert "channels_last" in str(pointwise_declines((BATCH_NORM,), x, [torch.ones(4)] * 4))


_X = torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("chain", "x", "operands", "reason"),
    [
        ((RELU,), _X.int(), (), "there are no steps on torch.int32"),
        ((RELU,), _X.to("meta"), (), "inputs are dense and on the CPU"),
        ((RELU,), _X[..., ::2], (), "the elements of inputs lie without gaps"),
        ((RELU,), _X[:1].expand(2, 3, 4, 4), (), "the elements of inputs lie without gaps"),
        ((RESIDUAL,), _X, (), "there are other operands than the steps take"),
        ((RESIDUAL,), _X, (_X.double(),), "operands are dense, of the type of the input, and where it is"),
        ((RESIDUAL,), _X, (_X.contiguous(memory_format=LAST[4]),),
         "operands that are tensors have the shape and the strides of the result"),
        ((RESIDUAL,), _X, (_X[:1],),
         "operands that are tensors have the shape and the strides of the result"),
        ((Step("prelu", (), ("channel",)),), _X, (torch.ones(1),),
         "operands over channels are contiguous vectors"),
        ((RELU, BATCH_NORM), torch.ones(2, 5, 3).mT, [torch.ones(3)] * 4,
         "torch computes a batch norm of such strides in another way"),
        ((BATCH_NORM,), _X.permute(0, 3, 2, 1), [torch.ones(4)] * 4,
         "torch computes a batch norm of such strides in another way"),
    ],
)  # fmt: skip
def test_what_is_declined_has_a_reason(
    chain: tuple[Step, ...], x: Tensor, operands: tuple[Tensor, ...], reason: str
) -> None:
    assert pointwise_declines(chain, x, operands) == reason


def test_new_sizes_compile_nothing() -> None:
    needs((RELU,))
    pointwise((RELU,), torch.randn(1, 3, 20))
    before = runtime.compilations()
    for size in (1, 21, 3700):
        pointwise((RELU,), torch.randn(1, 3, size))
    assert runtime.compilations() == before
