"""Chains of layers: the legal set, the sizes they are made for, where their levels lie."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise, product
from typing import Any

import numpy as np
import pytest

from outstride import geometry, reference
from outstride.errors import ArgumentError, ShapeError
from outstride.geometry import ChainSolution


def through(chain: ChainSolution, size: int) -> list[int] | None:
    """The sizes of all levels on the first axis, by output_size; None where a layer refuses."""
    sizes = [size]
    try:
        for step in chain.steps:
            sizes += geometry.output_size(step.spec, sizes[-1])
    except ShapeError:
        return None
    return sizes


CHAINS: list[Any] = [
    {"sizes": (256, 128, 64, 128, 256)},
    {"sizes": (65, 33, 17, 33, 65)},
    {"sizes": (23, 12, 6, 12, 23)},
    {"sizes": (48, 16, 8, 24)},
    {"sizes": (64, 32, 64), "down": "max_pool"},
    {"scales": ("1/2", "1/2", 2, 2)},
    {"scales": ("1/2", "1/3", 3, 2), "down": "avg_pool"},
    {"scales": (3, "1/2")},
    {"scales": ("1/2", 1, 2), "kernel_size": 3},
    {"sizes": (7, 14, 28)},
]


@pytest.mark.parametrize("question", CHAINS, ids=str)
def test_every_level_of_an_answer_has_its_size(question: Any) -> None:
    found = geometry.solve_chain(**question, nd=1)
    assert len(found) > 0
    for chain in islice(found, 60):
        sizes = [size for (size,) in chain.sizes]
        assert through(chain, sizes[0]) == sizes
        if "sizes" in question:
            assert tuple(sizes) == question["sizes"]


@pytest.mark.parametrize("question", CHAINS, ids=str)
def test_the_period_names_every_size_that_fits_and_no_other(question: Any) -> None:
    for chain in islice(geometry.solve_chain(**question, nd=1), 25):
        ((modulus, residues),) = chain.period
        scales = [level[0] for level in chain.scales]
        pairs = [(a, b) for b in range(len(scales)) for a in range(b) if scales[a] == scales[b]]
        rest = 0 if "scales" in question else question["sizes"][-1] * scales[-1] - question["sizes"][0]
        for size in range(1, 4 * modulus + 60):
            levels = through(chain, size)
            if levels is None:
                continue
            fits = all(levels[a] == levels[b] for a, b in pairs)
            if not pairs:
                fits = levels[-1] * scales[-1] - size == rest
            assert fits == (size % modulus in residues), (chain.steps, size, levels)


def test_a_chain_is_the_combination_of_its_layers_answers_in_order() -> None:
    bounds: dict[str, Any] = {"kernel_size": (2, 3, 4), "padding": range(2), "nd": 1}
    sizes = (12, 6, 4, 8)
    found = geometry.solve_chain(sizes, uniform=False, **bounds)
    steps = [[s.spec for s in geometry.solve(i, o, **bounds)] for i, o in pairwise(sizes)]
    specs = [tuple(step.spec for step in chain.steps) for chain in found]
    assert set(specs) == set(product(*steps))
    assert len(specs) == len(set(specs)) == len(found) > 8
    keys = [[sum(parts) for parts in zip(*(s.key for s in chain.steps), strict=True)] for chain in found]
    assert keys == sorted(keys)
    same = geometry.solve_chain((16, 8, 4, 8, 16), **bounds)
    assert {tuple(step.spec for step in chain.steps) for chain in same} == {
        row
        for row in product(
            *([s.spec for s in geometry.solve(i, o, **bounds)] for i, o in pairwise((16, 8, 4, 8, 16)))
        )
        if row[0] == row[1] and row[2] == row[3]
    }


def test_the_first_answers_are_the_experts() -> None:
    deep = geometry.solve_chain((256, 128, 64, 128, 256))[0]
    assert [repr(step.spec) for step in deep.steps] == [
        *["Conv2d(kernel_size=4, stride=2, padding=1)"] * 2,
        *["ConvTranspose2d(kernel_size=4, stride=2, padding=1)"] * 2,
    ]
    assert deep.period == ((4, (0,)),) * 2
    odd = geometry.solve_chain((65, 33, 17, 33, 65))[0]
    assert {step.spec.kernel_size for step in odd.steps} == {(3, 3)}
    assert odd.period[0] == (4, (1,))
    unet = geometry.solve_chain(scales=("1/2",) * 4 + (2,) * 4, down="max_pool")[0]
    assert [repr(step.spec) for step in unet.steps[:4]] == ["MaxPool2d(2)"] * 4
    assert unet.period[0] == (16, (0,))
    # No one kernel centres both 23 -> 12 and 12 -> 6, so being the same yields to the centre.
    mixed = geometry.solve_chain((23, 12, 6, 12, 23))[0]
    assert [step.spec.kernel_size[0] for step in mixed.steps] == [3, 4, 4, 3]
    assert set(sum(mixed.drift, ())) == {Fraction(0)}


def test_rectangles_and_three_axes() -> None:
    flat = geometry.solve_chain(((64, 48), (32, 24), (64, 48)))[0]
    assert flat.sizes == ((64, 48), (32, 24), (64, 48))
    deep = geometry.solve_chain(scales=((1, "1/2", "1/2"), (1, 2, 2)))[0]
    assert [step.spec.nd for step in deep.steps] == [3, 3]
    assert deep.fit((5, 7, 9)).pad == ((0, 0), (0, 1), (0, 1))


def test_half_a_pixel_lost_and_found() -> None:
    chain = geometry.solve_chain(scales=("1/2", "1/2", 2, 2), kernel_size=3, nd=1)[0]
    assert [step.spec.output_padding for step in chain.steps] == [(0,), (0,), (1,), (1,)]
    assert [drift for (drift,) in chain.drift] == [0, Fraction(-1, 2), Fraction(-3, 2), Fraction(-1, 2), 0]


@pytest.mark.parametrize("question", CHAINS, ids=str)
def test_drift_is_where_a_ramp_goes(question: Any) -> None:
    """Averages keep a linear ramp a ramp, and so does s-fold interpolation by two boxes of s.

    So the value of the ramp at the middle of a level is the input position that lies there.
    """
    chain = next((c for c in islice(geometry.solve_chain(**question, nd=1), 30) if _is_linear(c)), None)
    assert chain is not None
    ((modulus, _),) = chain.period
    size = chain.sizes[0][0]
    size += modulus * -(-400 // modulus)
    levels = through(chain, size)
    assert levels is not None
    x = np.arange(size, dtype=np.float64)[None, None] - (size - 1) / 2
    grown = ChainSolution(
        tuple(
            geometry.Solution(s.spec, (s.questions[0]._replace(input_size=i, output_size=o, every=False),))
            for s, (i, o) in zip(chain.steps, pairwise(levels), strict=True)
        )
    )
    for step, (drift,) in zip(grown.steps, grown.drift[1:], strict=True):
        spec = step.spec
        (k,), (s,), pads = spec.kernel_size, spec.stride, spec.padding
        if spec.kind == "conv_transpose":
            w = np.convolve(np.convolve(np.ones(s), np.ones(s)), np.ones(k - 2 * s + 2))
            w = w[None, None] / w.sum() * s
            x = reference.conv_transpose(x, w, stride=s, padding=pads, output_padding=spec.output_padding)
        else:
            x = reference.conv(x, np.ones((1, 1, k)) / k, stride=s, padding=pads)
        centre = (x.shape[-1] - 1) / 2
        near = x[0, 0, int(centre)], x[0, 0, int(np.ceil(centre))]
        assert Fraction(np.mean(near)).limit_denominator(64) == drift


def _is_linear(chain: ChainSolution) -> bool:
    """Whether every layer has weights that keep a ramp: undilated, stamps of about two strides or more."""
    return all(
        step.spec.dilation == (1,)
        and not step.spec.ceil_mode
        and (step.spec.kind != "conv_transpose" or step.spec.kernel_size[0] >= 2 * step.spec.stride[0] - 1)
        for step in chain.steps
    )


def test_any_size_is_padded_to_one_that_fits() -> None:
    chain = geometry.solve_chain(scales=("1/2", "1/2", 2, 2))[0]
    for size in range(1, 70):
        fit = chain.fit((size, 2 * size))
        for n, to, (low, high) in zip((size, 2 * size), fit.input_size, fit.pad, strict=True):
            assert to % 4 == 0
            assert 0 <= to - n < 4
            assert (low + high, high - low in (0, 1)) == (to - n, True)
        assert fit.crop == fit.pad
    assert geometry.solve_chain((48, 16, 8, 24))[0].fit(50).crop is None
    with pytest.raises(ShapeError, match=r"'input_size' must be at least 1 on every axis: got \(0, 0\)"):
        chain.fit(0)


def test_channels_go_into_layers_and_cost() -> None:
    chain = geometry.solve_chain((8, 4, 8), channels=(3, 16, 5))[0]
    assert [(s.spec.in_channels, s.spec.out_channels) for s in chain.steps] == [(3, 16), (16, 5)]
    assert chain.multiply_adds == 4 * 4 * 16 * 3 * 16 + 4 * 4 * 16 * 16 * 5


def test_questions_that_are_none_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'sizes' or 'scales' must be given, and not both"):
        geometry.solve_chain()
    with pytest.raises(ArgumentError, match="'sizes' must have an entry for each level"):
        geometry.solve_chain((8,))
    with pytest.raises(ArgumentError, match="'channels' must have an entry for every level: got 2 for 2"):
        geometry.solve_chain((8, 4, 8), channels=(3, 4))
    with pytest.raises(ArgumentError, match="'down' must be one of its names"):
        geometry.solve_chain((8, 4, 8), down="conv_transpose")
    found = geometry.solve_chain((100, 60, 100))
    assert len(found) == 0
    assert any("100 -> 60" in note for note in found.notes)


def test_notebooks_show_answers_as_tables() -> None:
    found = geometry.solve(scale=2)
    page = found._repr_html_()
    assert page.count("<tr>") == 1 + 8
    assert "ConvTranspose2d(kernel_size=4, stride=2, padding=1)" in page
    assert "n -&gt; 2n" in page
    assert "n -&gt; 2n: exact for every size" in found[0]._repr_html_()
    assert "is rejected" in geometry.judge("Conv2d(1, 1, 3)", 7, 14)._repr_html_()
    chain = geometry.solve_chain((65, 33, 65))
    assert chain._repr_html_().count("<tr>") == 1 + 3
    assert "no layer within the bounds" in geometry.solve(100, 60)._repr_html_()
    assert "no chain within the bounds" in geometry.solve_chain((100, 60))._repr_html_()
