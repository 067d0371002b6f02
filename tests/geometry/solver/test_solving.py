"""The solver against plain enumeration, its closed forms against their definitions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, product
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outstride import geometry, reference
from outstride.errors import ArgumentError, ShapeError
from outstride.geometry.solver import merits
from outstride.geometry.solver.choices import Choice, Question, made_size
from outstride.layer.spec import ConvSpec

KINDS = ("conv", "conv_transpose", "max_pool", "avg_pool")
BOUNDS: dict[str, Any] = {
    "kernel_size": range(1, 6),
    "stride": range(1, 5),
    "padding": range(4),
    "dilation": (1, 2, 3),
    "output_padding": range(4),
}


def every_layer(kind: str, asymmetric: bool) -> Iterator[ConvSpec]:
    """Every 1-d layer within BOUNDS that ConvSpec takes; a kernel of one element is listed undilated."""
    rows = product(
        BOUNDS["kernel_size"],
        BOUNDS["stride"],
        product(BOUNDS["padding"], repeat=2),
        BOUNDS["dilation"],
        BOUNDS["output_padding"] if kind == "conv_transpose" else (0,),
        (False, True) if kind.endswith("pool") else (False,),
    )
    for k, s, (low, high), d, extra, rounds_up in rows:
        if (low == high or asymmetric) and (k > 1 or d == 1):
            try:
                options: Any = {"ceil_mode": rounds_up} if rounds_up else {}
                yield ConvSpec(kind, (k,), s, [(low, high)], d, extra, **options)  # type: ignore[arg-type]
            except ArgumentError:
                continue


def gives(spec: ConvSpec, size: int) -> int | None:
    try:
        return geometry.output_size(spec, size)[0]
    except ShapeError:
        return None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asymmetric", [False, True])
def test_solve_returns_exactly_the_legal_set_for_sizes(kind: Any, asymmetric: bool) -> None:
    layers = list(every_layer(kind, asymmetric))
    found_some = 0
    for size in (1, 2, 3, 5, 8, 13):
        by_output: dict[int | None, set[ConvSpec]] = {}
        for spec in layers:
            by_output.setdefault(gives(spec, size), set()).add(spec)
        for wanted in range(1, 40):
            found = geometry.solve(size, wanted, kind=kind, nd=1, asymmetric=asymmetric, **BOUNDS)
            specs = [solution.spec for solution in found]
            assert len(specs) == len(found) == len(set(specs))
            assert set(specs) == by_output.get(wanted, set()), (size, wanted)
            found_some += bool(specs)
    assert found_some > 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_solve_returns_exactly_the_layers_that_scale_every_size(kind: Any, ratio: int) -> None:
    up = kind == "conv_transpose"
    pairs = [(n, ratio * n) if up else (ratio * n, n) for n in range(1, 30)]
    legal = {spec for spec in every_layer(kind, True) if all(gives(spec, i) == o for i, o in pairs)}
    scale = ratio if up else Fraction(1, ratio)
    found = geometry.solve(scale=scale, kind=kind, nd=1, asymmetric=True, **BOUNDS)
    assert {solution.spec for solution in found} == legal
    assert len(found) == len(legal) > 0
    assert all(solution.exact for solution in found)


@pytest.mark.parametrize(
    ("sizes", "wanted", "bounds"),
    [
        ((5, 7), (10, 14), {"kernel_size": (3, 4), "padding": range(3)}),
        ((5, 7), (9, 14), {"kernel_size": (2, 3, 4), "padding": range(3), "stride": (1, 2)}),
        ((9, 8), (4, 4), {"kernel_size": (1, 2, 3), "padding": range(2), "kind": "max_pool"}),
        ((2, 3, 4), (2, 6, 8), {"kernel_size": (3, 4), "padding": (0, 1), "dilation": 1}),
    ],
)
def test_axes_are_combined_to_exactly_the_legal_set(sizes: Any, wanted: Any, bounds: Any) -> None:
    """Free axes: every combination, in the order of the ranking, found lazily but all of them."""
    free = geometry.solve(sizes, wanted, isotropic=False, **bounds)
    kind = free[0].spec.kind
    columns = [
        [s.spec for s in geometry.solve(i, o, nd=1, **{**bounds, "kind": kind})]
        for i, o in zip(sizes, wanted, strict=True)
    ]
    legal = [row for row in product(*columns) if len({spec.ceil_mode for spec in row}) == 1]
    specs = [solution.spec for solution in free]
    assert len(specs) == len(free) == len(set(specs)) == len(legal) > 1
    for spec in specs:
        assert geometry.output_size(spec, sizes) == wanted
    keys = [solution.key for solution in free]
    assert keys == sorted(keys)
    same = {solution.spec for solution in free if len(set(solution.choices)) == 1}
    assert {s.spec for s in geometry.solve(sizes, wanted, isotropic=True, **bounds)} == same


def test_three_free_axes_do_not_explode() -> None:
    found = geometry.solve((7, 9, 11), (14, 18, 22), isotropic=False)
    assert len(found) > 2_000
    best = list(islice(found, 40))
    keys = [solution.key for solution in best]
    assert keys == sorted(keys)
    assert best[0].spec == ConvSpec("conv_transpose", (4, 4, 4), 2, 1)
    huge = geometry.solve((40, 60, 80), (280, 660, 1040), isotropic=False)
    assert len(huge) > 10**6
    assert huge[0].exact


# What an expert would take, and why.
FIRST = [
    # Two strides: even, centred, stamps overlap by half, and neither size nor cost grows further.
    ({"scale": 2}, "ConvTranspose2d(kernel_size=4, stride=2, padding=1)"),
    ({"scale": 4}, "ConvTranspose2d(kernel_size=8, stride=4, padding=2)"),
    ({"scale": 32}, "ConvTranspose2d(kernel_size=64, stride=32, padding=16)"),
    # At an odd stride two strides are never centred: three are the fewest that are even and overlap.
    ({"scale": 3}, "ConvTranspose2d(kernel_size=9, stride=3, padding=3)"),
    ({"input_size": 7, "output_size": 14}, "ConvTranspose2d(kernel_size=4, stride=2, padding=1)"),
    ({"input_size": 23, "output_size": 46}, "ConvTranspose2d(kernel_size=4, stride=2, padding=1)"),
    # 64 cells of 4 between 65 nodes: the x4 layer with two more pixels cropped on each side.
    ({"input_size": 65, "output_size": 256}, "ConvTranspose2d(kernel_size=8, stride=4, padding=4)"),
    # 2n - 1 is odd, so what is centred is odd too: linear interpolation's own kernel.
    ({"input_size": 7, "output_size": 13}, "ConvTranspose2d(kernel_size=3, stride=2, padding=1)"),
    ({"scale": "1/2"}, "Conv2d(kernel_size=4, stride=2, padding=1)"),
    ({"input_size": 224, "output_size": 112}, "Conv2d(kernel_size=4, stride=2, padding=1)"),
    ({"input_size": 23, "output_size": 12}, "Conv2d(kernel_size=3, stride=2, padding=1)"),
    ({"input_size": 7, "output_size": 7}, "Conv2d(kernel_size=3, padding=1)"),
    ({"scale": "1/2", "kind": "max_pool"}, "MaxPool2d(2)"),
    ({"scale": "1/3", "kind": "avg_pool"}, "AvgPool2d(3)"),
    ({"input_size": 23, "output_size": 12, "kind": "max_pool"}, "MaxPool2d(3, stride=2, padding=1)"),
    ({"scale": (1, 2, 2)}, "ConvTranspose3d(kernel_size=(3, 4, 4), stride=(1, 2, 2), padding=1)"),
    ({"scale": 2, "kernel_size": 3}, "ConvTranspose2d(kernel_size=3, stride=2, padding=1, output_padding=1)"),
    ({"scale": 2, "kernel_size": 2, "nd": 1}, "ConvTranspose1d(kernel_size=2, stride=2)"),
    (
        {"input_size": (7, 65), "output_size": (14, 256)},
        "ConvTranspose2d(kernel_size=(4, 8), stride=(2, 4), padding=(1, 4))",
    ),
    ({"input_size": (224, 240), "output_size": (112, 120)}, "Conv2d(kernel_size=4, stride=2, padding=1)"),
]


@pytest.mark.parametrize(("question", "layer"), FIRST)
def test_the_first_answer_is_the_experts(question: Any, layer: str) -> None:
    assert repr(geometry.solve(**question)[0].spec) == layer


def test_the_second_answers_are_the_cheap_and_the_smooth_one() -> None:
    assert [s.spec.kernel_size[0] for s in geometry.solve(scale=2)[:3]] == [4, 6, 2]
    assert [s.spec.kernel_size[0] for s in geometry.solve(scale=3)[:2]] == [9, 3]


def choices_within(most: int) -> st.SearchStrategy[Choice]:
    ranges = [
        st.integers(1, 7),
        st.integers(1, 6),
        st.integers(0, most),
        st.integers(0, most),
        st.integers(1, 4),
    ]
    return st.builds(Choice, *ranges, st.integers(0, 3), st.just(False)).filter(
        lambda c: c.output_padding < max(c.stride, c.dilation)
    )


def asked_of(kind: Any, choice: Choice, size: int) -> Question | None:
    """The question that a choice answers at an input size; None where it has no output."""
    out = made_size(kind, choice, size)
    return Question(kind, size, out) if out > 0 else None


@settings(max_examples=400)
@given(st.sampled_from(("conv", "conv_transpose")), choices_within(6), st.integers(1, 12))
def test_exactness_and_law_are_what_all_sizes_show(kind: Any, choice: Choice, size: int) -> None:
    question = asked_of(kind, choice, size)
    if question is None:
        return
    s, w, pads = choice.stride, choice.window, choice.low + choice.high
    up = kind == "conv_transpose"
    sizes = range(1, 40) if up else range(s, 40 * s, s)
    always = all(made_size(kind, choice, n) == (s * n if up else n // s) for n in sizes)
    closed = w + choice.output_padding - pads == s if up else w - s <= pads <= w - 1
    assert closed == always
    if up or size % s == 0:
        assert (merits.misfit(question, choice) == 0) == always


@given(choices_within(5))
def test_evenness_and_holes_are_what_the_phases_show(choice: Choice) -> None:
    spec = ConvSpec(
        *("conv_transpose", (choice.kernel_size,), choice.stride, [(choice.low, choice.high)]),
        *(choice.dilation, choice.output_padding),
    )
    taps = [len(phase.taps) for phase in geometry.axis_phases(spec)[0]]
    assert list(merits.shares(choice)) == taps
    assert merits.is_even(choice) == (len(set(taps)) == 1)
    assert merits.has_holes(choice) == (0 in taps)
    # The convolution: how many windows read each input, far from the borders.
    reads = np.zeros(60 * choice.stride, int)
    for out, tap in product(range(200), range(choice.kernel_size)):
        at = out * choice.stride - choice.low + tap * choice.dilation
        if 0 <= at < len(reads):
            reads[at] += 1
    middle = reads[20 * choice.stride : 21 * choice.stride]
    assert list(merits.shares(choice)) == middle.tolist()


def dense(kind: str, choice: Choice, size: int) -> np.ndarray:
    """Which output reads which input, as a matrix of counts: the layer with ones for weights."""
    ones = np.ones((1, 1, choice.kernel_size))
    columns = []
    for at in range(size):
        x = np.zeros((1, 1, size))
        x[0, 0, at] = 1
        pads, s, d = [(choice.low, choice.high)], choice.stride, choice.dilation
        if kind == "conv":
            y = reference.conv(x, ones, stride=s, padding=pads, dilation=d)
        else:
            y = reference.conv_transpose(
                x, ones, stride=s, padding=pads, dilation=d, output_padding=choice.output_padding
            )
        columns.append(y[0, 0])
    return np.stack(columns, axis=1)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(("conv", "conv_transpose")), choices_within(3))
def test_the_shift_is_where_the_middle_goes(kind: Any, choice: Choice) -> None:
    """The mean of what an element far from the borders touches, and from two of them the rule for all."""
    size = 60
    question = asked_of(kind, choice, size)
    assert question is not None
    matrix = dense(kind, choice, size)
    fine_by_coarse = matrix if kind == "conv_transpose" else matrix.T
    positions = np.arange(fine_by_coarse.shape[0])
    coarse = fine_by_coarse.shape[1]
    at = (coarse // 2 - 1, coarse // 2)
    first, second = (positions @ fine_by_coarse[:, c] / fine_by_coarse[:, c].sum() for c in at)
    middle = first + (second - first) * ((coarse - 1) / 2 - at[0])
    assert merits.shift(question, choice) == Fraction(middle - (len(positions) - 1) / 2).limit_denominator(8)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(("conv", "conv_transpose")), choices_within(9), st.integers(1, 9))
def test_idle_borders_are_empty_rows_and_columns(kind: Any, choice: Choice, size: int) -> None:
    choice = choice._replace(dilation=1, output_padding=min(choice.output_padding, choice.stride - 1))
    question = asked_of(kind, choice, size)
    if question is None or merits.has_holes(choice):
        return
    matrix = dense(kind, choice, size)
    empty = int((matrix.sum(0) == 0).sum()), int((matrix.sum(1) == 0).sum())
    assert merits.idle(question, choice) == empty


def test_half_a_pixel_is_a_fraction() -> None:
    solution = geometry.solve(14, 28, kernel_size=3)[0]
    assert solution.shift == (Fraction(-1, 2), Fraction(-1, 2))
    assert not solution.even
    assert solution.shares[0] == (1, 2)
    assert solution.proof == ("(14 - 1) * 2 - 1 - 1 + 1 * (3 - 1) + 1 + 1 = 28",)


@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_multiply_adds_are_counted(kind: Any) -> None:
    """Each coarse element meets each tap once, in every pair of channels of a group."""
    sizes = ((6, 8), (12, 16)) if kind == "conv_transpose" else ((12, 16), (6, 8))
    solution = geometry.solve(*sizes, kind=kind, in_channels=4, out_channels=6, groups=2)[0]
    spec = solution.spec
    coarse = sizes[0] if kind == "conv_transpose" else sizes[1]
    assert solution.multiply_adds == prod(coarse) * prod(spec.kernel_size) * 4 * 6 // 2


def test_a_printed_proof_computes_to_what_it_says() -> None:
    questions: list[Any] = [
        (7, 14, None),
        (65, 256, None),
        (23, 12, "conv"),
        (23, 12, "max_pool"),
        (7, 9, "conv"),
    ]
    names = {"floor": lambda x: x.__floor__(), "ceil": lambda x: x.__ceil__()}
    for i, o, kind in questions:
        for solution in geometry.solve(i, o, kind=kind, nd=1):
            formula, _, result = solution.proof[0].rpartition(" = ")
            assert eval(formula, names) == int(result) == o


def test_questions_that_are_none_are_refused_in_one_sentence() -> None:
    with pytest.raises(ArgumentError, match="'input_size' and 'output_size' must both be given, or 'scale'"):
        geometry.solve(7)
    with pytest.raises(ArgumentError, match=r"'scale' must be given alone: got scale=2, input_size=7"):
        geometry.solve(7, 14, scale=2)
    with pytest.raises(ArgumentError, match=r"'scale' must be one that a single conv_transpose .*'3/2'"):
        geometry.solve(scale="3/2")
    with pytest.raises(ArgumentError, match=r"'scale' must be a whole number or one over .*got 0\.5"):
        geometry.solve(scale=0.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"'input_size' must be at least 1: got input_size=0"):
        geometry.solve(0, 14)
    with pytest.raises(ArgumentError, match=r"'kernel_size' must be at least 1"):
        geometry.solve(7, 14, kernel_size=range(4))
    with pytest.raises(ArgumentError, match=r"'stride' must hold a value to try"):
        geometry.solve(7, 14, stride=())
    with pytest.raises(ArgumentError, match=r"must agree on 1 to 3 axes: got \[2, 3\]"):
        geometry.solve((7, 7), (14, 14, 14))
    with pytest.raises(ArgumentError, match=r"'kind' must be one of its names"):
        geometry.solve(7, 14, kind="deconv")  # type: ignore[arg-type]


def test_no_answer_says_what_it_would_take() -> None:
    found = geometry.solve(100, 60)
    assert (len(found), list(found)) == (0, [])
    assert "needs window - 2 * padding from -19 to -18" in found.notes[0]
    assert "scales 3 and 1/5" in found.notes[0]
    assert geometry.solve(100, 60, kernel_size=41, stride=1, padding=0)[0].spec.kernel_size == (41, 41)
    with pytest.raises(IndexError):
        found[0]


def test_notes_say_what_cannot_be_had() -> None:
    assert "no kernel of two strides is centred: 6 - 2 * padding = 3" in geometry.solve(scale=3).notes[0]
    assert "256 / 65 is no whole number" in geometry.solve(65, 256).notes[0]
    assert geometry.solve(scale=2).notes == ()


class TestJudging:
    """One given layer against a question."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_layer_is_accepted_exactly_if_it_is_legal(self, kind: Any) -> None:
        layers = [spec for n, spec in enumerate(every_layer(kind, True)) if n % 7 == 0]
        verdicts = [(spec, geometry.judge(spec, 8, 4)) for spec in layers]
        assert [(s, j.accepted) for s, j in verdicts] == [(s, gives(s, 8) == 4) for s in layers]
        assert all(bool(judgement.faults) != judgement.accepted for _, judgement in verdicts)

    def test_a_rejected_layer_says_why_and_what_would_do(self) -> None:
        judgement = geometry.judge("ConvTranspose2d(8, 8, 3, stride=2, padding=1)", 14, 28)
        assert not judgement.accepted
        assert judgement.faults == (
            "(14 - 1) * 2 - 1 - 1 + 1 * (3 - 1) + 0 + 1 = 27, not 28; output_padding=1 would give it",
        )
        assert judgement.instead is not None
        assert geometry.output_size(judgement.instead.spec, 14) == (28, 28)

    @pytest.mark.parametrize(
        ("text", "question", "fault"),
        [
            (
                "ConvTranspose1d(1, 1, 3, stride=2, output_padding=2)",
                (7, 14),
                "'output_padding' must be smaller",
            ),
            ("MaxPool1d(2, padding=2)", (7, 5), "at most half the window"),
            ("Conv1d(1, 1, 9)", (7, 5), "'input_size' must be large enough"),
            ("MaxPool1d(2)", (23, 12), "= 11, not 12; ceil_mode=True would give it"),
            ("Conv2d(1, 1, 3, stride=2)", ((224, 8), (112, 4)), "axis 1: floor.* = 3, not 4; padding=1"),
        ],
    )
    def test_every_fault_has_its_sentence(self, text: str, question: Any, fault: str) -> None:
        judgement = geometry.judge(text, *question)
        assert any(re.search(fault, found) for found in judgement.faults), judgement.faults

    def test_a_scale_is_judged_for_every_size(self) -> None:
        assert geometry.judge("ConvTranspose2d(1, 1, 4, stride=2, padding=1)", scale=2).rank == 1
        wrong = geometry.judge("ConvTranspose2d(1, 1, 3, stride=2, padding=1)", scale=2)
        assert wrong.faults == ("n -> 2n - 1, not 2n; output_padding=1 would give it",)
        stride = geometry.judge("Conv2d(1, 1, 3, stride=3, padding=1)", scale="1/2")
        assert stride.faults == ("n -> ceil(n / 3): the stride must be 2 to scale by it, not 3",)

    def test_an_accepted_layer_has_its_rank_and_what_is_better(self) -> None:
        judgement = geometry.judge(
            "ConvTranspose2d(8, 8, 3, stride=2, padding=1, output_padding=1)", input_size=14, output_size=28
        )
        assert judgement.accepted
        assert judgement.rank is not None
        found = geometry.solve(14, 28)
        assert found[judgement.rank - 1].choices == judgement.solution.choices  # type: ignore[union-attr]
        assert judgement.behind[:2] == ("it is further from the centre", "its overlap is uneven")

    def test_bounds_that_are_given_must_be_kept(self) -> None:
        spec = ConvSpec.parse("ConvTranspose2d(1, 1, 4, stride=2, padding=1)")
        assert geometry.judge(spec, 7, 14, kernel_size=range(1, 4)).faults == (
            "kernel_size=4 is outside its bounds: 1, 2 or 3",
        )
        assert geometry.judge(spec, 7, 14, kernel_size=4).accepted

    def test_same_is_judged_by_its_numbers(self) -> None:
        judgement = geometry.judge("Conv2d(3, 8, 3, stride=2, padding='same')", 224, 112)
        assert judgement.accepted
        assert judgement.solution is not None
        assert judgement.solution.shift == (Fraction(1, 2),) * 2
        assert judgement.solution.frameworks["keras"].mark == "yes"
        assert judgement.solution.frameworks["torch"].mark == "more"
