"""The call cache: what is kept of layers and sizes, counted under one set of names and cleared at once."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from torch import Tensor

import outstride.nn
from outstride import functional
from outstride.engine.launch import call_cache
from outstride.engine.launch.call_cache import CACHES, MOST_SIZES, CallCache
from outstride.engine.launch.fused import fused
from outstride.engine.launch.maps.pooling import max_pool
from outstride.engine.planner.steps import Step
from tests.tolerance import assert_same_bits


def test_the_layer_that_came_first_makes_room() -> None:
    cache = CallCache[tuple[str, int], int]("checked calls", most=2 * MOST_SIZES)
    for size in range(MOST_SIZES):
        cache.keep("a", ("a", size), size)
        cache.keep("b", ("b", size), size)
    cache.keep("c", ("c", 0), 0)
    assert {layer for layer, _ in cache.entries()} == {"b", "c"}
    assert len(cache) == MOST_SIZES + 1
    cache.keep("b", ("b", 5), -5)
    assert cache.get(("b", 5)) == -5
    assert len(cache) == MOST_SIZES + 1


STEPS = (Step("relu"),)


def test_every_cache_is_counted_by_its_name_and_cleared() -> None:
    call_cache.clear()
    assert call_cache.sizes() == dict.fromkeys(CACHES, 0)
    layer = outstride.nn.Conv1d(2, 3, 3)
    other = outstride.nn.Conv1d(2, 3, 3)
    for length in (20, 21):
        for each in (layer, other):
            each(torch.ones(1, 2, length, requires_grad=True)).sum().backward()
    with torch.no_grad():
        layer(torch.ones(1, 2, 20))
        layer(torch.ones(1, 2, 22))
        fused("conv", torch.ones(1, 2, 20), other.weight, None, (1,), (0,), (18,), (1,), 1, "auto", STEPS, ())
        max_pool(torch.ones(1, 2, 22), 2)
    found = call_cache.sizes()
    assert list(found) == list(CACHES)
    assert all(found.values()), found
    assert found["latest calls"] == 2
    assert found["checked calls"] == 4  # each layer has its own arguments
    assert found["guarded calls"] == 2  # layers that are equal share
    call_cache.clear()
    assert call_cache.sizes() == dict.fromkeys(CACHES, 0)


def test_a_cache_that_is_gone_is_not_counted() -> None:
    before = call_cache.sizes()["checked calls"]
    cache = CallCache[int, int]("checked calls")
    cache.keep(0, 0, 0)
    assert call_cache.sizes()["checked calls"] == before + 1
    del cache
    gc.collect()
    assert call_cache.sizes()["checked calls"] == before


@pytest.mark.parametrize("step", [False, True], ids=["forward", "training step"])
def test_calls_beside_a_thread_that_clears_have_the_same_bits(step: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 4, 9, 11, generator=generator)
    weight = torch.randn(6, 2, 3, 3, generator=generator)

    def result(width: int) -> Tensor:
        w = weight.detach().requires_grad_(step)
        out = functional.conv2d(x[..., :width], w, padding=1, groups=2)
        if step:
            out.square().sum().backward()
            assert w.grad is not None
            return w.grad
        return out

    expected = {width: result(width) for width in (9, 10, 11)}
    done = Event()

    def clear() -> int:
        times = 0
        while not done.is_set():
            call_cache.clear()
            times += 1
        return times

    def calls() -> None:
        for n in range(60):
            width = 9 + n % 3
            assert_same_bits(result(width), expected[width])

    with ThreadPoolExecutor(3) as pool:
        clearing = pool.submit(clear)
        try:
            for calling in [pool.submit(calls) for _ in range(2)]:
                calling.result()
        finally:
            done.set()
        assert clearing.result() > 0


def test_a_promise_outlives_the_packed_weights() -> None:
    layer = outstride.accelerate(torch.nn.Conv2d(1, 1, 3), frozen=True)
    x = torch.ones(1, 1, 5, 5)
    with torch.no_grad():
        before = layer(x)
        call_cache.clear()
        assert_same_bits(layer(x), before)
        layer.weight.data.add_(1)  # unseen, as promised
        assert_same_bits(layer(x), before)
    outstride.restore(layer)
