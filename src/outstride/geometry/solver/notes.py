"""What is worth knowing about a question besides its answers: what cannot be had, and why."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from outstride.geometry.solver import merits
from outstride.geometry.solver.choices import Bounds, Choice, Question
from outstride.geometry.solver.questions import Limits, bounds_of

Row = tuple[Choice, ...]
_LARGEST_SCALE = 16


def notes(
    questions: tuple[Question, ...],
    limits: Limits,
    asked: dict[Question, list[Choice]],
    rows: Sequence[Row],
) -> tuple[str, ...]:
    """Sentences for the reader, those of the axes that ask the same said once."""
    if not rows:
        return _why_none(questions, limits, asked)
    found: list[str] = []
    for question, choice in zip(questions, rows[0], strict=True):
        found += _no_scale(question, choice)
        found += _no_middle(question, choice, bounds_of(limits, question))
    return tuple(dict.fromkeys(found))


def _no_scale(question: Question, choice: Choice) -> list[str]:
    fine, coarse = question.fine, question.coarse
    if merits.misfit(question, choice) == 0 or fine % coarse == 0:
        return []
    law = "stride * n" if question.kind == "conv_transpose" else "n / stride"
    sentence = (
        f"{fine} / {coarse} is no whole number, so no layer has this ratio for every size: each gives {law} "
        f"and a constant."
    )
    return [sentence]


def _no_middle(question: Question, choice: Choice, bounds: Bounds) -> list[str]:
    s = choice.stride
    asked = question.kind.startswith("conv") and merits.misfit(question, choice) == 0
    if not asked or s % 2 == 0 or s == 1 or 2 * s not in bounds.kernel_size:
        return []
    sentence = (
        f"At an odd stride no kernel of two strides is centred: {2 * s} - 2 * padding = {s} has no whole "
        f"padding. Three strides ({3 * s}) are, or one ({s}), which leaves seams."
    )
    return [sentence]


def _why_none(
    questions: tuple[Question, ...], limits: Limits, asked: dict[Question, list[Choice]]
) -> tuple[str, ...]:
    empty = [question for question in asked if not asked[question]]
    if not empty:
        return ("Each axis has answers of its own, but no parameters serve all of them: isotropic=False.",)
    found = [_what_it_takes(question, bounds_of(limits, question)) for question in dict.fromkeys(empty)]
    numbered = [
        sentence if len(set(questions)) == 1 else f"Axis {questions.index(question)}: {sentence}"
        for question, sentence in zip(empty, found, strict=True)
    ]
    return tuple(numbered)


def _what_it_takes(question: Question, bounds: Bounds) -> str:
    """What window and padding the nearest stride would need, beside what the bounds have."""
    strides = [s for s in bounds.stride if not question.every or s == question.ratio]
    if not strides:
        return f"a scale of {Fraction(question.fine, question.coarse)} needs stride {question.ratio}."
    largest = max(bounds.kernel_size), max(bounds.dilation)
    window = largest[1] * (largest[0] - 1) + 1
    stride = min(strides, key=lambda s: abs(question.fine - s * question.coarse))
    rest = question.fine - stride * (question.coarse - 1)
    if question.kind == "conv_transpose":
        needed = f"window + output_padding - 2 * padding = {rest}"
    else:
        needed = f"window - 2 * padding from {rest - stride + 1} to {rest}"
    return (
        f"{question.input_size} -> {question.output_size} at stride {stride}, the nearest within the bounds, "
        f"needs {needed}; they have windows up to {window}, paddings {min(bounds.padding)} to "
        f"{max(bounds.padding)}.{_two_layers(question)}"
    )


def _two_layers(question: Question) -> str:
    """The scales of two layers that have the ratio together, where one layer cannot have it."""
    ratio = Fraction(question.output_size, question.input_size)
    up, down = ratio.numerator, ratio.denominator
    if 1 in (up, down) or max(up, down) > _LARGEST_SCALE:
        return ""
    return f" A chain of two layers has the ratio for every size: scales {up} and 1/{down}."
