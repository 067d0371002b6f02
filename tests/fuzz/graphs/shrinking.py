"""From a graph that fails to one of as few calls as fail, too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from tests.fuzz.graphs.drawing import Graph, build
from tests.fuzz.graphs.judging import judge

_SECONDS = 20.0


def shrunk(graph: Graph, reason: str) -> tuple[Graph, str]:
    """A graph with fewer results and calls that breaks a law, too, and how it does."""
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        for simpler in _simpler(graph):
            found = failure(simpler)
            if found:
                graph, reason = simpler, found
                break
        else:
            return graph, reason
    return graph, reason


def failure(graph: Graph) -> str:
    try:
        judge(graph)
    except AssertionError as wrong:
        return str(wrong)
    return ""


def _simpler(graph: Graph) -> Iterator[Graph]:
    """The same graph with one of its results alone, or with one more call that hands on what it is given."""
    model = build(graph).model
    if len(model.results) > 1:
        yield from (replace(graph, results=(place,)) for place in model.results)
    for place in reversed(range(len(model.calls))):
        if place not in graph.skipped:
            yield replace(graph, skipped=tuple(sorted((*graph.skipped, place))))
