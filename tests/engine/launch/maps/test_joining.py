"""Joining and copying move what torch moves, to where torch moves it, and touch nothing else."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.maps.joining import joined, joining_declines
from tests.engine.launch.maps.map_inputs import numbers
from tests.environments import threads
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

SEEDS = (range(80), pytest.param(range(80, 3000), marks=pytest.mark.slow))
DTYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.int32)


def drawn(seed: int) -> tuple[list[Tensor], int]:
    """One tensor or two, cut out of larger ones, and the axis along which they lie one behind the other."""
    rng = random.Random(seed)
    shape = [
        rng.choice((1, 2, 3)),
        rng.choice((1, 2, 5, 16)),
        *(rng.choice((1, 3, 16, 37)) for _ in range(2)),
    ]
    shape, dtype = shape[: rng.choice((3, 4))], rng.choice(DTYPES)
    axis, parts = rng.randrange(len(shape)), list[Tensor]()
    for number in range(rng.choice((1, 2))):
        shape[axis] = rng.choice((1, 2, 7, 33, 130))
        cut, low = rng.randrange(len(shape)), rng.choice((0, 0, 1, 3))
        wide = [n + (low + 2 if at == cut and low else 0) for at, n in enumerate(shape)]
        values = numbers(tuple(wide), torch.float32, seed + number).nan_to_num(7.0, 5.0, 3.0).clamp(-9, 9)
        parts.append(values.to(dtype).narrow(cut, low, shape[cut]))
    return parts, axis


@pytest.mark.parametrize("seeds", SEEDS, ids=str)
@pytest.mark.parametrize("isa", runtime.available())
def test_what_is_drawn_is_put_where_torch_puts_it(isa: str, seeds: range) -> None:
    taken = 0
    with runtime.instruction_set(isa):
        for seed in seeds:
            parts, axis = drawn(seed)
            if joining_declines(parts, axis) is None:
                with threads(1 + seed % 3):
                    what = f"seed {seed}: {[(tuple(p.shape), p.stride()) for p in parts]} along {axis}"
                    assert_same_bits(joined(parts, axis), torch.cat(parts, axis), what)
                taken += 1
    assert taken > len(seeds) // 3


def test_a_result_may_lie_in_a_larger_one() -> None:
    parts, room = [torch.randn(2, 5, 7), torch.randn(2, 5, 20)], torch.zeros(2, 5, 40)
    out = room[..., 6:33]
    assert joining_declines(parts, 2, out) is None
    joined(parts, 2, out)
    assert_same_bits(room[..., 6:33], torch.cat(parts, 2))
    assert not room[..., :6].any()
    assert not room[..., 33:].any()


def test_much_is_shared_among_threads() -> None:
    parts = [torch.randn(1, 300, 90), torch.randn(1, 300, 170)]
    for count in (1, 2, 4):
        with threads(count):
            assert_same_bits(joined(parts, 2), torch.cat(parts, 2))


@pytest.mark.parametrize("edge", ["start", "end"])
def test_nothing_beside_the_tensors_is_touched(edge: Edge) -> None:
    for width in (1, 3, 16, 33, 67):
        parts = [torch.randn(1, 3, width), torch.randn(1, 3, 5)]
        with GuardedPages() as pages:
            out = pages.empty_like(torch.cat(parts, 2), edge)
            joined([pages.copy(part, edge) for part in parts], 2, out)
            assert_same_bits(out, torch.cat(parts, 2))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([torch.zeros(1, 2, 3)] * 3, "one or two"),
        ([torch.zeros(1, 2, 3), torch.zeros(1, 2, 3, dtype=torch.float64)], "one type"),
        ([torch.zeros(1, 2, 3, dtype=torch.bool)], "copied by torch"),
        ([torch.zeros(1, 2, 3), torch.zeros(1, 2, 0)], "have elements"),
        ([torch.zeros(2, 3, 8)[:, :2, ::2]], "equally far apart"),
    ],
)
def test_what_it_does_not_take_it_declines(parts: list[Tensor], reason: str) -> None:
    assert reason in (joining_declines(parts, 2) or "")
