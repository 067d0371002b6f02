"""The tables of the studies in a report: growth, first calls, changing lengths, memory, trained networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from outstride.bench import plots, studies
from outstride.bench.markdown import cells, head
from outstride.bench.report import milliseconds, number, percent
from outstride.bench.table import Row, geometric_mean, over
from outstride.bench.trained import WHOLE

TRAINED = """\
Small networks, trained for some seconds by these layers, on a photograph and on a made voice
(`outstride bench --study trained`). Every layer that takes [short algorithms](guides/short.md) gets the
inputs that it has in the network in float64, rounded to float32; whole networks run in float32 from beginning
to end, layers that stay direct included. Errors are shares of the largest value of the float64 result: the
largest by short algorithms and by the direct chain, the first over the second, the same quotient of root mean
squares, the largest difference between the two results; then how many of the inputs are zero. Terms that are
zero round nothing, so behind a ReLU that lets little through the direct chain can be the more exact one."""


def growth(rows: Sequence[Row], pictures: dict[str, str]) -> Iterator[str]:
    if not rows:
        return
    yield "### Cost as size grows"
    yield ""
    yield "Two layers on inputs that double, from a few kilobytes to a gigabyte of input and output."
    yield "The slope is the exponent of the best fit of time over size from a megabyte on: 1 is proportional."
    yield ""
    yield from head("layer", "threads", ":contender", "slope", "smallest, ms", "largest, ms")
    for layer in studies.GROWTH:
        for threads in sorted({row.threads for row in rows}):
            mine = [row for row in rows if row.threads == threads]
            for name in dict.fromkeys(name for row in mine for name in row.timings):
                points = plots.growth_points(mine, layer, name)
                large = [point for point in points if point[0] >= 1 << 20]
                if len(large) > 1:
                    slope = number(studies.slope(*zip(*large, strict=True)), ".3f")
                    ends = (milliseconds(points[0][1]), milliseconds(points[-1][1]))
                    yield cells(f"`{layer}`", threads, name, slope, *ends)
    yield ""
    if "growth" in pictures:
        yield f"![time for a million elements as the input doubles]({pictures['growth']})"
        yield ""


def first(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "### The first call"
    yield ""
    yield "Milliseconds from a loaded library to the first result, in a fresh process: building, compiling,"
    yield "packing. Who keeps compiled code on disk has two: with nothing there yet, and with all there."
    yield ""
    yield from _pivot(entries, lambda entry: number(entry.get("first_ms"), ".0f", absent=""))


def lengths(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "### A new length each call"
    yield ""
    yield "Milliseconds of a call on a length never seen before, and how many times as long that is as a call"
    yield "on the same lengths again: 1.00 is what it should be."
    yield ""

    def cell(entry: dict[str, Any]) -> str:
        return f"{entry['new_ms']:.3g} ({entry['times_repeated']:.2f})" if "new_ms" in entry else ""

    yield from _pivot(entries, cell)
    ratios = [e["times_repeated"] for e in entries if e["contender"] == "outstride" and "new_ms" in e]
    if ratios:
        yield f"outstride: {number(geometric_mean(ratios), '.3f')}, geometric mean."
        yield ""


def memory(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "### Memory"
    yield ""
    yield "Megabytes of the highest resident memory during a repeated call, above the library, the input, the"
    yield "given weights and the output: packed weights, which take about as much as the given ones, scratch"
    yield "and whatever else is kept."
    yield ""
    weights = {
        e["id"]: f", {e['weight_bytes'] / 1e6:.1f} MB of weights" for e in entries if "weight_bytes" in e
    }
    yield from _pivot(
        entries, lambda e: number(e["extra_bytes"] / 1e6 if "extra_bytes" in e else None, ".1f", ""), weights
    )


def trained(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "### Rounding in trained networks"
    yield ""
    yield from TRAINED.splitlines()
    yield ""
    for name in dict.fromkeys(entry["network"] for entry in entries):
        mine = [entry for entry in entries if entry["network"] == name]
        steps, loss = mine[0]["steps"], number(mine[0]["loss"], ".2f")
        yield f"**{name[0].upper()}{name[1:]}**: {steps} steps, after which the loss is {loss} of the first."
        yield ""
        yield from head("layer", "short", "direct", "of it", "of mean errors", "difference", "% zeros")
        for entry in mine:
            shares = [over(entry[n], entry[f"direct_{n}"]) for n in ("residual", "mean_error")]
            errors = [f"{entry[n]:.1e}" for n in ("residual", "direct_residual")]
            words = entry["layer"] if entry["layer"] == WHOLE else f"`{entry['layer']}`"
            ratios = [number(share, ".2f") for share in shares]
            yield cells(words, *errors, *ratios, f"{entry['apart']:.1e}", percent(entry["zeros"]))
        yield ""


def _pivot(
    entries: Sequence[dict[str, Any]],
    cell: Callable[[dict[str, Any]], str],
    notes: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A line for each layer and number of threads, a column for each contender."""
    who = dict.fromkeys((entry["contender"], entry["cache"]) for entry in entries)
    yield from head(
        "layer", ":input", "threads", *(f"{n}, {cache} cache" if cache else n for n, cache in who)
    )
    lines = dict.fromkeys((entry["id"], tuple(entry["size"]), entry["threads"]) for entry in entries)
    for layer, size, threads in lines:
        found = {
            (e["contender"], e["cache"]): e for e in entries if (e["id"], e["threads"]) == (layer, threads)
        }
        values = [cell(found[key]) if key in found else "" for key in who]
        yield cells(f"`{layer}`{(notes or {}).get(layer, '')}", "x".join(map(str, size)), threads, *values)
    yield ""
