"""What laws are played on: all cases by the direct chain, most by short algorithms, each under some set."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from operator import attrgetter

import torch

from outstride.engine import runtime
from tests.cases import CASES
from tests.environments import everything_short
from tests.laws.items import NARROW, cases_of, is_usual, items_of, played
from tests.roundings import is_short


def test_most_cases_have_a_short_algorithm_in_every_dtype_but_float64() -> None:
    assert cases_of("direct", torch.float32) == CASES
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        short = cases_of("short", dtype)
        assert len(short) > len(CASES) / 2
        assert {c.operator for c in short} == {"conv", "conv_transpose"}
        assert {c.nd for c in short} == {1, 2, 3}
    assert not cases_of("short", torch.float64)


def test_every_case_is_played_under_one_set_and_under_the_others_in_the_long_run() -> None:
    of_sets = [{c.id for c in CASES if is_usual(c, name)} for name in runtime.available()]
    assert sum(map(len, of_sets)) == len(CASES)
    assert all(of_sets)
    items = items_of(played(torch.float32))
    waiting = [each for each in items if each.waits]
    assert all(each.algorithm == "short" for each in waiting)
    at_once = [each for each in items if not each.waits and each.algorithm == "direct"]
    assert len(at_once) == len(runtime.available()) * len(CASES)


def test_every_second_case_is_played_by_short_algorithms_and_all_in_the_long_run() -> None:
    items, cases = items_of(played(torch.float32, algorithms=("short",))), cases_of("short", torch.float32)
    assert {each.case for each in items} == set(cases)
    at_once = [each.case for each in items if not each.waits]
    assert len(cases) / 3 < len(at_once) == len(set(at_once)) < len(cases) * 2 / 3
    for options in (
        "operator nd stride",
        "padding_mode",
        "layout",
        "weight_layout",
        "batched",
        "bias",
        "groups",
    ):
        of_cases = attrgetter(*options.split())
        assert set(map(of_cases, at_once)) == set(map(of_cases, cases)), options


def test_every_second_case_is_played_in_a_narrow_dtype_and_all_in_both_in_the_long_run() -> None:
    items = items_of(played(*NARROW, algorithms=("direct",), spread=True))
    at_once = [each for each in items if not each.waits]
    cases = {each.case for each in at_once}
    assert len(CASES) / 3 < len(cases) == len(at_once) < len(CASES)
    assert {(c.operator, c.nd) for c in cases} == set(product(("conv", "conv_transpose"), (1, 2, 3)))
    assert len(items) == len(NARROW) * len(runtime.available()) * len(CASES)
    for name in runtime.available():
        assert {each.dtype for each in at_once if each.instruction_set == name} == set(NARROW)
    short = [each for each in items_of(played(*NARROW, algorithms=("short",), spread=True)) if not each.waits]
    assert {(each.dtype, each.instruction_set) for each in short} == set(product(NARROW, runtime.available()))


def test_many_cases_are_played_in_float64_and_all_in_the_long_run() -> None:
    items = items_of(played(torch.float32, torch.float64, algorithms=("direct",), spread=True))
    double = [each for each in items if each.dtype == torch.float64]
    assert len(double) == len(runtime.available()) * len(CASES)
    at_once = {each.case for each in double if not each.waits}
    assert len(CASES) / 3 < len(at_once) < len(CASES)
    assert {(c.operator, c.nd) for c in at_once} == set(product(("conv", "conv_transpose"), (1, 2, 3)))
    first = items_of(played(torch.float64, algorithms=("direct",), spread=True))
    assert {each.case for each in first if not each.waits} == set(CASES)


def test_the_rule_is_as_it_was_after_all_was_short() -> None:
    layer = next(c for c in CASES if c.id == "conv2d-channels-last")
    short, layer = replace(layer, algorithm="short"), replace(layer, algorithm="auto")
    before = is_short(layer, "output")
    with everything_short():
        assert is_short(short, "output")
        assert not is_short(replace(layer, algorithm="direct"), "output")
    assert is_short(layer, "output") == before
