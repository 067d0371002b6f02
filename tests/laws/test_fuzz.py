"""A new seed of the fuzzer in every run; and the fuzzer itself: what it draws, sees and prints."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from tests import ROOT
from tests.cases import case
from tests.environments import everything_short
from tests.fuzz import judging, placement, results
from tests.fuzz.campaign import Campaign, Failure, play
from tests.fuzz.drawing import draw
from tests.fuzz.drawn import ALGORITHMS, DTYPES, VALUES, Drawn, parse
from tests.layouts import FAITHFUL, REPEATING, laid_out
from tests.operands import Operands, apply
from tests.roundings import is_short
from tests.tolerance import assert_same_bits

#: Some hundred cases, every run others; the scheduled run plays for an hour (`.github/workflows/checks.yml`).
_SECONDS = 12.0


@pytest.mark.timeout(600)
def test_a_new_seed_finds_nothing_wrong() -> None:
    campaign = Campaign(secrets.randbelow(1 << 32), seconds=_SECONDS)
    failures: list[Failure] = []
    report = play(campaign, lambda _: None, failures.append)
    assert not failures, "\n".join([str(report), *map(str, failures[:5])])
    assert report.played > 0


# -- what is drawn -------------------------------------------------------------------------------------------


def test_cases_are_the_same_whenever_they_are_drawn_and_from_their_line() -> None:
    for number in range(200):
        drawn = draw(3, number)
        assert drawn == draw(3, number)
        assert parse(drawn.line()) == replace(drawn, case=replace(drawn.case, id="fuzz"))
        assert "\n" not in drawn.line()
        assert "'" not in drawn.line(), "it stands between such quotes"


def test_everything_is_drawn_that_a_case_can_be() -> None:
    found = [draw(5, number) for number in range(3000)]
    settings = [s for drawn in found for s in (drawn.here, drawn.there)]
    assert {d.dtype for d in found} == set(DTYPES)
    assert {d.values for d in found} == set(VALUES)
    assert {d.case.algorithm for d in found} == set(ALGORITHMS)
    assert {s.instruction_set for s in settings} == set(runtime.available())
    assert {s.threads for s in settings} == {1, 2, 3, 4}
    assert {s.input for s in settings} == {*FAITHFUL, *REPEATING}
    cases = [d.case for d in found]
    assert {(c.operator, c.nd) for c in cases} == set(product(("conv", "conv_transpose"), (1, 2, 3)))
    assert {c.padding_mode for c in cases} == {"zeros", "reflect", "replicate", "circular"}
    assert {c.batch for c in cases} >= {0, 1, 2, 3}
    assert all(min(d.case.out_spatial) >= 1 for d in found if d.values != "empty")
    several = Counter(
        c.groups > 1 and (c.in_channels == c.groups) != (c.out_channels == c.groups) for c in cases
    )
    assert several[True] > 300, "groups of one input or output channel are too rare"
    with everything_short():
        short = sum(is_short(c, "output") for c in cases if c.algorithm == "short")
    assert short > 150, "layers that short algorithms compute are too rare"
    layers = {replace(c, id="", input_size=(), batch=0, batched=True) for c in cases}
    assert len(layers) < len(cases) / 8, "neighbours share no layer, so every case compiles kernels"


def test_algorithms_can_be_chosen() -> None:
    assert {draw(1, n, algorithms=("short",)).case.algorithm for n in range(50)} == {"short"}


def test_instruction_sets_can_be_chosen() -> None:
    name = runtime.available()[-1]
    assert {draw(1, n, (name,)).here.instruction_set for n in range(50)} == {name}


@pytest.mark.parametrize("layout", [*FAITHFUL, *REPEATING])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 1, 2, 3, 4), (0, 3, 4)])
def test_layouts_keep_the_values(layout: str, shape: tuple[int, ...]) -> None:
    plain = torch.arange(float(np.prod(shape))).view(shape)
    found = laid_out(plain, layout)
    assert found.shape == plain.shape
    if layout in FAITHFUL:
        assert_same_bits(found, plain)
    elif plain.numel() > 1:
        assert 0 in found.stride() or 1 in shape
    if layout == "offset" and plain.numel():
        assert found.data_ptr() % 16


# -- what is seen --------------------------------------------------------------------------------------------


def _one_element(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The layer with an element of its output changed."""

    def wrong(*given: Any) -> Tensor:
        result = apply(*given)
        if result.numel():
            flat = result.reshape(-1)
            place = int(flat.detach().isfinite().int().argmax())
            parts = (flat[:place], change(flat[place : place + 1]), flat[place + 1 :])
            result = torch.cat(parts).view(result.shape)
        return result

    return wrong


def _first(values: str, **fields: object) -> Drawn:
    """The first case of its values with something in its output."""
    found = (draw(11, number) for number in range(10_000))
    kept = (d for d in found if d.values == values and d.case.batch and d.dtype == "float32")
    return replace(next(kept), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "change"),
    [
        ("reals", lambda y: y + 1e-2 * (1 + y.abs())),
        ("integers", lambda y: y + 1),
        ("special", lambda y: y * torch.nan),
        ("special", lambda _: torch.full((1,), -torch.inf)),
    ],
)
def test_a_wrong_element_is_seen(
    values: str, change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = _first(values, special=("input",) if values == "special" else ())
    judging.judge(drawn)
    monkeypatch.setattr(results, "apply", _one_element(change))
    with pytest.raises(AssertionError):
        judging.judge(drawn)


def test_a_bit_that_depends_on_threads_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = _first("reals")
    drawn = replace(drawn, here=replace(drawn.here, threads=1), there=replace(drawn.there, threads=2))

    def next_number(y: Tensor) -> Tensor:
        given = y.detach()  # not every torch has a derivative of `nextafter`
        return y + (torch.nextafter(given, given + 1) - given)

    last_bit = _one_element(next_number)

    def wrong(*given: Any) -> Tensor:
        return (last_bit if torch.get_num_threads() == 2 else apply)(*given)

    monkeypatch.setattr(results, "apply", wrong)
    with pytest.raises(AssertionError, match="differ in their bits"):
        judging.judge(drawn)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("transposed", [False, True])
def test_places_of_nan_and_infinities_are_those_of_the_terms(seed: int, transposed: bool) -> None:
    """Against the definition, one term after the other."""
    kind = "conv_transpose" if transposed else "conv"
    layer = case("places", kind, (6,), 3, (1, 1), padding=1, stride=2, batch=1, bias=False)
    rng = np.random.default_rng(seed)
    values, odds = [0.0, 1.0, -1.0, np.nan, np.inf, -np.inf], [0.2, 0.3, 0.3, 0.06, 0.07, 0.07]
    shapes = (layer.input_shape, layer.weight_shape, layer.output_shape)
    x, w, y = (rng.choice(values, shape, p=odds) for shape in shapes)
    sums = {"output": np.zeros(y.shape), "grad_input": np.zeros(x.shape), "grad_weight": np.zeros(w.shape)}
    with np.errstate(invalid="ignore"):
        for i, k, o in product(range(x.size), range(w.size), range(y.size)):
            if (i * 2 + k - 1 == o) if transposed else (o * 2 + k - 1 == i):
                sums["output"][0, 0, o] += x[0, 0, i] * w[0, 0, k]
                sums["grad_input"][0, 0, i] += y[0, 0, o] * w[0, 0, k]
                sums["grad_weight"][0, 0, k] += x[0, 0, i] * y[0, 0, o]
    operands = Operands(torch.from_numpy(x), torch.from_numpy(w), None, torch.from_numpy(y))
    found = placement.expected(layer, operands)
    for name, expected in sums.items():
        assert_same_bits(found[name] + 0.0, torch.from_numpy(expected) + 0.0, name)


# -- campaigns -----------------------------------------------------------------------------------------------


class _Program(Campaign):
    """A campaign whose processes run another program, which is told where its segment begins and ends."""

    program = ""

    def command(self, numbers: range) -> list[str]:
        return [sys.executable, "-c", self.program, str(numbers.start), str(numbers.stop)]


_SAY = """
import json, os, signal, sys
def say(**record): print(json.dumps(record), flush=True)
for n in range(int(sys.argv[1]), int(sys.argv[2])):
    say(begin=n)
    if n == 4: os.kill(os.getpid(), signal.SIGSEGV)
    say(end=n, reason="is odd" if n == 7 else "", line="")
"""


def test_a_process_that_dies_is_a_failure_of_its_case_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Program, "program", _SAY)
    failures: list[Failure] = []
    report = play(_Program(1, cases=10), lambda _: None, failures.append)
    assert report.played == report.next_number == 10
    assert [f.number for f in failures] == [4, 7]
    assert "-11" in failures[0].reason
    assert parse(failures[0].line) == replace(draw(1, 4), case=replace(draw(1, 4).case, id="fuzz"))


def test_a_process_that_says_nothing_is_a_failure_of_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.campaign.PATIENCE_SECONDS", 3.0)
    monkeypatch.setattr(
        _Program, "program", _SAY.replace("os.kill(os.getpid(), signal.SIGSEGV)", "signal.pause()")
    )
    report = play(_Program(1, cases=6), lambda _: None, lambda _: None)
    assert [(f.number, "said nothing" in f.reason) for f in report.failures] == [(4, True)]
    assert report.next_number == 6


def test_a_process_that_does_not_start_is_no_failure_of_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Program, "program", "raise SystemExit('no such module')")
    with pytest.raises(RuntimeError, match="exit code 1: no such module before the first"):
        play(_Program(1, cases=6), lambda _: None, lambda _: None)


def test_segments_cover_the_numbers_once() -> None:
    campaign = Campaign(1, first=1000, cases=3000)
    assert [n for part in campaign.numbers() for n in part] == list(range(1000, 4000))


def _fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def test_the_command_plays_a_line_again_and_a_seed() -> None:
    drawn = _first("integers")
    done = _fuzz("--case", drawn.line())
    assert (done.returncode, done.stdout) == (0, "nothing is wrong with this case\n")
    done = _fuzz("--seed", "2", "--cases", "3", "--instruction-set", runtime.available()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 2: 3 cases" in done.stdout
    assert "0 wrong; goes on with --seed 2 --first 3" in done.stdout
