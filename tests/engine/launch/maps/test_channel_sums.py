"""Sums over batch and space have one order, however channels lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.channel_sums import channel_sums_run
from tests.environments import threads
from tests.tolerance import assert_equal_values, assert_same_bits

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SHAPES = ((2, 3, 7, 5), (1, 130, 6, 6), (3, 9, 33), (2, 129, 1, 1), (1, 16, 3, 4, 5), (2, 1, 8, 8))


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def summed(grad: Tensor) -> Tensor:
    result: Tensor = channel_sums_run(grad)(grad)
    return result


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layout_does_not_matter(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    grad = drawn(*shape, dtype=dtype)
    expected = summed(grad)
    last = grad.movedim(1, -1).contiguous().movedim(-1, 1)
    wide = torch.zeros(*last.movedim(1, -1).shape[:-1], shape[1] + 5, dtype=dtype).movedim(-1, 1)
    wide[:, 2 : 2 + shape[1]] = grad
    for how, other in {
        "last": last,
        "wide": wide[:, 2 : 2 + shape[1]],
        "turned": grad.mT.contiguous().mT,
    }.items():
        assert_same_bits(summed(other), expected, how)


@pytest.mark.parametrize("features", [1, 8, 150, 300])
def test_rows_are_the_positions_of_an_image(features: int) -> None:
    grad = drawn(37, features)
    expected = summed(grad.t().contiguous().unsqueeze(0))
    spread = torch.zeros(37, features + 3)
    spread[:, :features] = grad
    for how, other in {
        "rows": grad, "columns": grad.t().contiguous().t(), "apart": spread[:, :features]
    }.items():  # fmt: skip
        assert_same_bits(summed(other), expected, how)
    repeated = drawn(1, features).expand(37, features)
    assert_same_bits(summed(repeated), summed(repeated.contiguous()), "repeated")


def test_threads_and_sets_do_not_matter() -> None:
    grad = drawn(500, 333)
    expected = summed(grad)
    for name in runtime.available():
        for count in (1, 2, 3):
            with runtime.instruction_set(name), threads(count):
                assert_same_bits(summed(grad), expected, f"{name}, {count} threads")


def test_zeros_and_what_is_not_finite() -> None:
    grad = torch.tensor([[-0.0, float("inf"), 1.0], [-0.0, -float("inf"), float("nan")]])
    assert_same_bits(summed(grad), torch.tensor([0.0, float("nan"), float("nan")]))
    assert_equal_values(summed(torch.ones(0, 3)), torch.zeros(3))
