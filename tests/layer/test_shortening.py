"""Short axes: what the cells of a dilated one make, and which layers take them."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from outstride.layer.shortening import choose, period, short_axis


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("kernel", "padding", "dilation"), [(3, 1, 1), (3, 3, 3), (2, 0, 4), (5, 1, 2), (7, 8, 5), (11, 25, 5)]
)
def test_cells_in_runs_make_every_output_of_its_own_taps(
    transposed: bool, kernel: int, padding: int, dilation: int
) -> None:
    axis, outputs = short_axis(transposed, kernel, 1, padding, dilation), 5 * dilation + 3
    assert axis.run == dilation
    assert len(axis.products) == len(short_axis(False, kernel, 1, 0, 1).products)
    made: dict[int, Counter[tuple[int, int]]] = {}
    for cell in range(axis.cells(outputs)):
        for product in axis.products:
            for member, share in product.outputs:
                terms = made.setdefault(axis.output(cell, member), Counter())
                for u, a in product.inputs:
                    for k, b in product.weights:
                        terms[axis.first_input(cell) + u, k] += share * a * b  # type: ignore[assignment]
    assert sorted(made) == list(range(len(made)))
    assert outputs <= len(made) < outputs + period(transposed, kernel, 1, padding, dilation)
    way = -1 if transposed else 1
    for place, terms in made.items():
        taps = {(place + way * (k * dilation - padding), k): Fraction(1) for k in range(kernel)}
        assert {at: n for at, n in terms.items() if n} == taps


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "channels", "short"),
    [
        ((3,), (5,), 128, True),
        ((11,), (5,), 256, True),
        ((3,), (5,), 64, False),
        ((7,), (9,), 96, True),
        ((11,), (7,), 256, False),
        ((3, 3), (2, 2), 64, True),
        ((3, 3), (2, 2), 32, False),
        ((3, 3), (4, 4), 64, False),
        ((3, 1), (16, 1), 128, True),
        ((3, 3, 3), (2, 2, 2), 64, False),
    ],
)
def test_dilated_layers_take_them_where_maps_have_many_of_their_cells(
    kernel_size: tuple[int, ...], dilation: tuple[int, ...], channels: int, short: bool
) -> None:
    layer = (kernel_size, (1,) * len(kernel_size), dilation, channels, channels, "float32")
    assert choose(False, *layer).short is short


@pytest.mark.parametrize(
    ("kernel_size", "short"), [((7,), True), ((1, 7), False), ((7, 1), False), ((4,), False)]
)
def test_layers_of_one_axis_pay_from_less(kernel_size: tuple[int, ...], short: bool) -> None:
    """Seven taps are 10 products for 14: rows of maps are too short for that, those of sounds are not."""
    ones = (1,) * len(kernel_size)
    for transposed in (False, True):
        choice = choose(transposed, kernel_size, ones, ones, 128, 128, "float32")
        assert choice.short is short
        assert short or transposed or "save too little" in choice.reason
