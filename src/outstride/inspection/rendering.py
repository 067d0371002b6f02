"""A report as text, as HTML and as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from html import escape
from textwrap import wrap
from typing import Any

from outstride.inspection.field import Field
from outstride.inspection.figures import LayerFigures
from outstride.inspection.findings import Findings
from outstride.inspection.rules.visit import Note

HEAD = (
    *("layer", "kind", "output", "stride", "field", "offset", "multiply-adds", "parameters", "memory"),
    "engine",
)
RIGHT = ("multiply-adds", "parameters", "memory")
SHOWN_PHASES = 4
SHOWN_NAMES = 4
WIDTH = 112
INDENT = 16
NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


_WHOLE_WORDS: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}


def text(report: Findings) -> str:
    """The report for a terminal."""
    rows = [_cells(report, row) for row in report.layers if not row.plain]
    table = [HEAD, *rows]
    widths = [max(len(row[n]) for row in table) for n in range(len(HEAD))]
    lines = [f"{report.model} on {report.input_shape} {report.dtype}, in inference mode", ""]
    for row in table:
        cells = [
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(HEAD, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    lines.append("")
    for name, words in summary(report):
        first = f"{name + ':' if name else '':{INDENT}}"
        lines += wrap(words, WIDTH, initial_indent=first, subsequent_indent=" " * INDENT, **_WHOLE_WORDS)
    return "\n".join(lines)


def html(report: Findings) -> str:
    """The report for a notebook: one table and its summary."""
    head = "".join(_html_cell("th", name, name) for name in HEAD)
    rows = "".join(
        f"<tr>{''.join(_html_cell('td', *pair) for pair in zip(HEAD, _cells(report, row), strict=True))}</tr>"
        for row in report.layers
        if not row.plain
    )
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in summary(report))
    title = escape(f"{report.model} on {report.input_shape} {report.dtype}, in inference mode")
    return (
        f"<div><p><b>{title}</b></p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"<dl>{facts}</dl></div>"
    )


def _html_cell(tag: str, column: str, words: str) -> str:
    side = "right" if column in RIGHT else "left"
    return f"<{tag} style='text-align:{side}'>{escape(words)}</{tag}>"


def summary(report: Findings) -> Iterator[tuple[str, str]]:
    """The report without its layers, a name and a sentence each."""
    left_out = sum(row.plain for row in report.layers)
    if left_out:
        layers = "layer that works" if left_out == 1 else "layers that work"
        yield "left out", f"{left_out} {layers} element by element (to_dict() has them)"
    yield "output", " and ".join(_times(shape) for shape in report.outputs)
    yield (
        "work",
        f"{_count(report.multiply_adds)} multiply-adds: products of two elements that exist, no padding",
    )
    yield "parameters", f"{_count(report.parameters)}, {_bytes(report.parameter_bytes)}"
    yield "memory", f"{_bytes(report.peak_bytes)} at the fullest moment, weights not counted"
    yield from _per_axis(report, "field", [_field_words(report, axis) for axis in range(len(report.axes))])
    yield from _per_axis(report, "sizes", [_size_words(report, axis) for axis in range(len(report.axes))])
    yield from _per_axis(report, "halo", [_halo_words(report, axis) for axis in range(len(report.axes))])
    for kind, title in (("whole", "whole image"), ("misaligned", "misaligned"), ("wraps", "wraps around")):
        yield from _noted(report, kind, title)
    for words in report.not_understood:
        yield "not understood", f"{words}; figures after it are unknown"
    engine = [row for row in report.layers if row.engine is not None]
    if engine:
        served = sum(row.engine == "served" for row in engine)
        yield "engine", f"serves {served} of {len(engine)} convolutions"
        for reason in dict.fromkeys(row.engine for row in engine if row.engine != "served"):
            names = [row.name for row in engine if row.engine == reason]
            yield "", f"not {_some(names)}: {reason}"
    if not report.without_numbers:
        yield "note", "the model looks at numbers to decide what to do; the figures are those for zeros"


def _per_axis(report: Findings, name: str, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    if not words:
        return
    if len(set(words)) == 1:
        yield name, words[0]
        return
    for axis, sentence in zip(axis_names(report), words, strict=True):
        yield name, f"{axis}: {sentence}"


def axis_names(report: Findings) -> tuple[str, ...]:
    """What the axes of the image are called."""
    count = len(report.axes)
    return NAMES.get(count, tuple(f"axis {number}" for number in range(count)))


def _field_words(report: Findings, axis: int) -> str:
    found = dict(report.output_fields).get(axis)
    rows = [row for row in report.layers if row.fields or row.whole or row.unknown]
    if rows and rows[-1].unknown and found is None:
        return "unknown"
    everything = bool(rows) and axis in rows[-1].whole
    if found is None:
        return "an output reads everything" if everything else "no position is left in the output"
    also = ", and besides, everything" if everything else ""
    return (
        f"an output reads {_sizes(found)} pixels{also}; stride {found.stride}, "
        f"middle {_signed(found.offset)} pixels beside a plain rescaling"
    )


def _size_words(report: Findings, axis: int) -> str:
    sizes, returning, scale = report.taken[axis]
    if sizes is None:
        return "not looked for"
    words = f"runs at {sizes}"
    if returning is not None and returning != sizes:
        whole = f"returned whole, an output for every {_pixels(scale)}, at {returning}" if scale else ""
        words += f"; {whole or 'none gives size / stride outputs'}"
    size = report.input_shape[report.axes[axis]] + 1
    fit = report.fit(tuple(report.input_shape[a] + 1 for a in report.axes))[axis]
    if fit.pad:
        words += f"; an image of {size}: pad {fit.pad}"
        words += f" and keep the first {fit.keep} outputs" if fit.keep is not None else ""
        words += f", or crop {fit.crop}" if fit.crop else ""
    if not sizes.proven:
        words += f" (looked at {sizes.cycle} neighbouring sizes; the model's sizes repeat more slowly)"
    return words


def _pixels(scale: Fraction) -> str:
    return "pixel" if scale == 1 else f"{scale} pixels" if scale > 1 else f"{scale} pixel"


def _halo_words(report: Findings, axis: int) -> str:
    halo = report.halo[axis]
    if halo.low is None:
        return f"none is enough: {halo.why}"
    return (
        f"{halo.low} pixels before and {halo.high} behind a tile, which begins at a multiple of {halo.step}"
    )


def _noted(report: Findings, kind: str, title: str) -> Iterator[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for row in report.layers:
        for note in row.notes:
            if note.kind == kind:
                found.setdefault(_note_words(report, note), []).append(row.name or row.kind)
    for words, names in found.items():
        yield title, f"{_some(list(dict.fromkeys(names)))}: {words}"


def _note_words(report: Findings, note: Note) -> str:
    names = axis_names(report)
    if note.kind != "misaligned":
        partly = len(note.axes) < len(names) and note.axes
        return note.text + (f" ({', '.join(names[a] for a in note.axes)})" if partly else "")
    parts = []
    for places in dict.fromkeys(note.places.values()):
        strides = {stride for stride, _ in places}
        if len(strides) > 1:
            parts.append(f"strides {', '.join(map(str, dict.fromkeys(s for s, _ in places)))} drift apart")
        else:
            middles = ", ".join(_signed(offset) for _, offset in places)
            parts.append(f"middles {middles} pixels beside a plain rescaling by {places[0][0]}")
    return "; ".join(parts)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def _cells(report: Findings, row: LayerFigures) -> tuple[str, ...]:
    axes = range(len(report.axes))
    engine = "" if row.engine is None else "yes" if row.engine == "served" else "no"
    return (
        row.name or "-", row.kind, _times(row.output_shape),
        _joined(_on(row, axis, lambda field: str(field.stride)) for axis in axes),
        _joined("whole" if axis in row.whole else _on(row, axis, _sizes) for axis in axes),
        _joined(_on(row, axis, lambda field: _signed(field.offset)) for axis in axes),
        f"{row.multiply_adds:,}" if row.multiply_adds else "",
        f"{row.parameters:,}" if row.parameters else "",
        _bytes(row.output_bytes),
        engine,
    )  # fmt: skip


def _on(row: LayerFigures, axis: int, words: Any) -> str:
    if axis in row.fields:
        return str(words(row.fields[axis]))
    return "?" if row.unknown else "-"


def _joined(parts: Iterable[str]) -> str:
    row = list(parts)
    return row[0] if len(set(row)) == 1 else " x ".join(row)


def _sizes(field: Field) -> str:
    sizes = field.sizes
    if len(set(sizes)) == 1:
        return str(sizes[0])
    if len(sizes) <= SHOWN_PHASES:
        return "|".join(map(str, sizes))
    return f"{min(sizes)} to {max(sizes)}"


def _signed(value: Fraction) -> str:
    return f"+{value}" if value > 0 else str(value)


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def _count(number: int) -> str:
    for unit, name in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if number >= unit:
            return f"{number / unit:.4g} {name}"
    return f"{number:,}"


def _bytes(number: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} B"


def to_dict(report: Findings) -> dict[str, Any]:
    """The report as plain values."""
    names = axis_names(report)
    return {
        "model": report.model,
        "input_shape": list(report.input_shape),
        "dtype": report.dtype,
        "axes": dict(zip(names, report.axes, strict=True)),
        "outputs": [list(shape) for shape in report.outputs],
        "multiply_adds": report.multiply_adds,
        "multiply_adds_dense": sum(row.multiply_adds_dense for row in report.layers),
        "parameters": report.parameters,
        "parameter_bytes": report.parameter_bytes,
        "peak_bytes": report.peak_bytes,
        "output_fields": {names[axis]: _field_dict(field) for axis, field in report.output_fields},
        "sizes": {name: _sizes_dict(s) for name, s in zip(names, report.sizes, strict=True)},
        "returned_whole": {name: _sizes_dict(s) for name, s in zip(names, report.returning, strict=True)},
        "halo": {
            name: {"low": h.low, "high": h.high, "step": h.step, "why": h.why}
            for name, h in zip(names, report.halo, strict=True)
        },
        "global_layers": [row.name or row.kind for row in report.global_layers],
        "misaligned": [row.name or row.kind for row in report.misaligned],
        "not_understood": list(report.not_understood),
        "layers": [_row_dict(row, names) for row in report.layers],
    }


def _sizes_dict(sizes: Any) -> dict[str, Any] | None:
    if sizes is None:
        return None
    return {
        "modulus": sizes.modulus, "remainders": list(sizes.remainders), "least": sizes.least,
        "listed": list(sizes.listed), "cycle": sizes.cycle, "proven": sizes.proven,
    }  # fmt: skip


def _field_dict(field: Field) -> dict[str, Any]:
    return {
        "stride": str(field.stride), "offset": str(field.offset), "period": field.period, "jump": field.jump,
        "sizes": list(field.sizes), "reads": [None if r is None else list(r) for r in field.reads],
    }  # fmt: skip


def _row_dict(row: LayerFigures, names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": row.name, "kind": row.kind, "output_shape": list(row.output_shape),
        "fields": {names[axis]: _field_dict(field) for axis, field in row.fields.items()},
        "whole": [names[axis] for axis in row.whole], "unknown": list(row.unknown),
        "multiply_adds": row.multiply_adds, "multiply_adds_dense": row.multiply_adds_dense,
        "parameters": row.parameters, "output_bytes": row.output_bytes, "engine": row.engine,
        "notes": [
            {"kind": note.kind, "text": note.text, "axes": [names[axis] for axis in note.axes],
             "places": {names[axis]: [{"stride": str(s), "offset": str(o)} for s, o in places]
                        for axis, places in note.places.items()}}
            for note in row.notes
        ],
    }  # fmt: skip
