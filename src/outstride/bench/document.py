"""Write performance.md and its pictures from files of results and the notes beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outstride.bench import model_tables, plots, results, standings, study_tables, titles
from outstride.bench.contenders import CONTENDERS, FROZEN
from outstride.bench.machine import processor
from outstride.bench.markdown import cells, counted, head
from outstride.bench.report import milliseconds, number, of_direct, percent
from outstride.bench.results import Results
from outstride.bench.table import WHOLE, Row, geometric_mean, is_real, is_whole, summary
from outstride.output.files import write_whole

PAGE, PICTURES = "performance.md", "pictures"
INTRODUCTION = """\
# Performance

<!-- Written by `outstride bench --report`; change the results and the notes beside them, not this page. -->

How fast outstride is on {what}, beside every other library that computes them on a
processor, and how far from what the machine can do at most. [How to measure](guides/bench.md) makes the
same page of another machine.

**How it is measured.** Every contender runs in a process of its own, bound to the same cores, in turn with
the others, for several rounds of at least a few hundredths of a second; figures are medians. A round in
which the system gave the core to somebody else is taken again. Weights are packed before the clock starts
wherever a library can do that; inputs and outputs are bound where it can, while outstride and torch
allocate a new output each call, as their users see it. Of the layouts and forms that a library offers its
fastest counts. *torch as called* is torch on contiguous tensors, eager; a layer of outstride is compared with
it as called, too, and looks at its weights in each call. Other libraries keep weights of their own and do not
look: with them the faster is compared of that and *frozen*, `accelerate(layer, frozen=True)`, which promises
that nobody writes to weights.

- **limit**: the longer of two times. One is that of a layer's useful multiply-adds (those that meet two
  real elements) at the rate of pure multiply-adds, the other that of its least bytes (input, weight and
  output once) at the rate of a copy of as many bytes. Both rates are measured
  in every round of the row, for the clock moves with what neighbours on the machine do: of multiply-adds the
  median counts, of copies the highest. Short algorithms need fewer multiply-adds than are counted here.
- **residual**: the largest distance from the float64 result, as a share of the largest value.
- **direct**: the residual of the direct chain in the same layout, on rows that outstride computes by
  [short algorithms](guides/short.md).
- **w**: MNN computes square kernels at stride 1 by Winograd's method with large tiles: fewer multiplications
  than anybody else needs, and a larger residual, which stands beside its time.
- **~**: fewer rounds than the others had, for it was hopelessly behind or the row's time was over.
"""


def write(files: Sequence[Path], folder: Path) -> list[Path]:
    """Write the page and its pictures into a folder, a section for each file; returns what was written."""
    read = [results.read(path) for path in files]
    whole = any(row.is_model for found in read for row in found.rows)
    what = "whole models and on their layers" if whole else "layers of real models"
    parts = [INTRODUCTION.replace("{what}", what)]
    written: list[Path] = []
    (folder / PICTURES).mkdir(exist_ok=True)
    for position, (path, found) in enumerate(zip(files, read, strict=True)):
        prefix = "performance" if len(files) == 1 else f"performance-{position + 1}"
        pictures = plots.draw(found, folder / PICTURES, prefix)
        written += pictures.values()
        links = {name: f"{PICTURES}/{picture.name}" for name, picture in pictures.items()}
        parts.append("\n".join(_machine(found, os.path.relpath(path, folder), links)))
        parts += _notes(path)
    text = "\n".join(parts).rstrip() + "\n"
    write_whole(folder / PAGE, lambda beside: beside.write_text(text, encoding="utf-8"))
    return [folder / PAGE, *written]


def _notes(path: Path) -> list[str]:
    """What somebody wrote beside a file of results, under its name: why the figures are what they are."""
    notes = path.with_suffix(".md")
    return [notes.read_text(encoding="utf-8")] if notes.exists() else []


def _machine(found: Results, source: str, pictures: dict[str, str]) -> Iterator[str]:
    machine = found.machine
    yield f"## {processor(machine)}, {machine['cores']} cores"
    yield ""
    yield from _conditions(found, source)
    yield from _models([row for row in found.rows if row.is_model], pictures)
    yield from _overview(found.rows)
    real = [row for row in found.rows if is_real(row)]
    if real:
        yield from _standings(real, pictures)
    floats = _float32(found.rows)
    layers = [row for row in found.rows if not row.is_model]
    for part in summary(layers):
        if part["suite"] != "growth":
            yield from _table([row for row in layers if _is_of(row, part)], part, floats)
    for study, write_study in (
        ("first", study_tables.first),
        ("lengths", study_tables.lengths),
        ("memory", study_tables.memory),
        ("trained", study_tables.trained),
    ):
        if found.studies.get(study):
            yield from write_study(found.studies[study])
    yield from study_tables.growth([row for row in found.rows if row.job.suite == "growth"], pictures)


def _models(rows: Sequence[Row], pictures: Mapping[str, str]) -> Iterator[str]:
    """A section for each file of models and kind of work: those that a page leads with come first."""

    def kind(row: Row) -> tuple[Any, ...]:
        return (
            row.job.suite != WHOLE,
            row.job.suite,
            row.training,
            row.dtype != "float32",
            row.dtype,
            row.algorithm,
        )

    for group in sorted({kind(row) for row in rows}):
        mine = [row for row in rows if kind(row) == group]
        picture = pictures.get("models") if is_whole(mine[0]) else None
        _, suite, training, _, dtype, algorithm = group
        part = {"suite": suite, "training": training, "dtype": dtype, "algorithm": algorithm}
        yield from model_tables.section(mine, titles.of_table(part), picture)


def _conditions(found: Results, source: str) -> Iterator[str]:
    """Where and when: the machine, the libraries, the commits, its limits, and who else was working."""
    machine = found.machine
    entries = [entry for study in found.studies.values() for entry in study]
    named = [*(row.commit for row in found.rows), *(entry.get("commit") for entry in entries)]
    commits = sorted({str(name) for name in named if name})
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"{machine['system']}, Python {machine['python']}, {versions}."
    yield f"Measured at {', '.join(commits) or 'no commit'}; all figures: [{source}]({source})."
    rounds = [timing for row in found.rows for timing in row.timings.values() if timing.rounds_ms]
    disturbed = sum(bool({*timing.rounds_ms} & {*timing.disturbed_ms}) for timing in rounds)
    if rounds:
        yield f"Of {len(rounds)} medians {disturbed} hold rounds that somebody else on the machine disturbed."
    yield ""
    for limit in sorted(found.limits, key=lambda limit: (limit["dtype"], limit["threads"])):
        rates = [f"{_giga(limit['flops'])} GFLOP/s of multiply-adds ({limit['dtype']})"]
        rates += [f"copies at {_giga(limit['memory_bytes_per_second'])} GB/s in memory"]
        rates += [f"{_giga(limit['cache_bytes_per_second'])} GB/s in a cache (half a megabyte)"]
        yield f"- {counted(limit['threads'], 'thread')}: {', '.join(rates)}"
    yield ""


def _is_of(row: Row, part: dict[str, Any]) -> bool:
    return row.part == tuple(part[name] for name in ("suite", "training", "dtype", "threads", "algorithm"))


def _overview(rows: Sequence[Row]) -> Iterator[str]:
    """The geometric means of every table."""
    yield "### In short"
    yield ""
    yield from head("table", "threads", "rows", titles.OF_TORCH, titles.OF_BEST, "rows behind it", "% limit")
    for part in summary(rows):
        if part["suite"] == "growth":
            continue
        yield cells(
            titles.of_table(part),
            part["threads"],
            part["layers"],
            number(part["geometric_mean"], ".2f"),
            number(part["lead"], ".2f"),
            len(part["behind"]),
            percent(part["of_limit"]),
        )
    yield ""
    yield "Speeds and shares are geometric means over the rows; above 1 outstride is faster. The fastest"
    yield "other is that of all libraries on a row, each in its best layout for it."
    yield ""


def _standings(rows: Sequence[Row], pictures: Mapping[str, str]) -> Iterator[str]:
    yield "### Beside each library"
    yield ""
    if "leads" in pictures:
        yield f"![every layer's lead over the fastest of all others]({pictures['leads']})"
        yield ""
    yield from standings.of_libraries(rows)
    yield ""
    if "roofline" in pictures:
        yield f"![every layer under the roofs of the machine]({pictures['roofline']})"
        yield ""
    yield "### Kinds of layers"
    yield ""
    yield from standings.of_kinds(rows)
    yield ""
    if "families" in pictures:
        yield f"![share of the limit, by model]({pictures['families']})"
        yield ""
    yield "### Where outstride is behind"
    yield ""
    if any(row.lead is not None and row.lead < 1 for row in rows):
        yield "The rows on which another library is ahead, and what the figures say of it."
        yield ""
        yield from standings.behind(rows)
    else:
        yield "On no row."
    yield ""


def _table(rows: Sequence[Row], part: dict[str, Any], floats: Mapping[Any, float]) -> Iterator[str]:
    names = [name for name in CONTENDERS if any(row.median_ms(name) for row in rows)]
    others = [name for name in names if not CONTENDERS[name].ours]
    yield f"### {titles.of_table(part)}, {counted(part['threads'], 'thread')}"
    yield ""
    frozen = ["frozen ms"] if FROZEN in names else []
    also = ", and frozen" if frozen else ""
    yield f"Milliseconds of outstride on contiguous and on channels_last tensors{also};"
    yield "then how many times as long each of the others takes."
    yield ""
    narrow = ["times float32"] if part["dtype"] != "float32" else []
    short = ["direct"] if part["short"] else []
    ours = ["ms", "last ms", *frozen, *narrow, "GFLOP/s", "% limit", "residual", *short, "spread %"]
    shorts = [CONTENDERS[name].short for name in others]
    yield from head("layer", *ours, *shorts, ":fastest other", titles.OF_THAT)
    gains = []
    for row in rows:
        gain = _gain(row, floats)
        gains += [gain] if gain is not None else []
        more = [milliseconds(row.median_ms(FROZEN))] if frozen else []
        more += [number(gain, ".2f")] if narrow else []
        yield cells(*_row(row, others, more, direct=bool(short)))
    yield ""
    if short:
        yield f"Residuals are {of_direct(part)}."
        yield ""
    if gains:
        mean, least = number(geometric_mean(gains), ".2f"), number(min(gains), ".2f")
        yield f"Beside outstride's own float32: {mean} times as fast, geometric mean, and {least} at least."
        yield ""
    if part["behind"] and not is_real(rows[0]):
        late = ", ".join(f"{name} {lead:.2f}" for name, lead in part["behind"].items())
        yield f"Behind the fastest other: {late}."
        yield ""
    failed = [
        f"{CONTENDERS[name].short} on {row.job.id} ({timing.error})"
        for row in rows
        for name, timing in row.timings.items()
        if timing.error and not timing.error.startswith("UnsupportedError")
    ]
    if failed:
        yield f"Without a time: {'; '.join(failed)}."
        yield ""


def _float32(rows: Sequence[Row]) -> dict[Any, float]:
    """outstride's milliseconds in float32, by what else a row is."""
    times = {}
    for row in rows:
        ms = row.median_ms(row.ours) if row.ours else None
        if row.dtype == "float32" and ms is not None:
            times[row.job.suite, row.job.id, row.threads, row.training, row.algorithm] = ms
    return times


def _gain(row: Row, floats: Mapping[Any, float]) -> float | None:
    """How many times as long the same row takes in float32, where this one is of a narrower type."""
    ms = row.median_ms(row.ours) if row.ours else None
    wide = floats.get((row.job.suite, row.job.id, row.threads, row.training, row.algorithm))
    return None if row.dtype == "float32" or ms is None or wide is None else wide / ms


def _row(row: Row, others: Sequence[str], more: Sequence[str], direct: bool) -> list[str]:
    ours = row.timings[row.ours] if row.ours else None
    return [
        row.job.id,
        milliseconds(row.median_ms("outstride")),
        milliseconds(row.median_ms("outstride_channels_last")),
        *more,
        number(row.gflops(row.ours) if row.ours else None, ".1f"),
        percent(row.of_limit(row.ours) if row.ours else None),
        number(ours.residual if ours else None, ".0e"),
        *([number(ours.direct_residual if ours else None, ".0e", absent="")] if direct else []),
        percent(ours.spread if ours else None),
        *(_ratio(row, name) for name in others),
        CONTENDERS[row.best_peer].short if row.best_peer else "",
        number(row.lead, ".2f"),
    ]


def _ratio(row: Row, name: str) -> str:
    """How many times as long another library takes, with what must be known of that."""
    theirs, base = row.median_ms(name), row.median_ms(row.ours) if row.ours else None
    if theirs is None or base is None:
        return ""
    timing, most = row.timings[name], max(len(timing.rounds_ms) for timing in row.timings.values())
    ratio = ("~" if len(timing.rounds_ms) < most else "") + number(theirs / base, ".2f")
    if not row.by_winograd(name):
        return ratio
    return ratio + (f" w ({timing.residual:.0e})" if timing.residual is not None else " w")


def _giga(rate: float | None) -> str:
    return number(None if rate is None else rate / 1e9, ".0f")
