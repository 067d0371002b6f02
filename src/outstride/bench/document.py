"""Write performance.md and its pictures from files of results: all figures are theirs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from outstride.bench import plots, results, studies
from outstride.bench.contenders import CONTENDERS
from outstride.bench.files import write_whole
from outstride.bench.report import milliseconds, number, percent
from outstride.bench.results import Results
from outstride.bench.table import Row, geometric_mean, summary

PAGE, PICTURES = "performance.md", "pictures"
TITLES = {
    "layers": "Layers of real models",
    "more_layers": "Other real layers, which nothing was tuned on",
    "small_layers": "Small maps and tiny layers: what a call costs",
}
INTRODUCTION = """\
# Performance

<!-- Written by `outstride bench --report`; change the results, not this page. -->

Every contender runs in a process of its own, bound to the same cores, in turn with the others, for several
rounds; figures are medians. A round in which the system gave the core to somebody else is taken again.
Weights are packed before the clock starts wherever a library can do that, inputs and outputs are bound
where it can, and of the layouts that a library offers its fastest counts. torch is also shown as most
programs call it: contiguous, eager.

- **Limit**: the longer of two times. One is that of a layer's useful multiply-adds (those that meet two
  real elements) at the rate of pure multiply-adds, the other that of its least bytes (input, weight and
  output once) at the rate of a copy of as many bytes. Both rates are measured beside the row.
- **Residual**: the largest distance from the float64 result, as a share of the largest value.
- **w**: MNN computes square kernels at stride 1 by Winograd's method, with fewer multiplications and
  another residual, which stands beside it; there it is outside the comparison.
"""


def write(files: Sequence[Path], folder: Path) -> list[Path]:
    """Write the page and its pictures into a folder, a section for each file; returns what was written."""
    parts = [INTRODUCTION]
    written: list[Path] = []
    (folder / PICTURES).mkdir(exist_ok=True)
    for position, path in enumerate(files):
        found = results.read(path)
        prefix = "performance" if len(files) == 1 else f"performance-{position + 1}"
        pictures = plots.draw(found, folder / PICTURES, prefix)
        written += pictures.values()
        links = {name: f"{PICTURES}/{picture.name}" for name, picture in pictures.items()}
        parts.append("\n".join(_machine(found, os.path.relpath(path, folder), links)))
    text = "\n".join(parts).rstrip() + "\n"
    write_whole(folder / PAGE, lambda beside: beside.write_text(text, encoding="utf-8"))
    return [folder / PAGE, *written]


def _machine(found: Results, source: str, pictures: dict[str, str]) -> Iterator[str]:
    machine = found.machine
    commits = sorted({row.commit for row in found.rows if row.commit})
    yield f"## {machine['cpu']}, {machine['cores']} cores"
    yield ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"{machine['system']}, Python {machine['python']}, {versions}."
    yield f"Measured at {', '.join(commits) or 'no commit'}; all figures: [{source}]({source})."
    yield ""
    for limit in sorted(found.limits, key=lambda limit: (limit["dtype"], limit["threads"])):
        rates = [f"{_giga(limit['flops'])} GFLOP/s of multiply-adds ({limit['dtype']})"]
        rates += [f"copies at {_giga(limit['memory_bytes_per_second'])} GB/s in memory"]
        rates += [f"{_giga(limit['cache_bytes_per_second'])} GB/s in a cache (half a megabyte)"]
        yield f"- {_threads(limit['threads'])}: {', '.join(rates)}"
    yield ""
    yield from _overview(found.rows)
    if "roofline" in pictures:
        yield f"![every layer under the roofs of the machine]({pictures['roofline']})"
        yield ""
        yield f"![share of the limit, by model]({pictures['families']})"
        yield ""
    for part in summary(found.rows):
        if part["suite"] != "growth":
            yield from _table([row for row in found.rows if _is_of(row, part)], part)
    yield from _growth([row for row in found.rows if row.job.suite == "growth"], pictures)
    for study, write_study in (("first", _first), ("lengths", _lengths), ("memory", _memory)):
        if found.studies.get(study):
            yield from write_study(found.studies[study])


def _is_of(row: Row, part: dict[str, Any]) -> bool:
    key = (part["suite"], part["training"], part["dtype"], part["threads"])
    return (row.job.suite, row.training, row.dtype, row.threads) == key


def _title(part: dict[str, Any]) -> str:
    title = TITLES.get(part["suite"], part["suite"] or "single layers")
    step = ": training steps" if part["training"] else ""
    dtype = "" if part["dtype"] == "float32" else f", {part['dtype']}"
    return f"{title}{step}{dtype}"


def _overview(rows: Sequence[Row]) -> Iterator[str]:
    """The geometric means of every table."""
    yield "| table | threads | rows | times torch as called | times best peer | behind it | % limit |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for part in summary(rows):
        if part["suite"] == "growth":
            continue
        yield _cells(
            _title(part),
            part["threads"],
            part["layers"],
            number(part["geometric_mean"], ".2f"),
            number(part["lead"], ".2f"),
            len(part["behind"]),
            percent(part["of_limit"]),
        )
    yield ""
    yield "Times and shares are geometric means over the rows, each library in its best layout for the row."
    yield ""


def _table(rows: Sequence[Row], part: dict[str, Any]) -> Iterator[str]:
    names = [name for name in CONTENDERS if any(row.median_ms(name) for row in rows)]
    others = [name for name in names if not CONTENDERS[name].ours]
    yield f"### {_title(part)}, {_threads(part['threads'])}"
    yield ""
    yield "Milliseconds of outstride on contiguous and on channels_last tensors; then how many times as long"
    yield "each of the others takes."
    yield ""
    ours = ["layer", "ms", "last ms", "GFLOP/s", "% limit", "residual", "spread %"]
    yield _cells(*ours, *(CONTENDERS[name].short for name in others), "best peer", "times")
    yield _cells("---", *("---:" for _ in range(len(ours) - 1 + len(others))), "---", "---:")
    for row in rows:
        yield _cells(*_row(row, others))
    yield ""
    if part["behind"]:
        behind = ", ".join(f"{name} {ratio:.2f}" for name, ratio in part["behind"].items())
        yield f"Behind the best peer: {behind}."
        yield ""


def _row(row: Row, others: Sequence[str]) -> list[str]:
    ours = row.timings[row.ours] if row.ours else None
    base = row.median_ms(row.ours) if row.ours else None
    ratios = []
    for name in others:
        theirs = row.median_ms(name)
        ratio = number(None if theirs is None or base is None else theirs / base, ".2f", absent="")
        residual = row.timings[name].residual if name in row.timings else None
        ratios.append(f"{ratio} w ({residual:.0e})" if ratio and residual and row.other_work(name) else ratio)
    return [
        row.job.id,
        milliseconds(row.median_ms("outstride")),
        milliseconds(row.median_ms("outstride_channels_last")),
        number(row.gflops(row.ours) if row.ours else None, ".1f"),
        percent(row.of_limit(row.ours) if row.ours else None),
        number(ours.residual if ours else None, ".0e"),
        percent(ours.spread if ours else None),
        *ratios,
        CONTENDERS[row.best_peer].short if row.best_peer else "",
        number(row.lead, ".2f"),
    ]


def _growth(rows: Sequence[Row], pictures: dict[str, str]) -> Iterator[str]:
    if not rows:
        return
    yield "### Cost as size grows"
    yield ""
    yield "Two layers on inputs that double, from a few kilobytes to a gigabyte of input and output."
    yield "The slope is the exponent of the best fit of time over size from a megabyte on: 1 is proportional."
    yield ""
    yield "| layer | threads | contender | slope | smallest, ms | largest, ms |"
    yield "|---|---:|---|---:|---:|---:|"
    for layer in studies.GROWTH:
        for threads in sorted({row.threads for row in rows}):
            mine = [row for row in rows if row.threads == threads]
            for name in dict.fromkeys(name for row in mine for name in row.timings):
                points = plots.growth_points(mine, layer, name)
                large = [point for point in points if point[0] >= 1 << 20]
                if len(large) > 1:
                    slope = number(studies.slope(*zip(*large, strict=True)), ".3f")
                    ends = (milliseconds(points[0][1]), milliseconds(points[-1][1]))
                    yield _cells(f"`{layer}`", threads, name, slope, *ends)
    yield ""
    if "growth" in pictures:
        yield f"![time for a million elements as the input doubles]({pictures['growth']})"
        yield ""


def _first(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "### The first call"
    yield ""
    yield "Milliseconds from a loaded library to the first result, in a fresh process: building, compiling,"
    yield "packing. Who keeps compiled code on disk has two: with nothing there yet, and with all there."
    yield ""
    yield from _pivot(entries, lambda entry: number(entry.get("first_ms"), ".0f", absent=""))


def _lengths(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
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


def _memory(entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "### Memory"
    yield ""
    yield "Megabytes of the highest resident memory during a repeated call, above the library, the input, the"
    yield "given weights and the output: packed weights, scratch and whatever else is kept."
    yield ""
    yield from _pivot(
        entries, lambda e: number(e["extra_bytes"] / 1e6 if "extra_bytes" in e else None, ".1f", "")
    )


def _pivot(entries: Sequence[dict[str, Any]], cell: Any) -> Iterator[str]:
    """A line for each layer and number of threads, a column for each contender."""
    who = dict.fromkeys((entry["contender"], entry["cache"]) for entry in entries)
    yield _cells("layer", "input", "threads", *(f"{n}, {cache} cache" if cache else n for n, cache in who))
    yield _cells("---", "---", *("---:" for _ in range(len(who) + 1)))
    lines = dict.fromkeys((entry["id"], tuple(entry["size"]), entry["threads"]) for entry in entries)
    for layer, size, threads in lines:
        found = {
            (e["contender"], e["cache"]): e for e in entries if (e["id"], e["threads"]) == (layer, threads)
        }
        values = [cell(found[key]) if key in found else "" for key in who]
        yield _cells(f"`{layer}`", "x".join(map(str, size)), threads, *values)
    yield ""


def _cells(*values: Any) -> str:
    return "| " + " | ".join(str(value) for value in values) + " |"


def _threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


def _giga(rate: float | None) -> str:
    return number(None if rate is None else rate / 1e9, ".0f")
