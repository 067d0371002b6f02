"""Put the table of a few layers and what all of them say together into a page, between two marks."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from outstride.bench import results
from outstride.bench.contenders import CONTENDERS
from outstride.bench.machine import processor
from outstride.bench.markdown import cells, counted, head
from outstride.bench.report import milliseconds, number, percent
from outstride.bench.results import Results
from outstride.bench.table import Row, is_real, over, summary
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
    """The lines that stand between the marks."""
    rows = [row for row in found.rows if row.job.suite == SUITE and is_real(row) and row.ratio is not None]
    parts = {part["threads"]: part for part in summary(rows)}
    if not parts:
        raise ArgumentError("'report' must hold rows of bench/layers.csv to tell a page of them: got none.")
    threads = min(parts)
    yield from _table([row for row in rows if row.threads == threads])
    yield ""
    yield from _together(found, rows, parts)


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield from head(
        "layer, from", ":input", "outstride ms", "torch ms", "times torch", "best of all others ms",
        "times that", "largest error",
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


def _together(found: Results, rows: Sequence[Row], parts: dict[int, dict[str, Any]]) -> Iterator[str]:
    """What all rows say together, at every number of threads."""
    numbers = sorted(parts)
    layers, machine = parts[numbers[0]]["layers"], found.machine

    def behind(part: dict[str, Any]) -> str:
        late = part["behind"]
        return f"{len(late)}" + (f" (down to {min(late.values()):.2f})" if late else "")

    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "times torch as called": lambda part: number(part["geometric_mean"], ".2f"),
        "times the fastest of all others on each layer": lambda part: number(part["lead"], ".2f"),
        "% of what the machine can do at most": lambda part: percent(part["of_limit"]),
        "layers on which another is ahead": behind,
    }
    title = f"all {layers} layers of [bench/layers.csv](bench/layers.csv), geometric means"
    yield from head(title, *(counted(threads, "thread") for threads in numbers))
    for name, figure in lines.items():
        yield cells(name, *(figure(parts[threads]) for threads in numbers))
    yield ""
    rivals = [name for key, name in NAMES.items() if any(row.median_ms(key) for row in rows)]
    words = (
        f"float32 inference, medians in alternating processes, on {processor(machine)} with "
        f"{counted(machine['cores'], 'core')}; the others are {', '.join(rivals)}, prepacked where they can. "
        f"The first table is of {counted(numbers[0], 'thread')} and contiguous tensors. The error is the "
        "distance from float64, relative to the largest value. All that was measured, and how: "
        "[docs/performance.md](docs/performance.md)."
    )
    yield textwrap.fill(words, WIDTH, break_on_hyphens=False, break_long_words=False)
