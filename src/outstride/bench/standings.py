"""Who stands where: the rows of a benchmark by library and by kind of layer, and what is behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outstride.bench import titles
from outstride.bench.cases import Case
from outstride.bench.contenders import CONTENDERS
from outstride.bench.markdown import cells, counted, head
from outstride.bench.report import milliseconds, number, percent
from outstride.bench.table import Row, geometric_mean, over

THIN_CHANNELS = 3
# Below so many milliseconds most of a call is what every call costs; above such a share nobody is far ahead.
SHORT_MS, NEAR_THE_LIMIT, MANY_LANES = 0.03, 0.85, 0.15


def kind(case: Case) -> str:
    """The family that a layer belongs to, by what decides how it is best computed."""
    what = "transposed" if case.transposed else "convolution"
    if case.groups > 1:
        return f"{what}, {'depthwise' if case.groups == case.in_channels else 'grouped'}"
    if case.transposed and case.kernel_size == case.stride:
        return f"{what}, kernel = stride"
    if set(case.kernel_size) == {1}:
        return f"{what}, 1x1"
    if case.out_channels <= THIN_CHANNELS:
        return f"{what}, 1 to {THIN_CHANNELS} output channels"
    if set(case.dilation) != {1}:
        return f"{what}, dilated"
    return f"{what}, {case.nd}-d"


def of_libraries(rows: Sequence[Row]) -> Iterator[str]:
    """How many times as long each library takes, over the rows that it computed."""
    yield from head(
        "library", "threads", "rows", "takes times as long", "at least", "faster than outstride on"
    )
    for threads in sorted({row.threads for row in rows}):
        mine = [row for row in rows if row.threads == threads]
        for name in [*CONTENDERS, None]:
            if name is not None and CONTENDERS[name].ours:
                continue
            ratios = [ratio for row in mine if (ratio := _times(row, name)) is not None]
            if ratios:
                words = f"{name}: {CONTENDERS[name].words}" if name else "**the best of them, row by row**"
                faster = sum(ratio < 1 for ratio in ratios)
                mean, least = (number(value, ".2f") for value in (geometric_mean(ratios), min(ratios)))
                yield cells(words, threads, len(ratios), mean, least, counted(faster, "row"))


def _times(row: Row, name: str | None) -> float | None:
    if name is None:
        return row.lead
    theirs, ours = row.median_ms(name), row.median_ms(row.ours) if row.ours else None
    return over(theirs, ours)


def of_kinds(rows: Sequence[Row]) -> Iterator[str]:
    """For each kind of layer the geometric means."""
    yield from head(
        "kind of layer", "threads", "rows", titles.OF_TORCH, titles.OF_BEST, "% limit",
        "fastest others' % limit",
    )  # fmt: skip
    kinds = sorted({kind(row.job.case) for row in rows if row.job.case is not None})
    for name in kinds:
        for threads in sorted({row.threads for row in rows}):
            mine = [
                row
                for row in rows
                if row.threads == threads and row.job.case is not None and kind(row.job.case) == name
            ]
            if not mine:
                continue
            yield cells(
                name,
                threads,
                len(mine),
                number(_mean(row.ratio for row in mine), ".2f"),
                number(_mean(row.lead for row in mine), ".2f"),
                percent(_mean(row.of_limit(row.ours) for row in mine if row.ours)),
                percent(_mean(row.of_limit(row.best_peer) for row in mine if row.best_peer)),
            )


def behind(rows: Sequence[Row]) -> Iterator[str]:
    """The rows on which another library is ahead, the largest gap first, and what the figures say of it."""
    yield from head(
        "layer", ":kind", "threads", "ms", ":fastest other", "its ms", titles.OF_THAT, "% limit",
        "its % limit", ":seen",
    )  # fmt: skip
    late = sorted((lead, row.job.id, row) for row in rows if (lead := row.lead) is not None and lead < 1)
    for lead, _, row in late:
        assert row.ours is not None
        assert row.best_peer is not None
        form = row.timings[row.best_peer].form
        yield cells(
            row.job.id,
            kind(row.job.case) if row.job.case is not None else "",
            row.threads,
            milliseconds(row.median_ms(row.ours)),
            CONTENDERS[row.best_peer].short + (f", {form}" if form not in (None, "eager") else ""),
            milliseconds(row.median_ms(row.best_peer)),
            number(lead, ".2f"),
            percent(row.of_limit(row.ours)),
            percent(row.of_limit(row.best_peer)),
            reason(row),
        )


def reason(row: Row) -> str:
    """What the figures of a row say about why another library is ahead."""
    assert row.ours is not None
    assert row.best_peer is not None
    lead, ours_ms = row.lead, row.median_ms(row.ours)
    assert lead is not None
    assert ours_ms is not None
    spread = max(row.timings[name].spread or 0.0 for name in (row.ours, row.best_peer))
    if 1 / lead - 1 <= spread:
        return f"no more than rounds lie apart ({spread:.0%})"
    if ours_ms < SHORT_MS:
        return "what a call costs"
    if row.by_winograd(row.best_peer):
        residual = row.timings[row.best_peer].residual
        return f"Winograd's method with large tiles, residual {number(residual, '.0e')}"
    if (row.of_limit(row.ours) or 0) > NEAR_THE_LIMIT:
        return "both near the limit"
    plan = row.timings[row.ours].plan or {}
    lost = f"{plan['lanes_lost']:.0%} of the lanes of {plan['tile']} lost to edges" if plan else ""
    if plan and plan["lanes_lost"] > MANY_LANES:
        return lost
    bound = "the copy" if _bound_by_memory(row) else "multiply-adds"
    return f"{bound} would be the limit" + (f"; {lost}" if lost else "")


def _bound_by_memory(row: Row) -> bool:
    return bool(
        row.flops and row.peak and row.bytes and row.copy and row.bytes / row.copy > row.flops / row.peak
    )


def _mean(values: Iterator[float | None]) -> float | None:
    return geometric_mean([value for value in values if value])
