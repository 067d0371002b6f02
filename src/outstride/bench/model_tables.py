"""The tables of whole models in a report: times of all, with first calls, memory and residuals beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from outstride.bench import titles
from outstride.bench.contenders import CONTENDERS
from outstride.bench.contest import Timing
from outstride.bench.markdown import cells, counted, head
from outstride.bench.model_report import seconds
from outstride.bench.report import failures, megabytes, milliseconds, number
from outstride.bench.table import Row

TIMES = """\
Milliseconds of a call, each way to outstride and each of the others in its fastest form; then the
fastest of ours beside torch as called, and beside the fastest of all others. *outstride* is
`accelerate(model)`, *outstride compiled* `torch.compile(model, backend="outstride")`, where it was there."""
MEMORY = """\
Megabytes of the highest resident memory during a repeated call, above the loaded library and the input:
weights as given and in a library's own order, and everything between input and output."""
FIRST = """\
Seconds from a loaded library to the first result, with nothing compiled on disk: all that is done once, such
as exporting, compiling and packing."""
BESIDE: Mapping[str, tuple[str, Callable[[Timing], str]]] = {
    "The first call": (
        FIRST,
        lambda timing: seconds(timing.first_ms),
    ),
    "Memory": (
        MEMORY,
        lambda timing: megabytes(timing.memory_bytes),
    ),
    "Residuals": (
        "The largest distance from the float64 result, as a share of the largest value.",
        lambda timing: number(timing.residual, ".0e"),
    ),
}


def section(rows: Sequence[Row], title: str, picture: str | None) -> Iterator[str]:
    """All that is said of these models, which differ in their number of threads at most."""
    yield f"### {title}"
    yield ""
    yield from TIMES.splitlines()
    yield ""
    if picture is not None:
        yield f"![time of every model beside torch's]({picture})"
        yield ""
    for threads in sorted({row.threads for row in rows}):
        yield f"#### {counted(threads, 'thread')}"
        yield ""
        yield from _times([row for row in rows if row.threads == threads])
        yield ""
    least = min(row.threads for row in rows)
    for name, (words, figure) in BESIDE.items():
        yield f"#### {name}, {counted(least, 'thread')}"
        yield ""
        yield from words.splitlines()
        yield ""
        yield from _beside([row for row in rows if row.threads == least], figure)
        yield ""
    missing = [
        f"{row.job.id}, {counted(row.threads, 'thread')}: {why}" for row in rows for why in failures(row)
    ]
    if missing:
        yield "Without a time:"
        yield ""
        yield from (f"- {words}" for words in missing)
        yield ""


def size(row: Row) -> str:
    """The input of a model: 1 x 3 x 224 x 224."""
    return " x ".join(map(str, row.input_shape or ()))


def _times(rows: Sequence[Row]) -> Iterator[str]:
    names = _timed(rows)
    yield from head("model", ":input", *_named(names), titles.OF_TORCH, ":fastest other", titles.OF_THAT)
    for row in rows:
        yield cells(
            row.job.id,
            size(row),
            *(_milliseconds(row, name) for name in names),
            number(row.ratio, ".2f"),
            titles.NAMES[row.best_peer] if row.best_peer else "",
            number(row.lead, ".2f"),
        )


def _milliseconds(row: Row, name: str) -> str:
    timing = row.timings.get(name)
    if timing is None or timing.median_ms is None:
        return ""
    most = max(len(other.rounds_ms) for other in row.timings.values())
    return ("~" if len(timing.rounds_ms) < most else "") + milliseconds(timing.median_ms)


def _beside(rows: Sequence[Row], figure: Callable[[Timing], str]) -> Iterator[str]:
    names = _timed(rows)
    yield from head("model", "weights MB", *_named(names))
    for row in rows:
        found = [row.timings.get(name) for name in names]
        figures = ("" if timing is None or timing.median_ms is None else figure(timing) for timing in found)
        yield cells(row.job.id, megabytes(row.weight_bytes), *figures)


def _named(names: Sequence[str]) -> list[str]:
    return [titles.NAMES[name] for name in names]


def _timed(rows: Sequence[Row]) -> list[str]:
    return [name for name in CONTENDERS if any(row.median_ms(name) is not None for row in rows)]
