"""The loops by short algorithms against the definition: equal on integers, no NaN beyond a window.

And their order in float32: less is rounded away.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest

from outstride import reference
from outstride.layer.spec import ConvSpec
from outstride.reference import short
from tests.cases import Case
from tests.order import in_the_one_order
from tests.short_order import in_the_short_order, short_scale
from tests.tolerance import assert_equal_values


class Layer(NamedTuple):
    """A convolution on an input: all axes alike."""

    nd: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    groups: int
    size: int

    @property
    def options(self) -> dict[str, Any]:
        return {
            "stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups,
        }  # fmt: skip

    @property
    def window(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    def draw(self, transposed: bool, *, integers: bool) -> tuple[np.ndarray, np.ndarray]:
        """Input and weight."""
        rng = np.random.default_rng([*self, transposed])
        channels = (2 * self.groups, 3 if transposed else 2)
        x_shape = (2, 2 * self.groups, *[self.size] * self.nd)
        w_shape = (channels[0] if transposed else 3 * self.groups, channels[1], *[self.kernel] * self.nd)
        if integers:
            return rng.integers(-9, 9, x_shape), rng.integers(-9, 9, w_shape)
        return rng.standard_normal(x_shape), rng.standard_normal(w_shape)


LAYERS = [
    Layer(1, *numbers, size=13) for numbers in product((1, 2, 3, 4, 5, 7), (1, 2, 3), (0, 1), (1, 2), (1, 2))
] + [
    Layer(2, 3, 1, 1, 1, 1, 6),
    Layer(2, 3, 2, 1, 1, 2, 7),
    Layer(2, 5, 1, 2, 1, 1, 5),
    Layer(2, 4, 2, 1, 1, 1, 6),
    Layer(2, 3, 1, 2, 2, 1, 7),
    Layer(3, 3, 1, 1, 1, 1, 4),
    Layer(3, 2, 1, 0, 1, 1, 3),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_integers_come_out_as_the_definition_says(layer: Layer) -> None:
    x, w = layer.draw(False, integers=True)
    y = reference.conv(x, w, **layer.options)
    assert_equal_values(short.conv(x, w, **layer.options), y)
    kernel = w.shape[2:]
    expected = reference.conv_weight(x, y, kernel, **layer.options)
    assert_equal_values(short.conv_weight(x, y, kernel, **layer.options), expected)
    x, w = layer.draw(True, integers=True)
    if layer.window > layer.padding:
        expected = reference.conv_transpose(x, w, **layer.options)
        assert_equal_values(short.conv_transpose(x, w, **layer.options), expected)


@pytest.mark.parametrize("which", list(product((False, True), repeat=2)), ids=str)
def test_every_axis_may_stay_direct(which: tuple[bool, bool]) -> None:
    x, w = Layer(2, 3, 1, 1, 1, 1, 5).draw(False, integers=True)
    assert_equal_values(short.conv(x, w, padding=1, short=which), reference.conv(x, w, padding=1))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_nan_reaches_no_output_whose_window_does_not_hold_it(layer: Layer, transposed: bool) -> None:
    x, w = layer.draw(transposed, integers=False)
    definition = reference.conv_transpose if transposed else reference.conv
    loops = short.conv_transpose if transposed else short.conv
    for at in range(0, layer.size, 3):
        place = (slice(None), slice(None)) + (at,) * layer.nd
        x[place] = np.nan
    seen, expected = loops(x, w, **layer.options), definition(x, w, **layer.options)
    assert not np.any(np.isnan(seen) & ~np.isnan(expected))


@pytest.mark.parametrize("layer", LAYERS[::3], ids=str)
def test_with_absolute_values_no_sum_is_smaller_and_both_ways_to_them_agree(layer: Layer) -> None:
    for transposed in (False, True):
        if transposed and layer.window <= layer.padding:
            continue
        x, w = (np.abs(each) for each in layer.draw(transposed, integers=True))
        loops = short.conv_transpose if transposed else short.conv
        definition = reference.conv_transpose if transposed else reference.conv
        scale = loops(x, w, **layer.options, absolute=True)
        assert np.all(scale >= definition(x, w, **layer.options))
        spec = _spec(layer, "conv_transpose" if transposed else "conv")
        assert_equal_values(short_scale(spec, x, -w), scale)


def test_the_scale_of_a_weight_gradient_is_that_of_its_products() -> None:
    x, y = np.array([[[1, 2, 3, 4]]]), np.array([[[1, 1]]])
    assert_equal_values(short.conv_weight(x, y, 3), [[[3, 5, 7]]])
    assert_equal_values(short.conv_weight(x, y, 3, absolute=True), [[[14, 10, 16]]])


def _spec(layer: Layer, kind: Literal["conv", "conv_transpose"]) -> ConvSpec:
    return ConvSpec(kind, (layer.kernel,) * layer.nd, **layer.options)


@pytest.mark.parametrize("layer", LAYERS[::5], ids=str)
def test_the_order_that_kernels_keep_computes_the_same(layer: Layer) -> None:
    x, w = (each.astype(np.float32) for each in layer.draw(False, integers=True))
    made = in_the_short_order(_spec(layer, "conv"), x, w, None)
    assert_equal_values(made, reference.conv(x, w, **layer.options))
    x, w = (each.astype(np.float32) for each in layer.draw(True, integers=True))
    if layer.window > layer.padding:
        made = in_the_short_order(_spec(layer, "conv_transpose"), x, w, None)
        assert_equal_values(made, reference.conv_transpose(x, w, **layer.options))


def test_a_shorter_chain_rounds_less() -> None:
    """Of 64 channels of 3 x 3 taps: four products an output instead of nine."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, 64, 12, 12)).astype(np.float32)
    w = rng.standard_normal((8, 64, 3, 3)).astype(np.float32)
    truth = reference.conv(x, w)
    case = Case("error", "conv", (12, 12), (3, 3), 64, 8, batch=1, bias=False)
    case = replace(case, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), output_padding=(0, 0))
    errors = [
        float(np.linalg.norm(made - truth))
        for made in (
            in_the_short_order(ConvSpec("conv", (3, 3)), x, w, None),
            in_the_one_order(case, x, w, None),
        )
    ]
    assert errors[0] < 0.75 * errors[1]
