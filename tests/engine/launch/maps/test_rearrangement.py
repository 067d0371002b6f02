"""Nearest resizing and pixel shuffling put every element where torch puts it."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.rearrangement import (
    Nearest,
    pixel_shuffle,
    pixel_unshuffle,
    rearrangement_declines,
    resize_nearest,
)
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

SEEDS = (range(120), pytest.param(range(120, 1500), marks=pytest.mark.slow))
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SIZES = (1, 2, 3, 5, 8, 15, 16, 17, 33, 70)
FACTORS = (1, 2, 2.0, 3, 4, 1.5, 2.7, 0.5, 0.3)
MODES: tuple[Nearest, ...] = ("nearest", "nearest-exact")

Pair = tuple[Callable[..., Tensor], Callable[..., Tensor]]


def drawn(seed: int) -> tuple[Tensor, Pair]:
    """An input, and torch's operator and ours for it."""
    rng = random.Random(seed)
    dtype, batch, channels = rng.choice(DTYPES), rng.choice((1, 2)), rng.choice((1, 3, 16))
    if rng.random() < 0.5:
        factor, (h, w) = rng.choice((1, 2, 3, 4, 5)), (rng.choice((1, 2, 8, 17)) for _ in range(2))
        if rng.random() < 0.5:
            x = torch.randn(batch, channels * factor**2, h, w).to(dtype)
            return x, (partial(F.pixel_shuffle, upscale_factor=factor), partial(pixel_shuffle, factor=factor))
        x = torch.randn(batch, channels, h * factor, w * factor).to(dtype)
        unshuffled = partial(F.pixel_unshuffle, downscale_factor=factor)
        return x, (unshuffled, partial(pixel_unshuffle, factor=factor))
    axes, mode = rng.choice((1, 2, 2, 3)), rng.choice(MODES)
    size = [min(rng.choice(SIZES), 5 if axis < axes - 2 else 70) for axis in range(axes)]
    x = torch.randn(batch, channels, *size).to(dtype)
    if rng.random() < 0.5:
        wanted = [rng.choice((1, 7, 40, n, 2 * n, 3 * n)) for n in size]
        return x, (
            partial(F.interpolate, size=wanted, mode=mode),
            partial(resize_nearest, size=wanted, mode=mode),
        )
    given: dict[str, Any] = {
        "scale_factor": [rng.choice([f for f in FACTORS if int(n * f)]) for n in size],
        "recompute_scale_factor": rng.choice((None, True)), "mode": mode,
    }  # fmt: skip
    return x, (partial(F.interpolate, **given), partial(resize_nearest, **given))


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_copies_are_those_of_torch(isa: str, seeds: range) -> None:
    with runtime.instruction_set(isa):
        for seed in seeds:
            with threads(1 + seed % 3):
                x, (theirs, ours) = drawn(seed)
                assert rearrangement_declines(x) is None
                expected, result = theirs(x), ours(x)
                what = f"seed {seed}: {tuple(x.shape)} to {tuple(expected.shape)}"
                assert_same_bits(result, expected, what)
                assert result.stride() == expected.stride(), what


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    with runtime.instruction_set(isa):
        for seed in range(60):
            x, (theirs, ours) = drawn(seed)
            expected = theirs(x)
            with GuardedPages() as pages:
                place = pages.empty_like(expected, edge)
                assert ours(pages.copy(x, edge), out=place) is place
                assert_same_bits(place, expected, f"seed {seed}")


def test_one_number_stands_for_every_axis() -> None:
    x = torch.randn(1, 2, 5, 6)
    assert_same_bits(resize_nearest(x, scale_factor=2), F.interpolate(x, scale_factor=2))
    assert_same_bits(resize_nearest(x, size=9), F.interpolate(x, size=9))


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.ones(3, 8), "inputs have a batch, channels and one to three axes"),
        (torch.ones(1, 3, 8, dtype=torch.bool), "torch.bool is rearranged by torch"),
        (torch.ones(1, 3, 8, device="meta"), "inputs are dense and on the CPU"),
        (torch.ones(0, 3, 8), "inputs without elements are torch's"),
        (torch.ones(1, 3, 8, 8).contiguous(memory_format=torch.channels_last),
         "inputs are contiguous: of channels_last torch moves whole pixels"),
    ],
)  # fmt: skip
def test_what_is_declined_has_a_reason(x: Tensor, reason: str) -> None:
    assert rearrangement_declines(x) == reason
