"""Lay the rows of a benchmark out as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outstride.bench.contenders import CONTENDERS, FROZEN
from outstride.bench.table import Row, over

FIXED = {
    "layer": 22,
    "threads": 7,
    "ours ms": 9,
    "last ms": 9,
    "frozen ms": 9,
    "GFLOP/s": 8,
    "% limit": 7,
    "residual": 8,
    "direct": 8,
    "spread": 6,
    "first ms": 8,
}
ENDING = {"best peer": 11, "lead": 5}
RATIO_WIDTH = 6


def number(value: float | None, form: str = ".3g", absent: str = "-") -> str:
    return absent if value is None else format(value, form)


def milliseconds(value: float | None) -> str:
    return number(value, ".4f" if value is not None and value < 1 else ".2f")


def megabytes(value: float | None) -> str:
    return number(None if value is None else value / 1e6, ".0f")


def percent(share: float | None) -> str:
    return number(None if share is None else 100 * share, ".0f")


def peers(contenders: Sequence[str]) -> list[str]:
    return [name for name in contenders if not CONTENDERS[name].ours]


def line(row: Row, contenders: Sequence[str]) -> str:
    """One row of a table as fixed columns: ours, then how many times as long each peer takes."""
    ours = row.timings[row.ours] if row.ours else None
    cells = [
        row.job.id,
        str(row.threads),
        milliseconds(row.median_ms("outstride")),
        milliseconds(row.median_ms("outstride_channels_last")),
        milliseconds(row.median_ms(FROZEN)),
        number(row.gflops(row.ours) if row.ours else None, ".1f"),
        percent(row.of_limit(row.ours) if row.ours else None),
        number(ours.residual if ours else None, ".1e"),
        number(ours.direct_residual if ours else None, ".1e"),
        percent(ours.spread if ours else None),
        number(ours.first_ms if ours else None, ".0f"),
    ]
    ratios = [_ratio(row, name) for name in peers(contenders)]
    best = CONTENDERS[row.best_peer].short if row.best_peer else "-"
    ending = [best, number(row.lead, ".2f")]
    return "  ".join([_aligned([*cells, *ratios, *ending], contenders), *failures(row)])


def _ratio(row: Row, name: str) -> str:
    theirs, ours = row.median_ms(name), row.median_ms(row.ours) if row.ours else None
    if theirs is None or ours is None:
        return "-"
    return number(theirs / ours, ".2f") + ("w" if row.by_winograd(name) else "")


def failures(row: Row) -> list[str]:
    """Why somebody has no time, where it is not what the library does not do; once where all say it."""
    said = {name: timing.error for name, timing in row.timings.items() if timing.error}
    if len(said) == len(row.timings) > 1 and len(set(said.values())) == 1:
        return [f"nobody: {reasons(row)[0]}"]
    return [f"{name}: {error}" for name, error in said.items() if not error.startswith("UnsupportedError")]


def reasons(row: Row) -> list[str]:
    """Every reason for having no time."""
    return list(dict.fromkeys(timing.error for timing in row.timings.values() if timing.error))


def heading(contenders: Sequence[str]) -> str:
    """The names above the columns of `line`."""
    return _aligned([*FIXED, *(CONTENDERS[name].short for name in peers(contenders)), *ENDING], contenders)


def _aligned(parts: Sequence[str], contenders: Sequence[str]) -> str:
    middle = [max(RATIO_WIDTH, len(CONTENDERS[name].short)) for name in peers(contenders)]
    widths = [*FIXED.values(), *middle, *ENDING.values()]
    first, *others = zip(parts, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(part.rjust(width) for part, width in others)])


def comparison(row: Row) -> str:
    """One piece of work, a line for each contender."""
    threads = f"{row.threads} thread" + ("s" if row.threads > 1 else "")
    work = "forward and both gradients" if row.training else "inference"
    flops = f", {row.flops / 1e9:.4g} GFLOP" if row.flops is not None else ""
    lines = [f"{row.job.id}: {threads}, {row.dtype}, {work}{_algorithm(row.algorithm)}{flops}"]
    if row.limit_ms is not None and row.peak and row.copy:
        rates = f"{row.peak / 1e9:.0f} GFLOP/s, {row.copy / 1e9:.0f} GB/s"
        lines.append(f"limit of this machine: {milliseconds(row.limit_ms)} ms ({rates})")
    names = (
        "",
        "median ms",
        "min ms",
        "spread %",
        "GFLOP/s",
        "% limit",
        "times torch",
        "residual",
        "direct",
        "first ms",
        *(["memory MB"] if row.is_model else []),
    )
    lines.append("  ".join(name.ljust(23) if not name else name.rjust(11) for name in names))
    reference = row.median_ms("torch")
    for contender, timing in row.timings.items():
        if timing.median_ms is None:
            lines.append(f"{contender:23}  {timing.error}")
            continue
        parts = [
            milliseconds(timing.median_ms),
            milliseconds(timing.minimum_ms),
            percent(timing.spread),
            number(row.gflops(contender), ".1f"),
            percent(row.of_limit(contender)),
            number(None if reference is None else reference / timing.median_ms, ".2f"),
            number(timing.residual, ".1e"),
            number(timing.direct_residual, ".1e", absent=""),
            number(timing.first_ms, ".0f"),
            *([megabytes(timing.memory_bytes)] if row.is_model else []),
        ]
        note = ["Winograd"] if row.by_winograd(contender) else []
        lines.append("  ".join([f"{contender:23}", *(part.rjust(11) for part in parts), *note]).rstrip())
    return "\n".join(lines)


def closing(summaries: Sequence[dict[str, Any]]) -> list[str]:
    """What the run says as a whole, a few lines for each table and number of threads."""
    lines = []
    for part in summaries:
        threads = f"{part['threads']} thread" + ("s" if part["threads"] > 1 else "")
        work = f"{part['dtype']} training steps" if part["training"] else part["dtype"]
        work += _algorithm(part["algorithm"])
        lines.append(
            f"{part['suite'] or 'layers'}, {work}, {threads}, {part['layers']} rows, geometric means: "
            f"{number(part['geometric_mean'], '.2f')} times torch, {number(part['lead'], '.2f')} times the "
            f"best peer of each row, {percent(part['of_limit'])} % of the limit"
        )
        if part["short"]:
            lines.append(f"  residuals: {of_direct(part)}")
        lines.append(f"  slower than torch: {_listed(part['slower'])}")
        lines.append(f"  behind the best peer: {_listed(part['behind'])}")
        if part["unmeasured"]:
            lines.append(f"  without a ratio: {', '.join(part['unmeasured'])}")
    return lines


def of_direct(part: dict[str, Any]) -> str:
    """How residuals stand beside those of the direct chain, over the rows by short algorithms."""
    mean, most = number(part["of_direct"], ".2f"), number(part["most_of_direct"], ".2f")
    rows = f"{part['short']} row" + ("s" if part["short"] > 1 else "")
    return (
        f"{mean} of those of the direct chain, geometric mean of {rows} by short algorithms, {most} at most"
    )


def _algorithm(name: str) -> str:
    return "" if name == "auto" else f", {name}"


def _listed(ratios: dict[str, float]) -> str:
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()) or "none"


def observation(study: str, entry: dict[str, Any]) -> str:
    """One line of a study."""
    if study == "trained":
        shares = (over(entry[name], entry[f"direct_{name}"]) for name in ("residual", "mean_error"))
        largest, mean = (number(share, ".2f") for share in shares)
        return (
            f"{entry['id']}: residual {entry['residual']:.1e}, of the direct chain "
            f"{entry['direct_residual']:.1e}: {largest} of it, mean errors {mean}"
        )
    who = entry["contender"] + (f", {entry['cache']} cache" if entry["cache"] else "")
    begin = f"{entry['id']}  {entry['threads']} thread{'s' if entry['threads'] > 1 else ''}  {who}:"
    if "error" in entry:
        return f"{begin} {entry['error']}"
    if study == "first":
        return f"{begin} first call {entry['first_ms']:.1f} ms"
    if study == "memory":
        extra, weights = entry["extra_bytes"] / 1e6, entry["weight_bytes"] / 1e6
        return f"{begin} {extra:.2f} MB above input, weights ({weights:.2f} MB) and output"
    return (
        f"{begin} a new length each call {entry['new_ms']:.3f} ms, again {entry['repeated_ms']:.3f} ms, "
        f"ratio {entry['times_repeated']:.3f}"
    )
