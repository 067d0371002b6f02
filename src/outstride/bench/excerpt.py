"""Put tables of models and of a few layers, and what all of them say, into a page, between two marks."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from outstride.bench import model_tables, results
from outstride.bench.contenders import CONTENDERS
from outstride.bench.machine import processor
from outstride.bench.markdown import cells, counted, head
from outstride.bench.model_report import seconds
from outstride.bench.report import megabytes, milliseconds, number, percent
from outstride.bench.results import Results
from outstride.bench.table import Row, is_real, is_whole, over, summary
from outstride.errors import ArgumentError
from outstride.output.files import write_whole

BEGIN, END = "<!-- measured table -->", "<!-- end of the measured table -->"
SUITE, WIDTH = "layers", 118
NAMES = {
    "torch": "torch",
    "torch_channels_last": "torch in channels_last",
    "torch_compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "jax": "JAX",
    "mnn": "MNN",
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
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ArgumentError(f"'readme' must hold the lines {BEGIN} and {END}: {str(page)!r} does not.")
    lines = excerpt(results.read(source))
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"


def excerpt(found: Results) -> Iterator[str]:
    """The lines that stand between the marks: whole models, where there are some, then layers."""
    models = [row for row in found.rows if is_whole(row) and row.ratio is not None]
    layers = [row for row in found.rows if row.job.suite == SUITE and is_real(row) and row.ratio is not None]
    if not models and not layers:
        raise ArgumentError(
            "'report' must hold rows of bench/layers.csv or bench/models.py to tell a page of them: got none."
        )
    for rows, table, noun, source in (
        (models, _models, "models", "bench/models.py"),
        (layers, _layers, "layers", "bench/layers.csv"),
    ):
        if rows:
            yield from table(_of_fewest(rows))
            yield ""
            yield from _together(rows, noun, source)
            yield ""
    yield from _conditions(found, [*models, *layers])


def _of_fewest(rows: Sequence[Row]) -> list[Row]:
    least = min(row.threads for row in rows)
    return [row for row in rows if row.threads == least]


def _models(rows: Sequence[Row]) -> Iterator[str]:
    yield from head(
        "model", ":input", "ms", "torch's ms", "times as fast", "fastest of all others, ms", "times as fast",
        "largest error", "first call, s", "memory, MB", "torch's MB",
    )  # fmt: skip
    for row in rows:
        ours, best = row.timings[row.ours or ""], row.best_peer
        yield cells(
            row.job.id,
            model_tables.size(row),
            milliseconds(ours.median_ms),
            milliseconds(row.median_ms("torch")),
            number(row.ratio, ".2f"),
            f"{milliseconds(row.median_ms(best))} {CONTENDERS[best].short}" if best else "",
            number(row.lead, ".2f"),
            number(ours.residual, ".1e"),
            seconds(ours.first_ms),
            megabytes(ours.memory_bytes),
            megabytes(row.timings["torch"].memory_bytes),
        )


def _layers(rows: Sequence[Row]) -> Iterator[str]:
    yield from head(
        "layer, from", ":input", "ms", "torch's ms", "times as fast", "fastest of all others, ms",
        "times as fast", "largest error",
    )  # fmt: skip
    found = {row.job.id: row for row in rows}
    for row in (found[name] for name in SHOWN if name in found):
        case = row.job.case
        assert case is not None
        timing = row.timings["outstride"]
        best = row.best_peer
        yield cells(
            f"`{_layer(row)}`, {case.model.split('(')[0].strip()}",
            f"{case.batch} x {'x'.join(map(str, case.input_size))}",
            milliseconds(timing.median_ms),
            milliseconds(row.median_ms("torch")),
            number(row.ratio, ".2f"),
            f"{milliseconds(row.median_ms(best))} {CONTENDERS[best].short}" if best else "",
            number(over(row.median_ms(best), timing.median_ms) if best else None, ".2f"),
            number(timing.residual, ".1e"),
        )


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


def _together(rows: Sequence[Row], noun: str, source: str) -> Iterator[str]:
    """What all rows say together, at every number of threads."""
    parts = {part["threads"]: part for part in summary(rows)}
    numbers = sorted(parts)

    def behind(part: dict[str, Any]) -> str:
        late = part["behind"]
        return f"{len(late)}" + (f" (down to {min(late.values()):.2f})" if late else "")

    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "times torch as called": lambda part: number(part["geometric_mean"], ".2f"),
        f"times the fastest of all others on each {noun[:-1]}": lambda part: number(part["lead"], ".2f"),
        "% of what the machine can do at most": lambda part: percent(part["of_limit"]),
        f"{noun} on which another is ahead": behind,
    }
    count = parts[numbers[0]]["layers"]
    title = f"all {count} {noun} of [{source}]({source}), geometric means"
    yield from head(title, *(counted(threads, "thread") for threads in numbers))
    for name, figure in lines.items():
        # What a whole model must move at least nobody knows.
        if any(parts[threads]["of_limit"] for threads in numbers) or not name.startswith("%"):
            yield cells(name, *(figure(parts[threads]) for threads in numbers))


def _conditions(found: Results, rows: Sequence[Row]) -> Iterator[str]:
    machine, least = found.machine, min(row.threads for row in rows)
    rivals = [name for key, name in NAMES.items() if any(row.median_ms(key) for row in rows)]
    whole = any(row.is_model for row in rows)
    of_models = (
        " Models are in their fastest form, first calls with nothing compiled before." if whole else ""
    )
    tables = "Tables of rows are" if whole else "The first table is"
    words = (
        f"float32 inference, medians in alternating processes, on {processor(machine)} with "
        f"{counted(machine['cores'], 'core')}; the others are {', '.join(rivals)}, prepacked where they can. "
        f"{tables} of {counted(least, 'thread')} and contiguous tensors.{of_models} The error is the "
        "distance from float64, relative to the largest value. All that was measured, and how: "
        "[docs/performance.md](docs/performance.md)."
    )
    yield textwrap.fill(words, WIDTH, break_on_hyphens=False, break_long_words=False)
