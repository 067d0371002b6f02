"""Padding moves what torch moves, to where torch moves it."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.padding import Border, padded, padding_declines
from tests.engine.launch.maps.map_inputs import laid_out, numbers
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

SEEDS = (range(120), pytest.param(range(120, 3000), marks=pytest.mark.slow))
BORDERS: tuple[Border, ...] = ("reflect", "replicate", "constant")
DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16)


def drawn(seed: int) -> tuple[Tensor, tuple[int, ...], Border, float]:
    """An input, pads, a border and what stands outside."""
    rng = random.Random(seed)
    size = [rng.choice((1, 2, 3, 5, 8, 16, 17, 33, 70)) for _ in range(rng.choice((1, 2, 2, 3)))]
    size = [min(length, 17) if len(size) == 3 else length for length in size]
    shape = (rng.choice((1, 2)), rng.choice((1, 2, 3, 16, 17, 40)), *size)
    border = rng.choice(BORDERS)
    most = [4 if border != "reflect" else min(4, length - 1) for length in reversed(size)]
    pads = tuple(rng.randint(0, limit) for limit in most for _ in range(2))
    if border == "constant" and rng.random() < 0.3:
        pads = pads[:2]
    value = rng.choice((0.0, -0.0, 1.5, float("-inf"))) if border == "constant" else 0.0
    return laid_out(numbers(shape, rng.choice(DTYPES), seed), rng.random() < 0.5), pads, border, value


def by_torch(x: Tensor, pads: tuple[int, ...], border: Border, value: float) -> Tensor:
    return F.pad(x, pads, mode=border, value=value if border == "constant" else None)


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_drawn_pads_are_those_of_torch(isa: str, seeds: range) -> None:
    with runtime.instruction_set(isa):
        for seed in seeds:
            with threads(1 + seed % 3):
                x, pads, border, value = drawn(seed)
                assert padding_declines(x, pads, border) is None
                expected = by_torch(x, pads, border, value)
                result = padded(x, pads, border, value)
                what = f"seed {seed}: {tuple(x.shape)} {x.stride()} by {pads}, {border}"
                assert_same_bits(result, expected, what)
                assert result.stride() == expected.stride(), what


@pytest.mark.parametrize("border", BORDERS)
def test_large_inputs_on_many_threads(border: Border) -> None:
    for x, pads in ((torch.randn(1, 7, 90, 80), (3, 2, 1, 4)), (torch.randn(2, 3, 20000), (700, 1))):
        for each in (x, laid_out(x, True)):
            for count in (1, 2, 4):
                with threads(count):
                    expected = by_torch(each, pads, border, 2.0)
                    assert_same_bits(padded(each, pads, border, 2.0), expected, f"{count} threads")


@pytest.mark.parametrize("edge", ["start", "end"])
@pytest.mark.parametrize("isa", runtime.available())
def test_nothing_beyond_the_tensors_is_touched(isa: str, edge: Edge) -> None:
    with runtime.instruction_set(isa):
        for seed in range(60):
            x, pads, border, value = drawn(seed)
            expected = by_torch(x, pads, border, value)
            with GuardedPages() as pages:
                place = pages.empty_like(expected, edge)
                padded(pages.copy(x, edge), pads, border, value, out=place)
                assert_same_bits(place, expected, f"seed {seed}")


_X = torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("x", "pads", "border", "reason"),
    [
        (_X[0, 0], (1, 1), "constant", "inputs have a batch, channels and one to three axes"),
        (_X.long(), (1, 1), "constant", "torch.int64 is padded by torch"),
        (_X.to("meta"), (1, 1), "constant", "inputs are dense and on the CPU"),
        (_X[:0], (1, 1), "constant", "inputs have elements"),
        (_X, (1, -1), "constant", "inputs have axes for the padding, which is not negative"),
        (_X, (1, 1, 1, 1, 1, 1), "constant", "inputs have axes for the padding, which is not negative"),
        (_X, (4, 0, 0, 0), "reflect", "torch refuses to reflect so much"),
        (_X[..., ::2], (1, 1), "constant", "inputs are contiguous or channels_last"),
    ],
)
def test_what_is_declined_has_a_reason(
    x: Tensor, pads: tuple[int, ...], border: Border, reason: str
) -> None:  # fmt: skip
    assert padding_declines(x, pads, border) == reason


def test_new_sizes_compile_nothing() -> None:
    padded(torch.randn(1, 3, 20), (1, 1), "reflect")
    before = runtime.compilations()
    for border in BORDERS:
        padded(torch.randn(2, 5, 7, 9), (1, 2, 3, 4), border)
    assert runtime.compilations() == before
