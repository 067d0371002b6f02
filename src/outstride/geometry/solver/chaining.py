"""The way back for a chain: from the sizes of an encoder-decoder to the layers that give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Any

from outstride.errors import ArgumentError
from outstride.geometry.solver.chain import ChainSolution
from outstride.geometry.solver.choices import Choice, Question, choices
from outstride.geometry.solver.combining import (
    Ask,
    Ordered,
    Row,
    best_first,
    combined,
    in_all,
    row_key,
    sharing_is_free,
)
from outstride.geometry.solver.notes import notes
from outstride.geometry.solver.questions import Limits, ScaleLike, bounds_of, questions_of
from outstride.geometry.solver.ranking import Key, added
from outstride.geometry.solver.solution import Solution, layer
from outstride.geometry.solver.tabulating import CHAIN_HEAD, chain_cells
from outstride.layer.arguments import Sizes, choice, whole
from outstride.layer.spec import Kind
from outstride.output.tables import html_table, html_text

Step = tuple[Question, ...]


class ChainSolutions(Ordered[ChainSolution]):
    """The chains that answer a question, the best first, built one by one as they are looked at."""

    def __init__(self, count: int, items: Iterator[ChainSolution], notes: tuple[str, ...]) -> None:
        super().__init__(count, items)
        self.notes = notes

    def __str__(self) -> str:
        if not self:
            return "\n".join(("no chain within the bounds", *self.notes))
        return "\n".join([f"{len(self)} answers, the best first", str(self[0]), *self.notes])

    def _repr_html_(self) -> str:
        if not self:
            return html_text(str(self))
        below = "\n".join((self[0].rule, *self.notes))
        return html_table(f"the first of {len(self)} chains", CHAIN_HEAD, chain_cells(self[0]), below)

    def __repr__(self) -> str:
        return f"<{len(self)} chains>"


def solve_chain(
    sizes: Sequence[Sizes] | None = None,
    *,
    scales: Sequence[ScaleLike | Sequence[ScaleLike]] | None = None,
    down: Kind = "conv",
    nd: int | None = None,
    uniform: bool = True,
    isotropic: bool | None = None,
    channels: Sequence[int] | None = None,
    **bounds: Any,
) -> ChainSolutions:
    """Find every chain of layers that goes through the given sizes, and rank them.

    Args:
        sizes: the size of every level, input first: (256, 128, 64, 128, 256). An entry is one number for
            every axis or a tuple.
        scales: instead of sizes, the scale of every layer: ("1/2", "1/2", 2, 2), for every size.
        down: the kind of the layers that make smaller: "conv", "max_pool" or "avg_pool". Those that keep the
            size are convolutions, those that enlarge are transposed.
        nd: number of axes where no tuple shows it; 2 if it is left out.
        uniform: whether layers of one kind and ratio shall be the same, where that costs nothing.
        isotropic: as in ``solve``.
        channels: of every level, one more than there are layers; they go into the layers and their cost.
        bounds: bounds of ``solve``, for every layer.

    Returns:
        All combinations of the layers' answers, by the sums of what each layer is ranked by: exactness for
        every size first, then borders, holes, centring and so on. They are found one by one, for they may be
        very many.

    Raises:
        ArgumentError: fewer than two levels, a scale that no layer has, or as many channels as no chain has.

    Law: level l + 1 of an answer is ``output_size`` of its layer l at level l, for the sizes given and, with
        scales, for every n that ``period`` admits.

    Example:
        >>> chain = solve_chain((256, 128, 64, 128, 256))[0]
        >>> [step.spec.kind for step in chain.steps], chain.steps[0].spec
        (['conv', 'conv', 'conv_transpose', 'conv_transpose'], Conv2d(kernel_size=4, stride=2, padding=1))
        >>> chain.period[0]
        (4, (0,))
    """
    choice("down", down, ("conv", "max_pool", "avg_pool"))
    steps = _steps(sizes, scales, down, nd)
    limits = Limits(**bounds)
    asked = {q: list(choices(q, bounds_of(limits, q))) for step in steps for q in step}
    groups = _groups(steps, asked, uniform)
    alike = [[steps[number] for number in members] for members in groups]
    lists = [_rows(members, asked, isotropic) for members in alike]
    ordered = best_first(lists, lambda rows: _key(alike, rows))
    owner = {number: group for group, members in enumerate(groups) for number in members}
    widths = _widths(channels, len(steps))

    def built(rows: tuple[Row, ...]) -> ChainSolution:
        found = [
            Solution(layer(step[0].kind, rows[owner[number]], *widths[number]), step)
            for number, step in enumerate(steps)
        ]
        return ChainSolution(tuple(found))

    said = [
        note
        for members, rows in zip(alike, lists, strict=True)
        for note in notes(members[0], limits, {q: asked[q] for q in members[0]}, rows)
    ]
    return ChainSolutions(prod(map(len, lists)), map(built, ordered), tuple(dict.fromkeys(said)))


def _steps(sizes: Any, scales: Any, down: Kind, nd: int | None) -> list[Step]:
    """The questions of every layer, one per axis."""
    if (sizes is None) == (scales is None):
        raise ArgumentError(
            f"'sizes' or 'scales' must be given, and not both: got sizes={sizes!r}, scales={scales!r}; "
            f"legal: sizes=(256, 128, 256) or scales=('1/2', 2)"
        )
    least, name, entries = (2, "sizes", sizes) if scales is None else (1, "scales", scales)
    if isinstance(entries, (str, int)) or len(entries) < least:
        raise ArgumentError(
            f"{name!r} must have an entry for each level: got {entries!r}; legal: {least} or more"
        )
    tuples = {len(entry) for entry in entries if isinstance(entry, Sequence) and not isinstance(entry, str)}
    axes = next(iter(tuples), 2) if nd is None else nd
    rows: list[Step] = []
    for entry in pairwise(sizes) if scales is None else scales:
        before, after, scale = (*entry, None) if scales is None else (None, None, entry)
        step = questions_of(None, before, after, scale, axes)
        smaller = [q.input_size > q.output_size for q in step]
        if any(smaller) and not any(q.input_size < q.output_size for q in step):
            step = questions_of(down, before, after, scale, axes)
        rows.append(step)
    return rows


def _groups(
    steps: Sequence[Step], asked: dict[Question, list[Choice]], uniform: bool
) -> list[tuple[int, ...]]:
    """The numbers of the layers that shall be the same: of one kind and ratio, where no axis loses by it."""
    alike: dict[object, list[int]] = {}
    for number, step in enumerate(steps):
        same = tuple((q.kind, q.ratio) for q in step) if uniform else number
        alike.setdefault(same, []).append(number)
    found: list[tuple[int, ...]] = []
    for members in alike.values():
        columns = zip(*(steps[number] for number in members), strict=True)
        free = len(members) == 1 or all(_shares(list(dict.fromkeys(column)), asked) for column in columns)
        found += [tuple(members)] if free else [(number,) for number in members]
    return found


def _shares(questions: list[Question], asked: dict[Question, list[Choice]]) -> bool:
    """Whether one choice may answer all of them, on one axis."""
    single: dict[Ask, list[Choice]] = {(q,): asked[q] for q in questions}
    return sharing_is_free(in_all(list(single.values())), list(single), single)


def _rows(members: list[Step], asked: dict[Question, list[Choice]], isotropic: bool | None) -> Ordered[Row]:
    asks: list[Ask] = list(zip(*members, strict=True))
    return combined(asks, {ask: in_all([asked[q] for q in ask]) for ask in asks}, isotropic)


def _key(groups: Sequence[list[Step]], rows: tuple[Row, ...]) -> Key:
    return added(
        row_key(list(zip(*members, strict=True)), row) for members, row in zip(groups, rows, strict=True)
    )


def _widths(channels: Sequence[int] | None, steps: int) -> list[tuple[int | None, int | None]]:
    if channels is None:
        return [(None, None)] * steps
    if len(channels) != steps + 1:
        raise ArgumentError(
            f"'channels' must have an entry for every level: got {len(channels)} for {steps} layers; legal: "
            f"{steps + 1} numbers"
        )
    return list(pairwise(whole("channels", value, 1, channels) for value in channels))
