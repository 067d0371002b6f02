"""Put tables of models and of layers, and what all of them say, into a page, between marks of their own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outstride.bench import model_tables, results, titles
from outstride.bench.contenders import FROZEN
from outstride.bench.machine import processor
from outstride.bench.markdown import cells, counted, head
from outstride.bench.model_report import seconds
from outstride.bench.report import milliseconds, number, percent
from outstride.bench.results import Results
from outstride.bench.table import Row, is_real, is_whole, over, summary
from outstride.errors import ArgumentError
from outstride.output.files import write_whole

SUITE, WIDTH = "layers", 118
FORMS = {
    "outstride_compile": '`torch.compile(model, backend="outstride")`',
    "outstride": "`accelerate(model)`",
    "outstride_channels_last": "`accelerate(model)` in channels_last",
}
# Every dimension, both operators, thin, deep, grouped; where outstride is far ahead and where it is not.
SHOWN = (
    "unet512.3",
    "unet512.1",
    "pix2pix.7",
    "fsrcnn_x3",
    "bigvgan_aa.3",
    "onednn_hifigan_b1.1",
    "cyclegan.1",
    "maskrcnn",
    "vnet.3",
    "conv3d.d2",
    "mobilenet.dw56",
    "resnet50.l4.3x3",
    "resnet50.l1.3x3",
)


def write(source: Path, page: Path) -> Path:
    """Replace what stands between the marks of a page by the figures of a file of results."""
    text = filled(source, page)
    write_whole(page, lambda beside: beside.write_text(text, encoding="utf-8"))
    return page


def marks(part: str) -> tuple[str, str]:
    """The lines between which a page has its part, one of "models" and "layers"."""
    return f"<!-- measured {part} -->", f"<!-- end of the measured {part} -->"


def filled(source: Path, page: Path) -> str:
    """What the page is with these figures between its marks.

    Raises:
        ArgumentError: the page cannot be read or has no marks, or the results have none of its layers.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(
            f"'readme' must be a page that can be read: got {str(page)!r} ({error})."
        ) from error
    found, seen = results.read(source), False
    for part, lines in PARTS.items():
        first, last = marks(part)
        before, begin, rest = text.partition(first)
        _, end, after = rest.partition(last)
        if begin and end:
            text, seen = f"{before}{first}\n" + "\n".join(lines(found)) + f"\n{last}{after}", True
    if not seen:
        lines_ = " or ".join(" and ".join(marks(part)) for part in PARTS)
        raise ArgumentError(f"'readme' must hold the lines {lines_}: {str(page)!r} does not.")
    return text


def of_models(found: Results) -> Iterator[str]:
    """Every whole model on the fewest threads; then all together, the costs, and where others are ahead."""
    rows = _rows(found, is_whole, "bench/models.py")
    least = _of_fewest(rows)
    yield f"Whole models, {counted(least[0].threads, 'thread')}; at a speed above 1 outstride is faster."
    yield ""
    yield from head(
        "model", ":input", "outstride, ms", "torch, ms", titles.OF_TORCH, "fastest other, ms", titles.OF_THAT
    )
    for row in least:
        yield cells(row.job.id, model_tables.size(row), *_times(row, row.ours or "", row.lead))
    yield ""
    for part in summary(rows):
        yield _wrapped(_together(part))
        yield ""
    yield _wrapped(" ".join([*_costs(least), *_behind(found, least)]))
    yield ""
    forms = " or ".join(form for name, form in FORMS.items() if any(row.ours == name for row in least))
    yield _wrapped(
        f"float32 inference, outstride by {forms}, {_where(found, rows)}, "
        f"{counted(least[0].threads, 'thread')}. Every figure, and how it was measured: "
        "[docs/performance.md](docs/performance.md)."
    )


def of_layers(found: Results) -> Iterator[str]:
    """A few layers on the fewest threads; then all of them, and every other kind of work that was timed."""
    rows = _rows(found, lambda row: row.job.suite == SUITE and is_real(row), "bench/layers.csv")
    yield from head(
        "layer, from", ":input", "outstride, ms", "torch, ms", titles.OF_TORCH, "fastest other, ms",
        titles.OF_THAT, "largest error",
    )  # fmt: skip
    least = {row.job.id: row for row in _of_fewest(rows)}
    for row in (least[name] for name in SHOWN if name in least):
        case = row.job.case
        assert case is not None
        timing = row.timings["outstride"]
        lead = over(row.median_ms(row.best_peer), timing.median_ms) if row.best_peer else None
        yield cells(
            f"`{_layer(row)}`, {case.model.split('(')[0].strip()}",
            f"{case.batch} x {'x'.join(map(str, case.input_size))}",
            *_times(row, "outstride", lead),
            number(timing.residual, ".1e"),
        )
    yield ""
    yield from _all_layers(rows)
    yield ""
    others = list(_others(found))
    if others:
        yield from head(
            "other work, geometric means", "rows", titles.OF_TORCH, titles.OF_BEST, "rows behind it"
        )
        yield from others
        yield ""
    weights = ", with frozen weights where that is faster" if any(row.ours == FROZEN for row in rows) else ""
    yield _wrapped(
        f"Each layer as called, on contiguous tensors; in means the faster memory format{weights}. All are "
        f"{_where(found, rows)}, "
        f"{counted(min(row.threads for row in rows), 'thread')} where no other number stands. "
        "The error is the distance from float64, relative to the largest value."
    )


PARTS: Mapping[str, Callable[[Results], Iterator[str]]] = {"models": of_models, "layers": of_layers}


def _rows(found: Results, wanted: Callable[[Row], bool], source: str) -> list[Row]:
    rows = [row for row in found.rows if wanted(row) and row.ratio is not None]
    if not rows:
        raise ArgumentError(f"'report' must hold rows of {source} to tell a page of them: got none.")
    return rows


def _of_fewest(rows: Sequence[Row]) -> list[Row]:
    least = min(row.threads for row in rows)
    return [row for row in rows if row.threads == least]


def _layer(row: Row) -> str:
    """The layer as torch writes it, without the options that do not tell layers apart at a glance."""
    case = row.job.case
    assert case is not None

    def short(values: Sequence[int]) -> str:
        return str(values[0]) if len(set(values)) == 1 else str(tuple(values))

    name = f"Conv{'Transpose' if case.transposed else ''}{case.nd}d"
    words = [str(case.in_channels), str(case.out_channels), short(case.kernel_size)]
    words += [f"stride={short(case.stride)}"] if set(case.stride) != {1} else []
    words += [f"dilation={short(case.dilation)}"] if set(case.dilation) != {1} else []
    words += [f"groups={case.groups}"] if case.groups > 1 else []
    return f"{name}({', '.join(words)})"


def _times(row: Row, ours: str, lead: float | None) -> list[str]:
    """Our milliseconds, torch's and those of the fastest of all others, with what is between them."""
    best = row.best_peer
    return [
        milliseconds(row.median_ms(ours)),
        milliseconds(row.median_ms("torch")),
        number(row.ratio, ".2f"),
        f"{milliseconds(row.median_ms(best))} {titles.NAMES[best]}" if best else "",
        number(lead, ".2f"),
    ]


def _together(part: Mapping[str, Any]) -> str:
    """What all models say together at a number of threads."""
    late = part["behind"]
    names = ", ".join(f"{name} {lead:.2f}" for name, lead in late.items())
    measured = part["layers"] - len(part["unmeasured"])
    return (
        f"All {measured} together, {counted(part['threads'], 'thread')}, geometric means: "
        f"{number(part['geometric_mean'], '.2f')} times torch's speed, {number(part['lead'], '.2f')} times "
        f"that of the fastest other on each. Another is ahead on {len(late)}"
        + (f" ({names})." if late else ".")
    )


def _costs(rows: Sequence[Row]) -> Iterator[str]:
    """What is paid for the speed: the first call, and memory."""
    pairs = [(row.timings[row.ours or ""], row.timings["torch"]) for row in rows]
    first = [ours.first_ms for ours, _ in pairs if ours.first_ms]
    theirs = [torch.first_ms for _, torch in pairs if torch.first_ms]
    memory = [share for ours, torch in pairs if (share := over(ours.memory_bytes, torch.memory_bytes))]
    if first and theirs:
        yield (
            f"A first call, with nothing compiled before, takes {seconds(min(first))} to "
            f"{seconds(max(first))} s (torch's {seconds(min(theirs))} to {seconds(max(theirs))})."
        )
    if memory:
        yield f"A call takes {min(memory):.1f} to {max(memory):.1f} times torch's memory, weights included."


def _behind(found: Results, rows: Sequence[Row]) -> Iterator[str]:
    """The kinds of work in which another is ahead on the whole."""
    parts = [
        part for part in _beyond(found, rows[0].threads) if part["lead"] is not None and part["lead"] < 1
    ]
    if parts:
        kinds = ", ".join(f"{_short(titles.of_table(part))} ({part['lead']:.2f})" for part in parts)
        yield f"On the whole the fastest other is ahead on {kinds}."


def _short(title: str) -> str:
    """A title within a sentence."""
    return title[0].lower() + title[1:].replace(": what a call costs", "")


def _beyond(found: Results, threads: int) -> list[dict[str, Any]]:
    """What was timed on so many threads beside models and the first table of layers."""
    rows = [row for row in found.rows if row.threads == threads and not row.is_model]
    first = (SUITE, False, "float32")
    return [
        part
        for part in summary([row for row in rows if row.job.suite in titles.TABLES])
        if (part["suite"], part["training"], part["dtype"]) != first
    ]


def _others(found: Results) -> Iterator[str]:
    for part in _beyond(found, min(row.threads for row in found.rows)):
        yield cells(
            titles.of_table(part),
            part["layers"],
            number(part["geometric_mean"], ".2f"),
            number(part["lead"], ".2f"),
            len(part["behind"]),
        )


def _all_layers(rows: Sequence[Row]) -> Iterator[str]:
    """What all layers say together, a column for every number of threads."""
    parts = {part["threads"]: part for part in summary(rows)}
    numbers = sorted(parts)

    def behind(part: dict[str, Any]) -> str:
        late = part["behind"]
        return f"{len(late)}" + (f" (down to {min(late.values()):.2f})" if late else "")

    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        titles.OF_TORCH: lambda part: number(part["geometric_mean"], ".2f"),
        "speed, fastest other on each layer = 1": lambda part: number(part["lead"], ".2f"),
        "% of what the machine can do at most": lambda part: percent(part["of_limit"]),
        "layers on which another is ahead": behind,
    }
    count = parts[numbers[0]]["layers"]
    title = f"all {count} layers of [bench/layers.csv](bench/layers.csv), geometric means"
    yield from head(title, *(counted(threads, "thread") for threads in numbers))
    for name, figure in lines.items():
        yield cells(name, *(figure(parts[threads]) for threads in numbers))


def _where(found: Results, rows: Sequence[Row]) -> str:
    """How and on what: medians of whom, and the machine."""
    rivals = [
        name
        for key, name in titles.NAMES.items()
        if not key.startswith("outstride") and any(row.median_ms(key) for row in rows)
    ]
    machine = f"{processor(found.machine)} with {counted(found.machine['cores'], 'core')}"
    return (
        f"medians in alternating processes on {machine}, beside {', '.join(rivals)}, prepacked where they can"
    )


def _wrapped(words: str) -> str:
    return textwrap.fill(words, WIDTH, break_on_hyphens=False, break_long_words=False)
