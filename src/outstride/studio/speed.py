"""What a layer costs here: the plan that the engine would run, and a race against torch."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from outstride.errors import ArgumentError, OutstrideError, ShapeError
from outstride.geometry import output_size
from outstride.layer.spec import ConvSpec
from outstride.studio.questions import size_of

if TYPE_CHECKING:
    import torch

    from outstride.planning import KernelPlan

#: How a race is held: short enough to wait for.
_ROUNDS, _ROUND_SECONDS, _LIMIT_SECONDS, _PATIENCE_SECONDS = 7, 0.03, 25.0, 1.5
#: Multiply-adds of a layer that a page races: some seconds of a slow contender.
_MOST_WORK = 1 << 35
RACE = threading.Lock()
"""Held while two contenders run: a third would disturb them."""


def _asked(spec: ConvSpec, question: Mapping[str, Any]) -> tuple[ConvSpec, tuple[int, ...]]:
    from outstride.studio.layers import MOST_ELEMENTS, with_channels

    size = size_of(question, "size", spec.nd)
    if size is None:
        raise ArgumentError(f"'size' must be given: got none; legal: {'x'.join(['56'] * spec.nd)}")
    wide = with_channels(spec, question.get("in_channels"), question.get("out_channels"))
    out = output_size(wide, size)
    elements = max(prod(size) * (wide.in_channels or 1), prod(out) * (wide.out_channels or 1))
    if elements > MOST_ELEMENTS:
        raise ShapeError(
            f"'size' must be small enough to be run here: got {elements} elements; legal: {MOST_ELEMENTS}"
        )
    return wide, size


def plan_of(spec: ConvSpec, question: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a layer with these channels at this size, line by line, and its predicted time."""
    from outstride.planning import plan
    from outstride.studio.layers import convolution

    wide, size = _asked(spec, question)
    found = plan(convolution(wide), (1, wide.in_channels or 1, *size))
    lines = [(line[2:16].strip(), line[16:]) for line in str(found).splitlines()[1:]]
    if found.declines is not None:
        lines = [("declines", found.declines)]
    return {"layer": repr(wide), "predicted": _predicted(found), "lines": [list(line) for line in lines]}


def predicted_of(layer: torch.nn.Module, input_shape: Sequence[int]) -> str:
    """The predicted time of a layer at an input of this shape; empty where the engine states none."""
    from outstride.planning import plan

    try:
        return _predicted(plan(layer, input_shape))
    except OutstrideError:
        return ""


def _predicted(found: KernelPlan) -> str:
    if found.detail is None or found.predicted_ms is None:
        return ""
    threads = min(found.detail.threads, found.detail.tasks)
    return f"{found.predicted_ms:.3g} ms on {threads} thread{'s' if threads > 1 else ''}"


def race(spec: ConvSpec, question: Mapping[str, Any]) -> dict[str, Any]:
    """Time the layer against torch, each in a process of its own, in turn, on one thread.

    Raises:
        ArgumentError: torch has no such layer, it is too much work, or another race is on.
    """
    from outstride.bench.cases import Case
    from outstride.bench.contest import Contest, Rules
    from outstride.bench.process import WorkerError
    from outstride.bench.table import Job

    wide, size = _asked(spec, question)
    case = Case.from_spec(wide, 1, size, repr(wide))
    taps = prod(wide.kernel_size) * (wide.in_channels or 1) * (wide.out_channels or 1) // wide.groups
    steps = prod(size) if case.transposed else prod(output_size(wide, size))
    if taps * steps > _MOST_WORK:
        raise ArgumentError(
            f"'size' must be less work than a page waits for: got {taps * steps} multiply-adds; "
            f"legal: at most {_MOST_WORK}"
        )
    if not RACE.acquire(blocking=False):
        raise ArgumentError("'race' must be held one at a time: got another while one runs; legal: wait")
    try:
        rules = Rules(_ROUNDS, _ROUND_SECONDS, _LIMIT_SECONDS, patience_seconds=_PATIENCE_SECONDS)
        with Contest(["outstride", "torch"], 1, rules) as contest:
            outcome = contest.time(Job.of_case(case).source)
    except WorkerError as error:
        raise OutstrideError(f"nobody could time this layer: {error}") from error
    finally:
        RACE.release()
    return _told(repr(wide), outcome)


def _told(layer: str, outcome: Any) -> dict[str, Any]:
    medians = {name: outcome.timings[name].median_ms for name in ("outstride", "torch")}
    known = [time for time in medians.values() if time is not None]
    if len(known) < len(medians):
        reasons = "; ".join(str(t.error) for t in outcome.timings.values() if t.error)
        raise OutstrideError(f"nobody could time this layer: {reasons}")
    slowest = max(known)
    rows = [
        {
            "name": name,
            "ours": name == "outstride",
            "share": round(100 * time / slowest, 1),
            "said": f"{time:.3g} ms",
        }
        for name, time in medians.items()
    ]
    ours, theirs = medians["outstride"], medians["torch"]
    faster = (
        f"{theirs / ours:.3g} times as fast as torch"
        if theirs >= ours
        else (f"torch is {ours / theirs:.3g} times as fast here")
    )
    residual = outcome.timings["outstride"].residual
    off = "" if residual is None else f"; largest error {residual:.1e} of the float64 result"
    return {
        "layer": layer,
        "rows": rows,
        "verdict": faster,
        "note": f"medians of {_ROUNDS} rounds on one thread, processes of their own in turn{off}",
    }
