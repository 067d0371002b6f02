"""Linear resizing has the bits and the strides of torch's own, along one to three axes."""

from __future__ import annotations

import random
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.codegen.maps.linear import Way
from outstride.engine.launch.maps.linear_resizing import (
    _known,
    _pairs,
    linear_declines,
    linear_order,
    resize_linear,
)
from outstride.engine.launch.steps.agreement import same_bits, trial
from tests.engine.launch.agreed import assert_served
from tests.engine.launch.maps.map_inputs import laid_out
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

SEEDS = (range(120), pytest.param(range(120, 3000), marks=pytest.mark.slow))
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 33)
MODES = ("linear", "bilinear", "trilinear")


def drawn(seed: int) -> tuple[Tensor, tuple[int, ...], bool, tuple[float, ...] | None]:
    """An input, the size of its result, whether corners are aligned, and factors if torch is given them."""
    rng = random.Random(seed)
    axes, align = rng.choice((1, 2, 2, 2, 3)), rng.random() < 0.5
    size = [rng.choice(SIZES[:6] if axes == 3 else SIZES) for _ in range(axes)]
    result = [rng.choice((*SIZES[:6], 2 * n, 3 * n, n, 140 // axes)) for n in size]
    channels = rng.choice((1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24))
    x = trial(rng.choice((1, 2)), channels, *size, dtype=torch.float32, seed=seed)
    if rng.random() < 0.7:
        x = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    factors = None
    if rng.random() < 0.3:
        factors = tuple(rng.choice((2.0, 1.5, 0.7, 3.0)) for _ in size)
        result = [int(n * factor) for n, factor in zip(size, factors, strict=True)]
        if min(result) < 1:
            factors, result = None, size
    return laid_out(x, rng.random() < 0.5), tuple(result), align, factors


def by_torch(x: Tensor, size: tuple[int, ...], align: bool, factors: tuple[float, ...] | None) -> Tensor:
    how: dict[str, Any] = {"size": size} if factors is None else {"scale_factor": factors}
    return F.interpolate(x, mode=MODES[len(size) - 1], align_corners=align, **how)


@pytest.fixture(autouse=True)
def _served() -> None:
    assert_served(linear_declines(torch.ones(1, 2, 4, 4), (8, 8)))


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_sizes_have_the_bits_of_torch(isa: str, seeds: range) -> None:
    with runtime.instruction_set(isa):
        for seed in seeds:
            with threads(1 + seed % 3):
                x, size, align, factors = drawn(seed)
                if linear_declines(x, size) is not None:
                    assert x.shape[2:] == (1, 1, 1), "a volume of one element is channels_last to torch, too"
                    continue
                expected = by_torch(x, size, align, factors)
                result = resize_linear(x, size, align, factors)
                what = f"seed {seed}: {tuple(x.shape)} {x.stride()} to {size}"
                assert_same_bits(result, expected, what)
                assert result.stride() == expected.stride(), what
                order = linear_order(x.contiguous())
                if linear_declines(x, size, order) is None:
                    crossed = resize_linear(x, size, align, factors, order)
                    assert_same_bits(
                        crossed, by_torch(x.contiguous(), size, align, factors), f"{what}, {order}"
                    )


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("axes", "way"), [(1, "nested"), (2, "nested"), (2, "corners"), (3, "nested"), (3, "corners")]
)
def test_what_is_tried_shows_what_is_rounded(axes: int, way: Way, count: int) -> None:
    """Sizes whose positions are exact either way would show nothing."""
    with threads(count):
        made = [[ours for _, ours in _pairs(axes, way, fused)] for fused in _known(axes)]
    for one, other in combinations(made, 2):
        assert not all(same_bits(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("size", "result"), [((33, 33), (257, 513)), ((129, 300), (64, 150))])
@pytest.mark.parametrize("channels", [3, 21])
def test_large_maps_on_many_threads(
    size: tuple[int, int], result: tuple[int, int], channels: int
) -> None:  # fmt: skip
    """With three channels torch's way depends on its threads."""
    for channels_last in (False, True):
        x = laid_out(torch.randn(1, channels, *size), channels_last)
        for count in (1, 2, 4):
            with threads(count):
                expected = by_torch(x, result, False, None)
                assert_same_bits(resize_linear(x, result), expected, f"{channels_last}, {count} threads")


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    with runtime.instruction_set(isa):
        for seed in range(60):
            x, size, align, factors = drawn(seed)
            expected = by_torch(x, size, align, factors)
            with GuardedPages() as pages:
                place = pages.empty_like(expected, edge)
                resize_linear(pages.copy(x, edge), size, align, factors, out=place)
                assert_same_bits(place, expected, f"seed {seed}")


_X = torch.ones(2, 4, 4, 4)


@pytest.mark.parametrize(
    ("x", "size", "order", "reason"),
    [
        (_X[0, 0], (3,), None, "inputs have a batch, channels and one to three axes"),
        (_X, (3,), None, "inputs have a batch, channels and one to three axes"),
        (_X.double(), (3, 3), None, "inputs are float32"),
        (_X.to("meta"), (3, 3), None, "inputs are dense and on the CPU"),
        (_X[:0], (3, 3), None, "inputs and results have elements"),
        (_X[..., ::2], (3, 3), None, "inputs are contiguous or channels_last"),
        (_X[..., 0], (3,), "channels_last", "inputs are contiguous or channels_last"),
        (_X[0], (3,), "channels_last", "torch knows of no channels_last with one axis"),
        (torch.ones(1, 4, 2, 2, 2), (3, 3, 3), "channels_last",
         "torch adds up the corners of contiguous volumes in another way"),
        (torch.ones(1, 1, 1, 1, 1), (2, 2000, 2000), None, "so large slices are not kept for a moment"),
    ],
)  # fmt: skip
def test_what_is_declined_has_a_reason(
    x: Tensor, size: tuple[int, ...], order: None, reason: str
) -> None:  # fmt: skip
    assert linear_declines(x, size, order) == reason


def test_new_sizes_compile_nothing() -> None:
    resize_linear(torch.randn(1, 3, 20, 20), (200, 100))
    before = runtime.compilations()
    for shape, size in (((2, 5, 9, 9), (70, 80)), ((1, 1, 100, 3), (130, 1))):
        resize_linear(torch.randn(shape), size)
    assert runtime.compilations() == before
