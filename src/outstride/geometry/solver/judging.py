"""A given layer held against a question: whether it answers it, and if not, why not and what would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from outstride.errors import ArgumentError, ShapeError
from outstride.geometry.axes import check_spec
from outstride.geometry.extents import output_size as size_after
from outstride.geometry.extents import resolve
from outstride.geometry.solver import wording
from outstride.geometry.solver.choices import Choice, Question, made_size
from outstride.geometry.solver.questions import Limits, ScaleLike, bounds_of, questions_of
from outstride.geometry.solver.solution import Solution
from outstride.geometry.solver.solving import Solutions, solve
from outstride.layer.arguments import Sizes
from outstride.layer.spec import ConvSpec
from outstride.output.tables import html_text

_LOOKED_AT = 2000
# What each entry of a key says of a layer that has more of it than the best has.
_WORSE = (
    "it is further from a scale",
    "it has borders without use",
    "it has holes",
    "it is further from the centre",
    "its overlap is uneven",
    "it is dilated",
    "its neighbours overlap otherwise",
    "it rounds up",
    "its paddings differ",
    "it costs more",
    "it needs output_padding",
    "it is padded more",
    "its numbers are larger",
)


@dataclass(frozen=True)
class Judgement:
    """What became of a layer: ``faults`` say why it is rejected, and are empty where it answers the question.

    Then ``solution`` is the layer as an answer, ``rank`` its place among all within the usual bounds (None
    beyond the first 2000) and ``behind`` what the best answer does better. ``instead`` is the answer that
    differs in the fewest parameters, for a rejected layer, and the best one for another.
    """

    layer: str
    faults: tuple[str, ...]
    solution: Solution | None
    rank: int | None
    behind: tuple[str, ...]
    instead: Solution | None

    @property
    def accepted(self) -> bool:
        """Whether the layer answers the question."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, texts and lists."""
        return {
            "layer": self.layer,
            "accepted": self.accepted,
            "faults": self.faults,
            "rank": self.rank,
            "behind": self.behind,
            "solution": None if self.solution is None else self.solution.to_dict(),
            "instead": None if self.instead is None else repr(self.instead.spec),
        }

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        if self.solution is None:
            lines = [f"{self.layer} is rejected:", *(f"  - {fault}" for fault in self.faults)]
            return "\n".join([*lines, *([f"  nearest: {self.instead.spec!r}"] if self.instead else [])])
        place = "beyond the first answers" if self.rank is None else f"answer {self.rank}"
        worse = (
            f"; behind {self.instead.spec!r}: {', '.join(self.behind)}"
            if self.instead and self.behind
            else ""
        )
        return f"{self.solution}\n  {place}{worse}"


def judge(
    spec: ConvSpec | str,
    input_size: Sizes | None = None,
    output_size: Sizes | None = None,
    *,
    scale: ScaleLike | Sequence[ScaleLike] | None = None,
    **bounds: Any,
) -> Judgement:
    """Say whether a layer answers a question for sizes: if so with its rank, if not with every reason.

    Args:
        spec: the layer, or its text as torch writes it, which may also be one that no layer can be.
        input_size, output_size: elements per axis, at least 1; one number stands for every axis.
        scale: instead of sizes: s for a transposed layer, "1/s" for others.
        bounds: bounds of ``solve`` that the layer must keep; the others are left open.

    Returns:
        The judgement: truly accepted exactly if ``output_size(spec, i) == o`` (for a scale: for every i that
        the stride divides) and the layer keeps the bounds.

    Raises:
        ArgumentError: the question itself is no question; an impossible layer is a fault, not an error.

    Example:
        >>> print(judge("ConvTranspose2d(8, 8, 3, stride=2, padding=1)", 14, 28))
        ConvTranspose2d(8, 8, 3, stride=2, padding=1) is rejected:
          - (14 - 1) * 2 - 1 - 1 + 1 * (3 - 1) + 0 + 1 = 27, not 28; output_padding=1 would give it
          nearest: ConvTranspose2d(8, 8, 4, stride=2, padding=1)
    """
    written = spec if isinstance(spec, str) else repr(spec)
    try:
        layer = ConvSpec.parse(spec, "layer") if isinstance(spec, str) else spec
    except ArgumentError as error:
        return Judgement(written, (str(error),), None, None, (), None)
    check_spec(layer)
    questions = questions_of(layer.kind, input_size, output_size, scale, layer.nd)
    limits = Limits(**bounds)
    large = tuple(_large(q, window) for q, window in zip(questions, layer.window, strict=True))
    sizes = tuple(q.input_size for q in large)
    fixed, faults = layer, []
    try:
        size_after(layer, sizes)
        fixed = resolve(layer, sizes)
    except ShapeError as error:
        faults.append(str(error))
    solution = Solution(fixed, questions)
    if fixed.padding != "same":
        faults += _faults(large, solution.choices, limits)
    options: dict[str, Any] = {
        name: getattr(layer, name) for name in ("in_channels", "out_channels", "groups")
    }
    options |= limits._asdict()
    found = solve(input_size, output_size, scale=scale, kind=layer.kind, nd=layer.nd, **options)
    if faults:
        nearest = _nearest(solution, found) if fixed.padding != "same" else None
        return Judgement(written, tuple(dict.fromkeys(faults)), None, None, (), nearest)
    rank = next(
        (n for n, other in enumerate(islice(found, _LOOKED_AT), 1) if other.key >= solution.key), None
    )
    rank = len(found) + 1 if rank is None and len(found) < _LOOKED_AT else rank
    behind = _behind(solution, found[0]) if found else ()
    return Judgement(written, (), solution, rank, behind, found[0] if found else None)


def _large(question: Question, window: int) -> Question:
    """The same question; for a scale, at sizes to which no window is too large."""
    times = window + 1 if question.every else 1
    sizes = question.input_size * times, question.output_size * times
    return question._replace(input_size=sizes[0], output_size=sizes[1])


def _faults(questions: tuple[Question, ...], row: tuple[Choice, ...], limits: Limits) -> list[str]:
    found: list[tuple[int, str]] = []
    for axis, (question, choice) in enumerate(zip(questions, row, strict=True)):
        found += [(axis, fault) for fault in _size_faults(question, choice)]
        bounds = bounds_of(limits, question)
        for name, (value, legal) in bounds.admits(choice).items():
            if getattr(limits, name, None) is not None:
                found.append((axis, f"{name}={value} is outside its bounds: {_span(tuple(legal))}"))
    everywhere = {fault for _, fault in found if sum(fault == other for _, other in found) == len(questions)}
    return [fault if fault in everywhere else f"axis {axis}: {fault}" for axis, fault in found]


def _size_faults(question: Question, choice: Choice) -> list[str]:
    size, wanted = question.input_size, question.output_size
    got = made_size(question.kind, choice, size)
    if got < 1:
        return []  # said already, with the smallest input that is legal
    if question.every and choice.stride != question.ratio:
        law = wording.law(question, choice, got)
        return [f"{law}: the stride must be {question.ratio} to scale by it, not {choice.stride}"]
    if got == wanted:
        return []
    if question.every:
        law, s = wording.law(question, choice, got), choice.stride
        wish = f"{s}n" if question.kind == "conv_transpose" else f"n / {s} where {s} divides n"
        return [f"{law}, not {wish}{_remedy(question, choice)}"]
    formula = wording.formula(question, choice, str(size))
    return [f"{formula} = {got}, not {wanted}{_remedy(question, choice)}"]


def _remedy(question: Question, choice: Choice) -> str:
    """One parameter that alone would put it right, the least change first."""
    tries: list[tuple[str, list[Choice]]] = []
    if question.kind == "conv_transpose":
        most = max(choice.stride, choice.dilation)
        tries.append(("output_padding", [choice._replace(output_padding=e) for e in range(most)]))
    pads = [choice._replace(low=p, high=p) for p in range(choice.window + choice.stride)]
    if question.kind.endswith("pool"):
        pads = pads[: choice.window // 2 + 1]
        tries.append(("ceil_mode", [choice._replace(ceil_mode=not choice.ceil_mode)]))
    tries.append(("padding", pads))
    sizes = range(1, 2 * choice.kernel_size + choice.stride + 1)
    tries.append(("kernel_size", [choice._replace(kernel_size=k) for k in sizes]))
    for name, others in tries:
        fits = [c for c in others if made_size(question.kind, c, question.input_size) == question.output_size]
        if fits:
            field = "low" if name == "padding" else name
            nearest = min(fits, key=lambda c: abs(getattr(c, field) - getattr(choice, field)))
            return f"; {name}={getattr(nearest, field)} would give it"
    return ""


def _nearest(rejected: Solution, found: Solutions) -> Solution | None:
    """The answer that differs in the fewest parameters, then by the least, then in rank."""

    def distance(other: Solution) -> tuple[int, int]:
        gaps = [
            abs(int(a) - int(b))
            for mine, its in zip(rejected.choices, other.choices, strict=True)
            for a, b in zip(mine, its, strict=True)
        ]
        return sum(gap > 0 for gap in gaps), sum(gaps)

    return min(islice(found, _LOOKED_AT), key=distance, default=None)


def _behind(mine: Solution, best: Solution) -> tuple[str, ...]:
    pairs = zip(_WORSE, mine.key, best.key, strict=True)
    return tuple(text for text, ours, its in pairs if ours > its)


def _span(values: tuple[object, ...]) -> str:
    if len(values) < 4:
        *others, last = map(str, values)
        return f"{', '.join(others)} or {last}" if others else last
    return f"{values[0]} to {values[-1]}"
