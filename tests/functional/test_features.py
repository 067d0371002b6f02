"""Linear layers: a value, its derivatives and its bits, which no other row, thread or layout changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from outstride import functional
from outstride.engine import runtime
from tests.environments import THREADS, threads
from tests.tolerance import (
    assert_close_to_reference,
    assert_equal_values,
    assert_integers_equal,
    assert_same_bits,
)

#: in_features and out_features: whole tiles, and what is left of vectors, tiles and blocks of channels.
FEATURES = ((8, 8), (64, 96), (70, 33), (130, 48), (9, 200))
ROWS = (1, 2, 3, 5, 8, 49, 130)


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def layer(features: tuple[int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    inner, outer = features
    return drawn(outer, inner, dtype=dtype, seed=1), drawn(outer, dtype=dtype, seed=2)


def as_convolution(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """The same by a convolution of one tap, whose laws are played over the table of cases."""
    return functional.conv1d(x.t().unsqueeze(0), w.unsqueeze(-1), b)[0].t()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", FEATURES)
def test_law1_value(features: tuple[int, int], dtype: torch.dtype) -> None:
    (w, b), x = layer(features, dtype), drawn(13, features[0], dtype=dtype)
    wide = [t.double() for t in (x, w, b)]
    magnitude = F.linear(*(t.abs() for t in wide))
    result = functional.linear(x, w, b)
    assert_close_to_reference(result, F.linear(*wide).numpy(), magnitude.numpy(), features[0] + 1, dtype)
    whole = [t.mul(3).round() for t in (x, w, b)]
    assert_integers_equal(functional.linear(*whole), F.linear(*(t.double() for t in whole)).numpy(), dtype)


@pytest.mark.parametrize("features", FEATURES)
def test_law4_rows_threads_and_sets_do_not_matter(features: tuple[int, int]) -> None:
    (w, b), x = layer(features), drawn(max(ROWS), features[0])
    expected = as_convolution(x, w, b)
    for name in runtime.available():
        for count in THREADS[:3]:
            with runtime.instruction_set(name), threads(count):
                for rows in ROWS:
                    found = functional.linear(x[:rows], w, b)
                    assert_same_bits(found, expected[:rows], f"{rows} rows, {name}, {count} threads")


def test_law4_layout_does_not_matter() -> None:
    (w, b), x = layer((70, 33)), drawn(2, 3, 5, 70)
    expected = as_convolution(x.flatten(0, 2), w, b).reshape(2, 3, 5, 33)
    spread = drawn(2, 3, 5, 141)[..., ::2][..., :70].copy_(x)
    crossed = x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    apart = drawn(33, 90)[:, 3:73].copy_(w)
    for how, (given, weight) in {
        "spread": (spread, w), "crossed": (crossed, w), "weight": (x, apart), "turned": (x, w.t().clone().t())
    }.items():  # fmt: skip
        found = functional.linear(given, weight, b)
        assert_same_bits(found, expected, how)
        assert_equal_values(torch.tensor(found.stride()), torch.tensor(expected.contiguous().stride()), how)


@pytest.mark.parametrize("rows", [1, 7, 130])
def test_gradients_are_those_of_the_convolution(rows: int) -> None:
    (w, b), x = layer((70, 33)), drawn(rows, 70)
    given = [t.clone().requires_grad_() for t in (x, w, b)]
    other = [t.clone().requires_grad_() for t in (x, w, b)]
    along = drawn(rows, 33, seed=5)
    functional.linear(*given).backward(along)
    as_convolution(*other).backward(along)
    for mine, theirs, name in zip(given, other, ("input", "weight", "bias"), strict=True):
        assert_same_bits(mine.grad, theirs.grad, name)  # type: ignore[arg-type]  # there are gradients


def test_law3_closure() -> None:
    w, b = (t.requires_grad_() for t in layer((9, 8), torch.float64))
    x = drawn(2, 3, 9, dtype=torch.float64).requires_grad_()
    every = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(functional.linear, (x, w, b), **every)
    assert gradgradcheck(functional.linear, (x, w, b), check_fwd_over_rev=True)


def test_mapped_calls_are_the_separate_ones() -> None:
    x, w, b = drawn(4, 5, 16), drawn(4, 8, 16), drawn(4, 8)
    for places in ((0, 0, 0), (0, None, None), (None, 0, None), (0, 0, None), (None, None, 0)):
        given = [t if place == 0 else t[0] for t, place in zip((x, w, b), places, strict=True)]
        found = torch.func.vmap(functional.linear, places)(*given)
        for i in range(4):
            alone = [t[i] if place == 0 else t for t, place in zip(given, places, strict=True)]
            assert_same_bits(found[i], functional.linear(*alone), f"{places}, example {i}")


def test_law5_what_is_not_finite_stays_where_it_is() -> None:
    (w, b), x = layer((70, 33)), drawn(9, 70)
    expected = functional.linear(x, w, b)
    for value in (float("nan"), float("inf")):
        spoiled, weight = x.clone(), w.clone()
        spoiled[4, 2] = value
        weight[5, 60] = value
        by_input = functional.linear(spoiled, w, b)
        assert not by_input[4].isfinite().any()
        by_input[4] = expected[4]
        assert_same_bits(by_input, expected, f"{value} in a row")
        by_weight = functional.linear(x, weight, b)
        assert not by_weight[:, 5].isfinite().any()
        by_weight[:, 5] = expected[:, 5]
        assert_same_bits(by_weight, expected, f"{value} in a weight")


@pytest.mark.parametrize("shape", [(16,), (0, 16), (2, 0, 16), (1, 16), (2, 1, 3, 16)])
def test_any_number_of_rows(shape: tuple[int, ...]) -> None:
    (w, b), x = layer((16, 8)), drawn(*shape)
    assert functional.linear(x, w, b).shape == (*shape[:-1], 8)
    assert functional.linear(x, w).shape == (*shape[:-1], 8)


def test_a_weight_that_is_written_to_is_seen() -> None:
    (w, b), x = layer((64, 96)), drawn(3, 64)
    for _ in range(3):
        functional.linear(x, w, b)
    w.data.mul_(2)
    assert_same_bits(functional.linear(x, w, b), as_convolution(x, w, b))


@pytest.mark.parametrize(
    ("features", "dtype"),
    [((7, 64), torch.float32), ((64, 7), torch.float32), ((64, 64), torch.bfloat16)],
    ids=["few in", "few out", "bfloat16"],
)
def test_other_layers_are_torchs(features: tuple[int, int], dtype: torch.dtype) -> None:
    (w, b), x = layer(features, dtype), drawn(5, features[0], dtype=dtype)
    assert_same_bits(functional.linear(x, w, b), F.linear(x, w, b))


def test_under_autocast_it_is_torchs() -> None:
    (w, b), x = layer((64, 64)), drawn(5, 64)
    functional.linear(x, w, b)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_bits(functional.linear(x, w, b), F.linear(x, w, b))


BAD: dict[str, tuple[tuple[int, ...], tuple[int, ...], Any]] = {
    "features": ((3, 15), (8, 16), None),
    "bias": ((3, 16), (8, 16), (9,)),
    "axes": ((3, 16), (2, 8, 16), None),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_as_by_torch(name: str) -> None:
    input, weight, bias = (None if shape is None else drawn(*shape) for shape in BAD[name])
    with pytest.raises(RuntimeError) as theirs:
        F.linear(input, weight, bias)  # type: ignore[arg-type]  # the first two are there
    with pytest.raises(RuntimeError) as ours:
        functional.linear(input, weight, bias)  # type: ignore[arg-type]
    assert str(ours.value) == str(theirs.value)
