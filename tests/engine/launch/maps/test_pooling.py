"""Pooling has the bits and the strides of torch's own operators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps import pooling
from outstride.engine.launch.steps.agreement import trial
from outstride.engine.planner.maps.pooling import Kind, Pooling
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

SEEDS = (range(120), pytest.param(range(120, 1500), marks=pytest.mark.slow))
KINDS: tuple[Kind, ...] = ("max", "average")
DTYPES = (torch.float32, torch.float64)
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 33, 70)


def arguments(p: Pooling) -> tuple[Any, ...]:
    """What `max_pool` and `avg_pool` take beside the input."""
    if p.kind == "max":
        return (*p.axes, p.ceil_mode)
    return (*p.axes[:3], p.ceil_mode, p.count_include_pad, p.divisor_override)


def ours(p: Pooling) -> tuple[Callable[..., Tensor], Callable[..., str | None]]:
    if p.kind == "max":
        return pooling.max_pool, pooling.max_pool_declines
    return pooling.avg_pool, pooling.avg_pool_declines


def check(p: Pooling, x: Tensor, what: str) -> bool:
    """Whether it is served; then it is as torch's, else torch refuses it, too."""
    pool, declines = ours(p)
    if declines(x, *arguments(p)):
        with pytest.raises(RuntimeError):
            pooling.by_torch(p, x)
        return False
    expected = pooling.by_torch(p, x)
    result = pool(x, *arguments(p))
    assert_same_bits(result, expected, what)
    assert result.stride() == expected.stride(), what
    return True


def drawn(seed: int) -> tuple[Pooling, Tensor]:
    """A pooling and an input for it, with zeros of both signs, infinities and NaN."""
    rng = random.Random(seed)
    axes, kind = rng.choice((1, 2, 2, 2, 3)), rng.choice(KINDS)
    kernel_size = tuple(rng.choice((1, 2, 3, 3, 5)) for _ in range(axes))
    stride = tuple(rng.choice((1, 2, 2, 3, 4, 5, 7)) for _ in range(axes))
    padding = tuple(rng.randint(0, k // 2) for k in kernel_size)
    dilation = tuple(rng.choice((1, 1, 2, 3)) if kind == "max" else 1 for _ in range(axes))
    divisor = rng.choice((None, None, 3, -5)) if axes > 1 else None
    p = Pooling(kind, kernel_size, stride, padding, dilation, rng.random() < 0.3, rng.random() < 0.5, divisor)
    size = [min(rng.choice(SIZES), 17 if axis < axes - 2 else 70) for axis in range(axes)]
    x = trial(rng.choice((1, 2)), rng.choice((1, 3, 16, 17, 70)), *size, dtype=rng.choice(DTYPES), seed=seed)
    if rng.random() < 0.3:  # ties between zeros of both signs
        x = torch.where(x < 0, -0.0, 0.0).to(x.dtype)
    if axes > 1 and rng.random() < 0.5:
        x = x.contiguous(memory_format=FORMATS[x.dim()])
    return p, x


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_pools_have_the_bits_of_torch(isa: str, seeds: range) -> None:
    served = 0
    with runtime.instruction_set(isa):
        for seed in seeds:
            with threads(1 + seed % 3):
                p, x = drawn(seed)
                served += check(p, x, f"seed {seed}: {p} of {tuple(x.shape)}")
    assert served > len(seeds) // 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape", [(0, 3, 9, 9), (1, 1, 1, 1), (1, 1, 40, 40), (2, 64, 1, 1), (1, 2, 900, 90)]
)
def test_sizes_at_the_edge(kind: Kind, shape: tuple[int, ...]) -> None:
    for padding in (0, 1):
        x = torch.randn(shape)
        check(Pooling.of(kind, 2, 3, 2, padding, 1, True), x, f"{kind} of {shape}")
        check(
            Pooling.of(kind, 2, 3, 1, padding, 1),
            x.contiguous(memory_format=FORMATS[4]),
            f"{kind} of {shape}",
        )


@pytest.mark.parametrize("kind", KINDS)
def test_large_inputs_on_many_threads(kind: Kind) -> None:
    for x in (torch.randn(1, 40, 70, 70), torch.randn(1, 40, 70, 70).contiguous(memory_format=FORMATS[4])):
        for count in (1, 2, 5):
            with threads(count):
                assert check(Pooling.of(kind, 2, 3, 2, 1, 1), x, f"{kind} on {count} threads")


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    with runtime.instruction_set(isa):
        for seed in range(60):
            p, x = drawn(seed)
            pool, declines = ours(p)
            if declines(x, *arguments(p)):
                continue
            expected = pooling.by_torch(p, x)
            with GuardedPages() as pages:
                place = pages.empty_like(expected, edge)
                assert pool(pages.copy(x, edge), *arguments(p), out=place) is place
                assert_same_bits(place, expected, f"seed {seed}")


def test_a_mean_that_is_rounded_to_zero() -> None:
    """Torch adds means of rows to +0, and divides sums of channels where they lie."""
    least = torch.zeros(1, 20, 4, 4)
    least[..., 0, 0] = -1e-45
    for p in (Pooling.of("average", 2, 3, 1, 0, 1), Pooling.of("average", 2, 2, 2, 0, 1, False, True, -3)):
        for x in (least, least.contiguous(memory_format=FORMATS[4])):
            assert check(p, x, str(p))


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.ones(3, 8), "inputs have a batch, channels and one to three axes"),
        (torch.ones(1, 3, 8, 8, dtype=torch.bfloat16), "inputs are float32 or float64"),
        (torch.ones(1, 3, 8, 8, device="meta"), "inputs are dense and on the CPU"),
        (torch.ones(1, 3, 16, 8)[:, :, ::2], "inputs are contiguous or channels_last"),
        (torch.ones(1, 3, 1, 8), "torch refuses these arguments"),
    ],
)
def test_what_is_declined_has_a_reason(x: Tensor, reason: str) -> None:
    assert pooling.max_pool_declines(x, 3) == reason


def test_large_divisors_are_declined() -> None:
    reason = pooling.avg_pool_declines(torch.ones(1, 1, 8, 8), 2, divisor_override=1 << 24)
    assert reason == "so large a divisor is not exact in float32"


@pytest.mark.parametrize("kind", KINDS)
def test_new_sizes_compile_nothing(kind: Kind) -> None:
    p = Pooling.of(kind, 2, 3, 2, 1, 1)
    check(p, torch.randn(1, 3, 20, 20), "first")
    before = runtime.compilations()
    for size in (21, 37, 64):
        check(p, torch.randn(1, 3, size, size), str(size))
    assert runtime.compilations() == before
