"""Lay the rows of a benchmark out as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outstride.bench.table import Row

COLUMNS = {
    "layer": 22,
    "threads": 7,
    "outstride ms": 12,
    "GFLOP/s": 8,
    "% peak": 6,
    "torch ms": 10,
    "ratio": 6,
    "residual": 8,
    "torch's": 8,
    "first ms": 8,
}


def number(value: float | None, form: str = ".3g", absent: str = "-") -> str:
    return absent if value is None else format(value, form)


def milliseconds(value: float | None) -> str:
    return number(value, ".4f" if value is not None and value < 1 else ".2f")


def cells(row: Row) -> list[str]:
    """One row of the table over many layers."""
    ours, theirs = row.timings["outstride"], row.timings["torch"]
    of_peak = row.of_peak("outstride")
    return [
        row.job.id,
        str(row.threads),
        milliseconds(ours.median_ms),
        number(row.gflops("outstride"), ".1f"),
        number(None if of_peak is None else 100 * of_peak, ".0f"),
        milliseconds(theirs.median_ms),
        number(row.ratio, ".2f"),
        number(ours.residual, ".1e"),
        number(theirs.residual, ".1e"),
        number(ours.first_ms, ".0f"),
    ]


def line(row: Row) -> str:
    """The same as one line of fixed columns, for a run that prints as it goes."""
    reasons = [f"{name}: {timing.error}" for name, timing in row.timings.items() if timing.error]
    return "  ".join([_aligned(cells(row)), *reasons])


def heading() -> str:
    """The names above the columns of `line`."""
    return _aligned(list(COLUMNS))


def _aligned(parts: Sequence[str]) -> str:
    first, *others = zip(parts, COLUMNS.values(), strict=True)
    return "  ".join([first[0].ljust(first[1]), *(part.rjust(width) for part, width in others)])


def comparison(row: Row) -> str:
    """One piece of work, a line for each contender."""
    threads = f"{row.threads} thread" + ("s" if row.threads > 1 else "")
    work = "forward and both gradients" if row.training else "inference"
    flops = f", {row.flops / 1e9:.4g} GFLOP" if row.flops is not None else ""
    lines = [f"{row.job.id}: {threads}, {row.dtype}, {work}{flops}"]
    names = ("", "median ms", "min ms", "GFLOP/s", "% peak", "times torch", "residual", "first ms")
    lines.append("  ".join(name.ljust(12) if not name else name.rjust(11) for name in names))
    reference = row.timings["torch"].median_ms if "torch" in row.timings else None
    for contender, timing in row.timings.items():
        if timing.error is not None and timing.median_ms is None:
            lines.append(f"{contender:12}  {timing.error}")
            continue
        of_peak = row.of_peak(contender)
        ratio = None if reference is None or timing.median_ms is None else reference / timing.median_ms
        parts = [
            milliseconds(timing.median_ms),
            milliseconds(timing.minimum_ms),
            number(row.gflops(contender), ".1f"),
            number(None if of_peak is None else 100 * of_peak, ".0f"),
            number(ratio, ".2f"),
            number(timing.residual, ".1e"),
            number(timing.first_ms, ".0f"),
        ]
        lines.append("  ".join([f"{contender:12}", *(part.rjust(11) for part in parts)]))
    return "\n".join(lines)


def closing(summaries: Sequence[dict[str, Any]]) -> list[str]:
    """What the run says as a whole, a few lines for each number of threads."""
    lines = []
    for part in summaries:
        threads = f"{part['threads']} thread" + ("s" if part["threads"] > 1 else "")
        mean = number(part["geometric_mean"], ".2f")
        lines.append(f"{threads}: {part['layers']} layers, {mean} times torch (geometric mean)")
        slower = ", ".join(f"{name} {ratio:.2f}" for name, ratio in part["slower"].items())
        lines.append(f"  slower than torch: {slower or 'none'}")
        if part["unmeasured"]:
            lines.append(f"  without a ratio: {', '.join(part['unmeasured'])}")
    return lines
