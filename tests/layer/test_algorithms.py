"""Short algorithms of one axis: their products are the outputs, and each sees its window alone."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

from outstride.geometry import phases
from outstride.layer.algorithms import F11, F21, F22, F23, Algorithm, ShortPhase, cut, direct, shortened
from outstride.layer.axis import Phase
from outstride.layer.spec import ConvSpec


def phase_of(text: str, number: int = 0) -> Phase:
    """A phase of a one-dimensional layer."""
    return phases(ConvSpec.parse(text))[number][0]


def products_per_output(made: tuple[ShortPhase, ...]) -> Fraction:
    """Products for each output of a phase."""
    return Fraction(sum(len(p.products) for p in made), sum(p.outputs for p in made))


@pytest.mark.parametrize("algorithm", [F11, F21, F22, F23], ids=str)
def test_the_rows_are_a_decomposition_of_the_trilinear_form(algorithm: Algorithm) -> None:
    inputs = algorithm.outputs + algorithm.taps - 1
    assert algorithm.products == inputs
    for i, k, j in product(range(inputs), range(algorithm.taps), range(algorithm.outputs)):
        rows = zip(algorithm.data, algorithm.weight, algorithm.result, strict=True)
        assert sum(b[i] * g[k] * a[j] for b, g, a in rows) == (i == j + k)


@pytest.mark.parametrize("algorithm", [F11, F21, F22, F23], ids=str)
def test_no_output_takes_a_product_of_an_input_outside_its_window(algorithm: Algorithm) -> None:
    for data, result in zip(algorithm.data, algorithm.result, strict=True):
        read = {i for i, c in enumerate(data) if c}
        for j in (j for j, c in enumerate(result) if c):
            assert read <= set(range(j, j + algorithm.taps))


@pytest.mark.parametrize("algorithm", [F11, F21, F22, F23], ids=str)
def test_additions_and_halvings_are_all_that_it_takes(algorithm: Algorithm) -> None:
    assert {abs(c) for row in (*algorithm.data, *algorithm.result) for c in row} <= {0, 1}
    assert {abs(c) for row in algorithm.weight for c in row} <= {0, Fraction(1, 2), 1}


@pytest.mark.parametrize("taps", range(2, 40))
def test_a_longer_kernel_is_cut_into_threes_and_twos(taps: int) -> None:
    pieces = cut(taps)
    assert sum(piece.taps for piece in pieces) == taps
    assert {piece.taps for piece in pieces} <= {2, 3}
    assert sum(piece.taps == 2 for piece in pieces) <= 2


LAYERS = [
    f"Conv1d(1, 1, {k}, stride={s}, dilation={d}, padding={p})"
    for k, s, d, p in product((1, 2, 3, 4, 5, 7, 11), (1, 2, 3), (1, 2, 3), (0, 1))
] + [
    f"ConvTranspose1d(1, 1, {k}, stride={s}, dilation={d}, padding={p})"
    for k, s, d, p in product((1, 2, 3, 4, 5, 8), (1, 2, 3), (1, 2, 3), (0, 1))
    if p <= d * (k - 1)
]


@pytest.mark.parametrize("text", LAYERS)
def test_the_products_of_a_phase_are_its_taps(text: str) -> None:
    for (phase,) in phases(ConvSpec.parse(text)):
        for made in (shortened(phase), (direct(phase),)):
            shares: dict[tuple[int, int, int], Fraction] = {}
            for each in made:
                for b, g, a in ((i, k, j) for p in each.products for i, k, j in product(*p)):
                    output = each.out_start + each.out_step * a[0]
                    place = (output, g[0], b[0])
                    shares[place] = shares.get(place, Fraction(0)) + b[1] * g[1] * a[1]
            outputs = [e.out_start + e.out_step * j for e in made for j in range(e.outputs)]
            expected = {
                (output, index, offset + (output - phase.out_start) // phase.out_step * phase.in_step)
                for output in outputs
                for index, offset in phase.taps
            }
            assert len(set(outputs)) == len(outputs)
            assert {place for place, share in shares.items() if share} == expected
            assert {share for share in shares.values() if share} <= {Fraction(1)}


@pytest.mark.parametrize("text", LAYERS)
def test_no_output_of_a_phase_reads_outside_its_window(text: str) -> None:
    for (phase,) in phases(ConvSpec.parse(text)):
        for each in shortened(phase):
            for made in each.products:
                for j, _ in made.outputs:
                    n = (each.out_start + each.out_step * j - phase.out_start) // phase.out_step
                    window = {offset + n * phase.in_step for _, offset in phase.taps}
                    assert {i for i, _ in made.inputs} <= window


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        ("Conv1d(1, 1, 1)", 0, Fraction(1)),
        ("Conv1d(1, 1, 2)", 0, Fraction(3, 2)),
        ("Conv1d(1, 1, 3)", 0, Fraction(2)),
        ("Conv1d(1, 1, 3, dilation=4)", 0, Fraction(2)),
        ("Conv1d(1, 1, 5)", 0, Fraction(7, 2)),
        ("Conv1d(1, 1, 7)", 0, Fraction(5)),
        ("Conv1d(1, 1, 11)", 0, Fraction(15, 2)),
        ("Conv1d(1, 1, 3, stride=2)", 0, Fraction(5, 2)),
        ("Conv1d(1, 1, 2, stride=2)", 0, Fraction(2)),
        ("ConvTranspose1d(1, 1, 4, stride=2)", 1, Fraction(3, 2)),
        ("ConvTranspose1d(1, 1, 16, stride=8)", 5, Fraction(3, 2)),
        ("ConvTranspose1d(1, 1, 2, stride=2)", 0, Fraction(1)),
    ],
)
def test_products_for_an_output(text: str, number: int, expected: Fraction) -> None:
    assert products_per_output(shortened(phase_of(text, number))) == expected


def test_a_phase_without_taps_stays_one() -> None:
    (hole,) = shortened(Phase(3, 4, 1, ()))
    assert (hole.outputs, hole.products) == (1, ())
