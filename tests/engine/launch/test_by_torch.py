"""Where no kernel may run torch computes, and that is said: layers, gradients, operators, compiled models."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import outstride
from outstride.engine import runtime
from outstride.engine.launch import by_torch, call_cache
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.runtime import host, probe
from outstride.errors import CompileError, UnsupportedError
from tests.cases import CASES, Case
from tests.contract import verify_contract
from tests.tolerance import assert_same_bits, assert_within_roundings

SOME = CASES[::9]


@pytest.fixture
def declined(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which generated code was tried, and failed."""
    call_cache.clear()
    fails = dict.fromkeys(host.detected(), "it ends a process (SIGILL)")
    monkeypatch.setattr(probe, "verdict", lambda _: probe.Verdict((), fails, "tried in a process of its own"))
    monkeypatch.setattr(host, "available", lambda: ())
    before = runtime.compilations()
    yield
    assert runtime.compilations() == before, "a kernel was made"
    call_cache.clear()


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.id)
def test_integers_agree_exactly(declined: None, case: Case) -> None:
    verify_contract(case, "integers")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_integers_of_every_case_agree_exactly(declined: None, case: Case, dtype: torch.dtype) -> None:
    verify_contract(case, "integers", dtype)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(8 * 8 * 8, 16),
    ).eval()  # fmt: skip


def test_models_are_computed_and_say_by_whom(declined: None) -> None:
    model, x = _network(), torch.randn(2, 3, 8, 8)
    fast = outstride.accelerate(model)
    assert_same_bits(fast(x), model(x))
    assert str(outstride.acceleration.summary(fast)).count("by torch: generated code does not run here") == 3
    assert "torch runs it" in str(outstride.plan(model[0], (1, 3, 8, 8)))


def test_gradients_are_recorded(declined: None) -> None:
    model, x = _network(), torch.randn(2, 3, 8, 8)
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    found = torch.autograd.grad(outstride.accelerate(model)(x).square().sum(), list(model.parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        assert_within_roundings(ours, theirs, 64, "torch sums a gradient in another order")


@pytest.mark.parametrize("trains", [False, True])
def test_compiled_models_are_computed(declined: None, trains: bool) -> None:
    torch.compiler.reset()
    model, x = _network(), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(model, backend="outstride")
    with torch.set_grad_enabled(trains):
        assert_same_bits(compiled(x), model(x))
    torch.compiler.reset()


def test_operators_are_computed(declined: None) -> None:
    import outstride.functional as ours

    x, w = torch.randn(2, 6, 9, 8), torch.randn(4, 3, 3, 2)
    assert_same_bits(ours.conv2d(x, w, stride=2, groups=2), torch.conv2d(x, w, stride=2, groups=2))
    operator = torch.ops.outstride.conv
    numbers = ([2, 1], [0, 3], [4, 12], [1, 1], 2)
    padded = torch.nn.functional.pad(x, (3, 2, 0, 0))
    expected = torch.conv2d(padded, w, stride=(2, 1), groups=2)
    assert_same_bits(operator(x, w, None, *numbers), expected)
    assert_same_bits(ours.linear(x, torch.ones(9, 8)), torch.nn.functional.linear(x, torch.ones(9, 8)))


def test_nothing_is_recorded_of_what_torch_computes(declined: None) -> None:
    import outstride.functional as ours

    x = torch.randn(1, 2, 5, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False), torch.no_grad():
        assert ours.conv1d(x, torch.ones(3, 2, 2)).grad_fn is None
    assert ours.conv1d(x, torch.ones(3, 2, 2)).grad_fn is not None


def test_who_does_not_ask_is_told_once(declined: None) -> None:
    import outstride.functional as ours

    by_torch.announce.cache_clear()
    with pytest.warns(RuntimeWarning, match="torch computes.*: generated code does not run here.*SIGILL"):
        ours.conv1d(torch.randn(1, 2, 5), torch.ones(3, 2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.conv1d(torch.randn(1, 2, 6), torch.ones(3, 2, 2))


def test_what_would_run_a_kernel_says_why_it_does_not(declined: None) -> None:
    isa = INSTRUCTION_SETS["generic"]
    with pytest.raises(CompileError, match="where none may run: generated code does not run here"):
        runtime.kernel("never", lambda: "no text is written", isa)
    with pytest.raises(UnsupportedError, match="no kernel can be planned where none runs"):
        host._default.__wrapped__()
