"""The laws over the table of cases: one test per law, one item per case."""

from __future__ import annotations

import os
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
from tests import guard
from tests.cases import CASES, LARGE_CASES, Case, closure_cases
from tests.contract import verify_contract
from tests.operands import definition, draw, terms, torch_opinion
from tests.tolerance import assert_close_to_reference

_NARROW = (torch.bfloat16, torch.float16)
_every_case_once = pytest.mark.parametrize("case", CASES, ids=[c.id for c in CASES])


def _under_every_set(cases: tuple[Case, ...]) -> pytest.MarkDecorator:
    """One item per case and instruction set that this processor runs."""
    items = [pytest.param(c, name, id=f"{c.id}-{name}") for name in runtime.available() for c in cases]
    return pytest.mark.parametrize(("case", "instruction_set"), items)


_every_case = _under_every_set(CASES)
_every_large_case = _under_every_set(LARGE_CASES)
_closure_case = _under_every_set(closure_cases())


def _over(*dtypes: torch.dtype, slow: tuple[torch.dtype, ...] = ()) -> pytest.MarkDecorator:
    """One item per dtype; those in `slow` wait for the long run."""
    names = [str(d).removeprefix("torch.") for d in (*dtypes, *slow)]
    kept = [*dtypes, *(pytest.param(d, marks=pytest.mark.slow) for d in slow)]
    return pytest.mark.parametrize("dtype", kept, ids=names)


@_every_case
@_over(torch.float32, torch.float64, *_NARROW)
def test_law1_value(case: Case, instruction_set: str, dtype: torch.dtype) -> None:
    verify_contract(case, "value", dtype, instruction_set)


@_every_case
@_over(torch.float32, torch.bfloat16, slow=(torch.float64, torch.float16))
def test_law1_small_integers_are_exact(case: Case, instruction_set: str, dtype: torch.dtype) -> None:
    verify_contract(case, "integers", dtype, instruction_set)


@_every_case_once
def test_law1_the_definition_is_what_torch_means(case: Case) -> None:
    """A second opinion, so that the judge of law 1 is judged too: the loops against float64 torch."""
    truth, magnitude = definition(case, "reals", False), definition(case, "reals", True)
    for name, result in torch_opinion(case, draw(case, "reals")).items():
        assert_close_to_reference(
            result, truth[name], magnitude[name], terms(case, name), torch.float64, name
        )


@_every_large_case
@_over(torch.float32, slow=(torch.float64, *_NARROW))
def test_law1_value_of_larger_layers(case: Case, instruction_set: str, dtype: torch.dtype) -> None:
    verify_contract(case, "value_by_torch", dtype, instruction_set)


@_every_case
@_over(torch.float32, torch.float64)
def test_law2_adjoint(case: Case, instruction_set: str, dtype: torch.dtype) -> None:
    verify_contract(case, "adjoint", dtype, instruction_set)


@_closure_case
def test_law3_derivatives_along_a_drawn_direction(case: Case, instruction_set: str) -> None:
    verify_contract(case, "closure_along_one_direction", torch.float64, instruction_set)


@pytest.mark.slow
@_closure_case
def test_law3_derivatives_of_every_kind(case: Case, instruction_set: str) -> None:
    verify_contract(case, "closure", torch.float64, instruction_set)


@_closure_case
def test_law3_vmap_is_the_loop(case: Case, instruction_set: str) -> None:
    verify_contract(case, "vmap", torch.float64, instruction_set)


@_every_case
def test_law4_threads_do_not_matter(case: Case, instruction_set: str) -> None:
    verify_contract(case, "threads", instruction_set=instruction_set)


@_every_large_case
def test_law4_threads_do_not_matter_where_they_share_work(case: Case, instruction_set: str) -> None:
    verify_contract(case, "threads", instruction_set=instruction_set)


@_every_case
@_over(torch.float32, slow=_NARROW)
def test_law4_layout_does_not_matter(case: Case, instruction_set: str, dtype: torch.dtype) -> None:
    verify_contract(case, "layouts", dtype, instruction_set)


@_every_case
def test_law4_batch_does_not_matter(case: Case, instruction_set: str) -> None:
    verify_contract(case, "batch", instruction_set=instruction_set)


@_every_case
def test_law4_the_order_is_the_one_written_down(case: Case, instruction_set: str) -> None:
    verify_contract(case, "order", instruction_set=instruction_set)


@_every_case
@_over(*_NARROW)
def test_law4_narrow_dtypes_round_once(case: Case, instruction_set: str, dtype: torch.dtype) -> None:
    verify_contract(case, "rounding", dtype, instruction_set)


@_every_case
def test_law4_a_tile_is_the_whole(case: Case, instruction_set: str) -> None:
    verify_contract(case, "tile", instruction_set=instruction_set)


@_every_case_once
@_over(torch.float32, torch.bfloat16, slow=(torch.float64,))
def test_law4_instruction_set_does_not_matter(case: Case, dtype: torch.dtype) -> None:
    verify_contract(case, "instruction_sets", dtype)


@_every_case
@_over(torch.float32, torch.bfloat16, slow=(torch.float64,))
def test_law4_nontemporal_stores_do_not_matter(case: Case, instruction_set: str, dtype: torch.dtype) -> None:
    verify_contract(case, "stores", dtype, instruction_set)


def test_law4_the_instruction_set_can_be_chosen_from_outside() -> None:
    program = "from outstride.engine import runtime; print(runtime.machine().instruction_set.name)"
    for name in runtime.available():
        environment = {**os.environ, "OUTSTRIDE_ISA": name}
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        assert done.stdout.strip() == name


@_every_case
@pytest.mark.parametrize("edge", ["end", pytest.param("start", marks=pytest.mark.slow)])
@_over(torch.float32, slow=(torch.float64, *_NARROW))
def test_law5_bounds(case: Case, instruction_set: str, edge: guard.Edge, dtype: torch.dtype) -> None:
    failure = _guarded(dtype, edge, instruction_set)[case.id]
    assert not failure, failure


@lru_cache
def _guarded(dtype: torch.dtype, edge: guard.Edge, instruction_set: str) -> dict[str, str]:
    return guard.play(dtype, edge, instruction_set, [c.id for c in CASES])


@_every_case
@_over(torch.float32, slow=(torch.float64, *_NARROW))
def test_law5_nan_arrives_only_where_it_is_a_term(
    case: Case, instruction_set: str, dtype: torch.dtype
) -> None:
    verify_contract(case, "halo", dtype, instruction_set)


@_every_case
def test_law6_another_size_compiles_nothing(case: Case, instruction_set: str) -> None:
    verify_contract(case, "sizes", instruction_set=instruction_set)


@_every_case
@_over(torch.float32, slow=(torch.float64, *_NARROW))
def test_law7_no_silent_fallback(
    case: Case, instruction_set: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("conv", "conv_transpose", "conv_weight"):
        monkeypatch.setattr(reference, name, _refuse)
    verify_contract(case, "no_fallback", dtype, instruction_set)


def _refuse(*arguments: object, **options: object) -> None:
    raise AssertionError("the engine asked the definition for a result")


_DTYPES = (
    torch.float32,
    torch.float64,
    *_NARROW,
    torch.complex64,
    torch.complex128,
    torch.int64,
)


@_over(*_DTYPES)
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
