"""Multiply-adds are the products that are formed; parameters and memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.inspection.models_to_check import Fn, quick


@st.composite
def contractions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    nd, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    k, s, d = (draw(st.integers(1, most)) for most in (4, 3, 2))
    options: dict[str, Any] = {
        "kernel_size": k, "stride": s, "dilation": d, "padding": draw(st.integers(0, k)), "groups": groups,
        "bias": False,
    }  # fmt: skip
    transposed = draw(st.booleans())
    if transposed:
        options["output_padding"] = draw(st.integers(0, max(s, d) - 1))
    layer = getattr(nn, f"Conv{'Transpose' if transposed else ''}{nd}d")
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    return layer(*channels, **options), (
        draw(st.integers(1, 2)),
        channels[0],
        *[draw(st.integers(3, 9))] * nd,
    )


@given(contractions())
def test_multiply_adds_are_the_products_that_are_formed(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    layer, shape = case
    layer = layer.double()
    with torch.no_grad():
        layer.weight.fill_(1)  # type: ignore[operator]
        try:
            products = layer(torch.ones(shape, dtype=torch.float64)).sum()
        except RuntimeError:
            return
    (row,) = quick(layer, *shape).layers
    assert row.multiply_adds == int(products)


def test_dense_counts_follow_the_papers() -> None:
    kernel, channels = 4 * 4, 8 * 6
    up = quick(nn.ConvTranspose2d(8, 6, 4, 2, 1), 1, 8, 16, 16).layers[0]
    assert up.multiply_adds_dense == 16 * 16 * kernel * channels
    assert up.multiply_adds == (15 + 15 + 16 + 16) ** 2 * channels
    down = quick(nn.Conv2d(6, 8, 4, 2, 1), 1, 6, 32, 32).layers[0]
    assert down.multiply_adds_dense == up.multiply_adds_dense
    assert down.multiply_adds == up.multiply_adds, "a layer and its adjoint form the same products"


def test_linear_layers_and_attention_are_counted() -> None:
    assert quick(nn.Linear(10, 7), 4, 10).multiply_adds == 280
    model = Fn(lambda x: F.scaled_dot_product_attention(x, x, x))
    assert quick(model, 1, 2, 5, 3).multiply_adds == 2 * 2 * 5 * 5 * 3


def test_parameters_and_memory() -> None:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    report = quick(nn.Sequential(shared, nn.ReLU(), shared), 1, 2, 8, 8)
    assert [row.parameters for row in report.layers] == [38, 0, 0]
    assert (report.parameters, report.parameter_bytes) == (38, 152)
    assert report.peak_bytes == 2 * 2 * 64 * 4
    with_weights = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3))
    assert quick(with_weights, 1, 2, 8, 8).layers[0].kind == "ParametrizedConv2d"
