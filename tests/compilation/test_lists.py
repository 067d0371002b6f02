"""Stages that are launches run as one list: no Python is between them, and no call sees old numbers."""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import outstride
from outstride.compilation import running
from outstride.compilation.backend import Options
from outstride.engine import runtime
from outstride.engine.launch.launch_list import LaunchList
from tests import ROOT
from tests.compilation.networks import NETWORKS
from tests.fuzz.graphs.tracing import traced
from tests.tolerance import assert_same_bits, is_same_numbers


class Carried(nn.Module):
    """What was and what is new one behind the other, and the end of both once more."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 16, 3), nn.Conv1d(16, 8, 3)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([before, self.first(x).relu()], 2)
        return self.second(both), both[..., -4:].contiguous()


class Viewed(nn.Module):
    """A result, and a layer on a view of it, which is a result, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv1d(8, 8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.first(x)
        rows = y.flatten(2)
        return y, rows, self.second(rows)


class Mixed(nn.Module):
    """Layers, a norm, a pool, a join in place, a reshape and a layer of torch's behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.wide, self.narrow = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.up = nn.ConvTranspose2d(16, 4, 2, 2)
        self.out = nn.Linear(4 * 24 * 32, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.first(x)).relu()
        low = nn.functional.max_pool2d(x, 2)
        both = torch.cat([self.wide(low), self.narrow(low)], 1)
        up = self.up(both)
        return self.out(up.flatten(1)), up


def mixed() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return Mixed().eval().requires_grad_(False), torch.randn(1, 3, 24, 32)


def assert_agrees(fast: Callable[..., Any], served: Callable[..., Any], x: Tensor, what: str) -> None:
    with torch.no_grad():
        for found, expected in zip(fast(x), served(x), strict=True):
            assert_same_bits(found, expected, what)


def test_launches_are_entered_once() -> None:
    """From the third call on no kernel is launched by Python; results are new tensors."""
    model, x = mixed()
    served, fast = outstride.accelerate(model), traced(model, [x])
    for call in range(2):
        assert_agrees(fast, served, x, f"call {call}")
    expected = [served(x) for _ in range(2)]
    with mock.patch.object(runtime.Kernel, "launch", side_effect=AssertionError), torch.no_grad():
        found = [fast(x * 1) for _ in range(2)]
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert_same_bits(a, b.detach(), "without a launch by Python")
    assert found[0][1].data_ptr() != found[1][1].data_ptr()


def test_what_is_joined_in_time_is_launched_too() -> None:
    model, given = Carried().eval().requires_grad_(False), [torch.randn(1, 3, 20), torch.randn(1, 16, 4)]
    fast, expected = traced(model, given), outstride.accelerate(model)(*given)
    with torch.no_grad():
        for _ in range(2):
            fast(*given)
        with mock.patch.object(runtime.Kernel, "launch", side_effect=AssertionError):
            found = fast(*given)
    for one, other in zip(found, expected, strict=True):
        assert_same_bits(one, other.detach(), "without a launch by Python")


def test_a_view_of_a_new_result_ends_no_list() -> None:
    """It is taken in front of the kernels, for those behind it and for who is given it."""
    model, x = Viewed().eval().requires_grad_(False), torch.randn(1, 3, 24, 32)
    served, fast = outstride.accelerate(model), traced(model, [x])
    for call in range(2):
        assert_agrees(fast, served, x, f"call {call}")
    run = LaunchList.__call__
    with mock.patch.object(LaunchList, "__call__", autospec=True, side_effect=run) as lists:
        assert_agrees(fast, served, -x, "one list")
    assert lists.call_count == 1


def _by_step(model: nn.Module) -> None:
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    torch.optim.SGD(model.parameters(), lr=0.1).step()


def _by_data(model: nn.Module) -> None:
    for p in model.parameters():
        p.data = p.data * 1.5


def _by_state(model: nn.Module) -> None:
    model.load_state_dict({name: t * 0.5 for name, t in model.state_dict().items()}, strict=False)


def _by_numpy(model: nn.Module) -> None:
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.detach().numpy()[...] *= 0.5


def _by_set(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.set_(p.detach() * 2)  # type: ignore[call-overload]  # torch leaves it out


@pytest.mark.parametrize("change", [_by_step, _by_data, _by_state, _by_numpy, _by_set])
def test_changes_between_calls_are_seen(change: Callable[[nn.Module], None]) -> None:
    model, x = mixed()
    served, fast = outstride.accelerate(model), traced(model, [x])
    for _ in range(2):
        for call in range(3):
            assert_agrees(fast, served, x, f"call {call}")
        change(model)


def test_what_is_not_finite_comes_and_goes() -> None:
    model, x = mixed()
    served, fast = outstride.accelerate(model), traced(model, [x])
    weight = next(model.parameters())
    for value in (1.0, float("inf"), 1.0, float("nan"), 2.0):
        weight.data[0, 0, 0, 0] = value
        for call in range(3):
            assert_agrees(fast, served, x, f"{value} in a weight, call {call}")
        spoiled = x.clone()
        spoiled[0, 1, 5] = value
        assert_agrees(fast, served, spoiled, f"{value} in the input")


def test_memory_of_the_first_calls_is_given_back_behind_them() -> None:
    """Values that do not lie in a buffer yet leave holes, and so does what is kept of a script.

    Later calls of that size leave none.
    """
    model, x = mixed()
    fast = traced(model, [x])
    freed = mock.Mock()
    with mock.patch.object(running, "heap_trimmer", return_value=freed), torch.no_grad():
        for calls in range(1, 4):
            fast(x)
            assert freed.call_count == min(calls, 2), f"after {calls} calls"
    with mock.patch.object(running, "heap_trimmer", return_value=None), torch.no_grad():
        assert_agrees(traced(model, [x]), outstride.accelerate(model), x, "by a library that has none")


def test_frozen_weights_are_not_looked_at() -> None:
    model, x = mixed()
    fast = traced(model, [x], Options(frozen=True))
    with torch.no_grad():
        for _ in range(3):
            fast(x)
    assert_agrees(fast, outstride.accelerate(copy.deepcopy(model)), x, "frozen")
    with torch.no_grad():
        model.get_parameter("first.weight").mul_(2)
    with pytest.warns(UserWarning, match="frozen"):
        fast(x)
    assert_agrees(fast, outstride.accelerate(copy.deepcopy(model)), x, "after a change that torch counts")


@pytest.mark.parametrize("threads", [1, 2])
def test_several_threads_of_python_beside_a_writer(threads: int) -> None:
    """A call beside a write to weights uses the old ones or the new ones of each layer."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model, x = mixed()
        layer = nn.Sequential(model.get_submodule("first"), nn.ReLU())
        fast, weight = traced(layer, [x]), model.get_parameter("first.weight")
        with torch.no_grad():
            kept = [weight.clone(), weight * 2]
            allowed = []
            for each in kept:
                weight.data = each.clone()
                allowed.append(fast(x))

        def call(number: int) -> list[Tensor]:
            with torch.no_grad():
                torch.set_num_threads(threads)
                if number:
                    return [fast(x) for _ in range(40)]
                for turn in range(40):
                    weight.data = kept[turn % 2].clone()
                return []

        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(call, range(4)):
                for result in found:
                    assert any(is_same_numbers(result, each) for each in allowed)
    finally:
        torch.set_num_threads(before)


# An alarm that comes while something is being finalised is told there and nowhere else.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_call_leaves_a_whole_program() -> None:
    model, x = mixed()
    served, fast = outstride.accelerate(model), traced(model, [x])
    assert_agrees(fast, served, x, "before")

    def stop(*_: Any) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, stop)
    stopped = 0
    try:
        with torch.no_grad():  # around all: an alarm inside its own entry would leave it on
            for turn in range(60):
                next(model.parameters()).data.mul_(1.01)
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-5 * (turn + 1))
                    fast(x)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except InterruptedError:
                    stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped
    assert_agrees(fast, served, x, "after")


_FORKS = """
import os, signal
import torch
from torch import nn
from tests.fuzz.graphs.tracing import traced
torch.set_num_threads(2)
model, x = nn.Sequential(nn.Conv2d(16, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 3)), torch.rand(1, 16, 40, 40)
fast = traced(model, [x])
with torch.no_grad():
    expected = [fast(x).numpy() for _ in range(3)][-1]
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    signal.alarm(60)
    assert (fast(x).numpy() == expected).all()
    print(len(os.listdir("/proc/self/task")) > 1, flush=True)
    os._exit(0)  # torch 2.15 waits for its own threads of the parent otherwise
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there is the pool shared")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKS], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["True"]


def test_views_of_an_arena_are_made_once() -> None:
    """Those that were made in inference mode serve a call without it, and the other way round."""
    model, x = mixed()
    served, fast = outstride.accelerate(model), traced(model, [x])
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        with mode():
            assert_agrees(fast, served, x, mode.__name__)


def test_the_number_of_threads_may_change() -> None:
    network = NETWORKS["skips"]
    model, inputs = network.build(), network.inputs()
    served, fast = outstride.accelerate(model), traced(model, inputs)
    before = torch.get_num_threads()
    try:
        with torch.no_grad():
            for threads in (1, 2, 1, 3, 2):
                torch.set_num_threads(threads)
                for call in range(3):
                    assert_same_bits(fast(*inputs), served(*inputs), f"{threads} threads, call {call}")
    finally:
        torch.set_num_threads(before)


def test_a_program_lets_go_of_inputs_and_results() -> None:
    """Neither an input nor a result lives longer than who was given it."""
    model, x = mixed()
    fast = traced(model, [x])
    with torch.no_grad():
        for _ in range(4):
            given = x * 1
            made = fast(given)
            storages = [given.untyped_storage()._weak_ref(), made[1].untyped_storage()._weak_ref()]
            del given, made
            assert all(torch.UntypedStorage._expired(each) for each in storages)
