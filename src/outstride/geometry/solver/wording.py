"""The sentences of an answer: its law, its proof and its reasons, with the numbers put in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import gcd, prod

from outstride.geometry.solver import merits
from outstride.geometry.solver.choices import Choice, Question, made_size
from outstride.geometry.solver.frameworks import Verdict

Line = tuple[str, bool | None, str]
Axes = Sequence[tuple[Question, Choice]]


def merged(texts: Iterable[str]) -> str:
    """One text where all axes have the same, else each with its axes."""
    rows = list(texts)
    if len(set(rows)) == 1:
        return rows[0]
    parts = []
    for text in dict.fromkeys(rows):
        axes = [str(axis) for axis, other in enumerate(rows) if other == text]
        parts.append(f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(axes)}: {text}")
    return "; ".join(parts)


def law(question: Question, choice: Choice, output_size: int | None = None) -> str:
    """The output for every size n of the input, from one pair: the question's, or its own output."""
    s = choice.stride
    if question.kind == "conv_transpose":
        size = question.output_size if output_size is None else output_size
        more = size - s * question.input_size
        return f"n -> {'' if s == 1 else s}n{_signed(more)}"
    more = choice.low + choice.high - choice.window + s
    if choice.ceil_mode:
        rounded = f"ceil(n / {s})" if more == 0 else f"ceil((n{_signed(more)}) / {s})"
        # The last window begins at most high + s - w elements behind the input's end.
        dropped = choice.high + s > choice.window
        return f"n -> {rounded}{', no window beginning in the high padding' if dropped else ''}"
    if s == 1:
        return f"n -> n{_signed(more)}"
    if more == 0:
        return f"n -> floor(n / {s})"
    return f"n -> ceil(n / {s})" if more == s - 1 else f"n -> floor((n{_signed(more)}) / {s})"


def formula(question: Question, choice: Choice, name: str) -> str:
    """The size formula of an axis, its input called ``name``."""
    k, s, low, high, d, extra, rounds_up = choice
    if question.kind == "conv_transpose":
        return f"({name} - 1) * {s} - {low} - {high} + {d} * ({k} - 1) + {extra} + 1"
    rounding = "ceil" if rounds_up else "floor"
    return f"{rounding}(({name} + {low} + {high} - {d} * ({k} - 1) - 1) / {s}) + 1"


def proof(question: Question, choice: Choice) -> str:
    """The size formula with the numbers put in, and what it comes to."""
    if not question.every:
        text = formula(question, choice, str(question.input_size))
        return f"{text}{_dropped(question, choice)} = {made_size(question.kind, choice, question.input_size)}"
    s = choice.stride
    if question.kind == "conv_transpose":
        return f"{formula(question, choice, 'n')} = {'' if s == 1 else s}n for every n"
    name = "m" if s == 1 else f"{s}m"
    over = choice.low + choice.high - choice.window
    rounding = "ceil" if choice.ceil_mode else "floor"
    inner = "" if s == 1 else f" = m + {rounding}({over} / {s}) + 1{_dropped(question, choice)}"
    where = "every n = m" if s == 1 else f"every n = {s}m"
    return f"{formula(question, choice, name)}{_dropped(question, choice)}{inner} = m for {where}"


def _dropped(question: Question, choice: Choice) -> str:
    if not choice.ceil_mode:
        return ""
    over = question.input_size + choice.low + choice.high - choice.window
    last = -(-over // choice.stride) + 1
    return " - 1" if last > made_size(question.kind, choice, question.input_size) else ""


def reasons(axes: Axes, pool: bool) -> list[Line]:
    """What speaks for and against the layer, in the order in which answers are ranked."""
    lines = [_exactness(axes)]
    if any(sum(merits.idle(q, c)) for q, c in axes):
        lines.append(("borders", False, merged(_idle(q, c) for q, c in axes)))
    if any(merits.has_holes(c) for _, c in axes):
        lines.append(("holes", False, merged(_holes(q, c) for q, c in axes)))
    lines.append(
        ("centre", all(merits.shift(q, c) == 0 for q, c in axes), merged(_centre(q, c) for q, c in axes))
    )
    lines.append(
        ("overlap", all(merits.is_even(c) for _, c in axes), merged(_evenness(q, c) for q, c in axes))
    )
    if any(c.stride > 1 for _, c in axes):
        seams = all(merits.overlaps(c) for _, c in axes)
        lines.append(("seams", None if pool else seams, merged(_seams(q, c, pool) for q, c in axes)))
    lines.append(("cost", None, _cost(axes, pool)))
    return lines


def _exactness(axes: Axes) -> Line:
    exact = all(merits.misfit(q, c) == 0 for q, c in axes)
    text = merged(law(q, c) for q, c in axes)
    if exact:
        strides = {c.stride for q, c in axes if q.kind != "conv_transpose"} - {1}
        those = f" that {' or '.join(map(str, sorted(strides)))} divides" if strides else ""
        return "sizes", True, f"{text}: exact for every size{those}"
    rests = merged(_misfit(q, c) for q, c in axes)
    return "sizes", False, f"{text}: right for this size, no scale ({rests})"


def _misfit(question: Question, choice: Choice) -> str:
    fine, coarse, s = question.fine, question.coarse, choice.stride
    rest = fine - s * coarse
    return f"{s} * {coarse} = {s * coarse}, {'no rest' if rest == 0 else f'{fine} is {rest:+d}'}"


def _centre(question: Question, choice: Choice) -> str:
    moved = merits.shift(question, choice)
    rest = merits.remainder(question, choice)
    name = "output_padding" if question.kind == "conv_transpose" else "remainder"
    sides = "" if choice.low == choice.high else f"{choice.high} - {choice.low} - "
    figure = f"({sides}{rest}) / 2" if sides else f"-{name} / 2 = {-Fraction(rest, 2)}"
    if moved == 0:
        return f"the middle stays the middle: {figure}{' = 0' if sides else ''}"
    side, end = ("low" if moved < 0 else "high"), f" = {moved}" if sides else ""
    if question.kind == "conv_transpose":
        return f"moved by {abs(moved)} pixel of the output to the {side} side: {figure}{end}"
    return f"looks {abs(moved)} pixel of the input to the {side} side: {figure}{end}"


def _evenness(question: Question, choice: Choice) -> str:
    k, s, d = choice.kernel_size, choice.stride, choice.dilation
    if s == 1:
        return f"even: {k} of {k} taps for each output at stride 1"
    counts = merits.shares(choice)
    who = "output" if question.kind == "conv_transpose" else "input"
    if merits.is_even(choice):
        return f"even: {s} divides {k}, {counts[0]} of {k} taps for each {who}"
    common = gcd(d, s)
    why = f"stride {s} and dilation {d} share {common}" if common > 1 else f"{s} does not divide {k}"
    shown = ", ".join(map(str, counts)) if s <= 8 else f"{min(counts)} to {max(counts)}"
    return f"uneven: {why}: the {s} {who}s of a period have {shown} taps"


def _holes(question: Question, choice: Choice) -> str:
    s = choice.stride
    if not merits.has_holes(choice):
        return "none"
    empty = merits.shares(choice).count(0)
    fate = "outputs hold the bias alone" if question.kind == "conv_transpose" else "inputs are never read"
    return f"{empty} of {s} {fate}"


def _seams(question: Question, choice: Choice, pool: bool) -> str:
    w, s = choice.window, choice.stride
    what = "stamps" if question.kind == "conv_transpose" else "windows"
    if s == 1:
        return "none at stride 1"
    if w > s:
        return f"{what} of {w} overlap by {w - s}"
    return f"{what} of {w} lie side by side at stride {s}" + ("" if pool else ": nothing blends across them")


def _idle(question: Question, choice: Choice) -> str:
    unread, blank = merits.idle(question, choice)
    parts = [f"{unread} inputs are never read"] if unread else []
    parts += [f"{blank} outputs read no input"] if blank else []
    return " and ".join(parts) or "none idle"


def _cost(axes: Axes, pool: bool) -> str:
    what = "comparisons or additions" if pool else "multiply-adds"
    total = prod(merits.multiply_adds(q, c) for q, c in axes)
    if axes[0][0].every:
        coarse = "input" if axes[0][0].kind == "conv_transpose" else "output"
        return f"{total} {what} for each {coarse} pixel{'' if pool else ' and pair of channels'}"
    text = " * ".join(f"{q.coarse} * {c.kernel_size}" for q, c in axes)
    return f"{text} = {total} {what} for each {'channel' if pool else 'pair of channels'}"


def verdict(found: Verdict) -> str:
    """A framework's verdict in a line."""
    return f"{' then '.join(found.layers)}: {found.reason}" if found.layers else found.reason


def _signed(value: int) -> str:
    return "" if value == 0 else f" {'-' if value < 0 else '+'} {abs(value)}"
