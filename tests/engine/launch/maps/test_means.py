"""Means of maps have the bits of torch's own, whatever the shape, the layout and the threads."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.means import map_mean, map_mean_declines
from outstride.engine.launch.steps.agreement import trial
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

SEEDS = (range(150), pytest.param(range(150, 3000), marks=pytest.mark.slow))
SIZES = (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 56)
CHANNELS = (1, 2, 3, 4, 5, 15, 16, 17, 31, 40, 64, 70, 97)
DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16)


def channels_last(x: Tensor) -> Tensor:
    """The same numbers with channels side by side; torch has no name for that in one axis."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def by_torch(x: Tensor, keepdim: bool = False) -> Tensor:
    return x.mean(tuple(range(2, x.dim())), keepdim=keepdim)


def drawn(seed: int) -> Tensor:
    """An input, contiguous."""
    rng = random.Random(seed)
    size = [rng.choice(SIZES) for _ in range(rng.choice((1, 2, 2, 2, 3)))]
    size = [min(length, 17) if len(size) == 3 else length for length in size]
    shape = (rng.choice((1, 1, 2, 3, 5)), rng.choice(CHANNELS), *size)
    if shape[:2] == (1, 1):
        shape = (1, 2, *size)  # one large map alone is declined
    if rng.random() < 0.3:
        return trial(*shape, dtype=rng.choice(DTYPES), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + rng.choice((0, 1, 100))
    return numbers.to(rng.choice(DTYPES))


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_means_have_the_bits_of_torch(isa: str, seeds: range) -> None:
    with runtime.instruction_set(isa):
        for seed in seeds:
            with threads(1 + seed % 4):
                x, keepdim = drawn(seed), seed % 2 == 1
                expected = by_torch(x, keepdim)
                for each in (x, channels_last(x)):
                    assert map_mean_declines(each, keepdim) is None
                    as_it_lies = by_torch(each, keepdim)
                    result = map_mean(each, keepdim)
                    what = f"seed {seed}: {tuple(x.shape)} {each.stride()}"
                    assert_same_bits(result, as_it_lies, what)
                    assert result.stride() == as_it_lies.stride(), what
                    crossed = map_mean(each, keepdim, "contiguous")
                    assert_same_bits(crossed, expected, f"{what} as if it were contiguous")


@pytest.mark.parametrize("shape", [(1, 3, 130, 1000), (2, 2, 9, 9999), (1, 33, 700, 71), (1, 2, 1 << 20)])
def test_high_cascades(shape: tuple[int, ...]) -> None:
    """Sums that reach every level; numbers far from zero lose what another order would keep."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) + 1000
    for each in (x, channels_last(x)):
        assert_same_bits(map_mean(each), by_torch(each), str(each.stride()))
    assert_same_bits(map_mean(channels_last(x), order="contiguous"), by_torch(x), "as if it were contiguous")


@pytest.mark.parametrize("channels", [7, 33, 96, 100, 320])
def test_torchs_shares_of_channels(channels: int) -> None:
    """Torch sums the first channels of each thread in another order than the last."""
    for images in (1, 2, 3):
        x = channels_last(torch.randn(images, channels, 24, 24))
        for count in (1, 2, 3, 4, 7):
            with threads(count):
                what = f"{images} images on {count} threads"
                assert_same_bits(map_mean(x), by_torch(x), what)
                assert_same_bits(map_mean(x, order="contiguous"), by_torch(x.contiguous()), what)


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    with runtime.instruction_set(isa):
        for seed in range(50):
            x = drawn(seed)
            for each in (x, channels_last(x)):
                with GuardedPages() as pages:
                    expected = by_torch(x)
                    place = pages.empty_like(expected, edge)
                    map_mean(pages.copy(each, edge), order="contiguous", out=place)
                    assert_same_bits(place, expected, f"seed {seed}")


_X = torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("x", "order", "reason"),
    [
        (_X[0, 0], None, "inputs have a batch, channels and one to three axes"),
        (_X.long(), None, "there are no means of torch.int64"),
        (_X.to("meta"), None, "inputs are dense and on the CPU"),
        (_X[:0], None, "inputs have elements"),
        (_X[..., ::2], None, "inputs are contiguous or channels_last"),
        (_X, "channels_last", "only channels_last inputs are summed in their order"),
        (torch.ones(1, 1, 200, 200), None, "torch's threads share the sum of a single map"),
        (torch.ones(1).expand(1, 1, 1 << 24), None, "so large a divisor is not exact in float32"),
    ],
)
def test_what_is_declined_has_a_reason(x: Tensor, order: None, reason: str) -> None:
    assert map_mean_declines(x, order=order) == reason


def test_new_sizes_compile_nothing() -> None:
    def sums(shape: tuple[int, ...]) -> None:
        for x in (torch.randn(shape), channels_last(torch.randn(shape))):
            map_mean(x)
            map_mean(x, order="contiguous")

    sums((1, 3, 20))
    before = runtime.compilations()
    for shape in ((2, 40, 300), (1, 3, 5, 6, 7), (1, 97, 33, 33)):
        sums(shape)
    assert runtime.compilations() == before
