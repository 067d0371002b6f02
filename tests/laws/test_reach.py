"""What a call reaches and what it asks for: memory, NaN, the compiler, torch; over the table of cases."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache

import pytest
import torch
from torch import nn
from torch.autograd import profiler

import outstride
from outstride import functional, reference
from outstride.engine import runtime
from tests import ROOT, broken_sizes, guard
from tests.laws.items import NARROW, Item, items_of, played

_bounds = played(torch.float32, slow=(torch.float64, *NARROW))


@_bounds
@pytest.mark.timeout(600)
@pytest.mark.parametrize("edge", ["end", pytest.param("start", marks=pytest.mark.slow)])
def test_law5_bounds(item: Item, edge: guard.Edge) -> None:
    failure = _guarded(item.dtype, edge, item.waits)[_play(item, edge)]
    assert not failure, failure


@lru_cache
def _guarded(dtype: torch.dtype, edge: guard.Edge, waits: bool) -> dict[guard.Play, str]:
    """All of a dtype and an edge at once: a process costs seconds."""
    items = [item for item in items_of(_bounds) if item.dtype == dtype and item.waits == waits]
    return guard.played([_play(item, edge) for item in items])


def _play(item: Item, edge: guard.Edge) -> guard.Play:
    assert item.instruction_set is not None
    dtype = str(item.dtype).removeprefix("torch.")
    return guard.Play(item.case.id, dtype, edge, item.instruction_set, item.algorithm)


@pytest.mark.slow
@pytest.mark.skipif(broken_sizes.SET not in runtime.available(), reason="what is broken is that set's")
def test_law5_sizes_that_are_too_small_are_seen() -> None:
    command = [sys.executable, "-m", "tests.broken_sizes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    ends = json.loads(done.stdout)
    assert ends.keys() == broken_sizes.BROKEN.keys()
    assert not [name for name, end in ends.items() if end == 0]


@played(torch.float32, slow=(torch.float64, *NARROW), spread=True)
def test_law5_nan_arrives_only_where_it_is_a_term(item: Item) -> None:
    item.obeys("halo")


@played(torch.float32, spread=True)
def test_law6_another_size_compiles_nothing(item: Item) -> None:
    item.obeys("sizes")


@played(torch.float32, slow=(torch.float64, *NARROW), spread=True)
def test_law7_no_silent_fallback(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("conv", "conv_transpose", "conv_weight"):
        monkeypatch.setattr(reference, name, _refuse)
    item.obeys("no_fallback")


def _refuse(*arguments: object, **options: object) -> None:
    raise AssertionError("the engine asked the definition for a result")


_DTYPES = (
    torch.float32,
    torch.float64,
    *NARROW,
    torch.complex64,
    torch.complex128,
    torch.int64,
)


@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_law7_what_is_declined_is_said_and_goes_to_torch(operator: str, dtype: torch.dtype) -> None:
    """The sentence that a plan prints and the path that a call takes come from the same decision."""
    layer = {"conv": nn.Conv2d, "conv_transpose": nn.ConvTranspose2d}[operator](2, 3, 3)
    layer.weight = nn.Parameter(layer.weight.to(dtype), requires_grad=False)
    layer.bias = None
    planned = outstride.plan(layer, (1, 2, 6, 7))
    with profiler.profile(use_cpu=True) as seen:
        getattr(functional, f"{operator}2d")(torch.ones(1, 2, 6, 7, dtype=dtype), layer.weight)
    by_torch = any(e.key.startswith("aten::") and "conv" in e.key for e in seen.key_averages())
    assert by_torch == (planned.declines is not None)
    if planned.declines is not None:
        assert str(dtype).removeprefix("torch.") in planned.declines
        assert planned.declines in str(planned)
