"""Drawn models have the bits of the accelerated ones: a few in every run, many in the long one."""

from __future__ import annotations

import secrets
from dataclasses import replace

import pytest

from outstride.compilation import steps
from outstride.engine import runtime
from tests.fuzz.campaign import Campaign, Failure, Report, play
from tests.fuzz.graphs import shrinking
from tests.fuzz.graphs.drawing import build, draw, parse


def test_a_few_graphs_of_a_new_seed() -> None:
    """As many as there is time for, in a process that may die."""
    _nothing_is_wrong(Campaign(secrets.randbelow(1 << 32), cases=40, seconds=10, graphs=True))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_graphs_of_a_new_seed() -> None:
    campaign = Campaign(secrets.randbelow(1 << 32), cases=500, graphs=True)
    assert _nothing_is_wrong(campaign).played == 500


def _nothing_is_wrong(campaign: Campaign) -> Report:
    failures: list[Failure] = []
    report = play(campaign, lambda _: None, failures.append)
    assert not failures, "\n".join([str(report), *map(str, failures[:5])])
    return report


def test_graphs_are_the_same_whenever_they_are_drawn_and_from_their_line() -> None:
    for number in range(20):
        graph = draw(3, number)
        assert parse(graph.line()) == graph == draw(3, number)
        assert build(graph).model.text() == build(graph).model.text()
    graph = replace(graph, skipped=(0, 2), results=(2,), way="dynamic")
    assert parse(graph.line()) == graph


def test_a_wrong_step_is_found_and_told_by_fewer_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rectifier that is taken for an absolute value."""
    wrong = steps._unary("abs")
    monkeypatch.setitem(steps._READ, "aten.relu", wrong)
    monkeypatch.setattr(shrinking, "_SECONDS", 5.0)
    found = next(
        g for g in (draw(4, number, runtime.available()[-1:]) for number in range(60)) if shrinking.failure(g)
    )
    graph, reason = shrinking.shrunk(found, shrinking.failure(found))
    assert "differ in their bits" in reason
    calls = build(graph).model.calls
    assert any(call.is_skipped for call in calls), build(graph).model.text()
