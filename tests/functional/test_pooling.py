"""Pooling against torch, against the definition, and with borders that torch does not have."""

from __future__ import annotations

import pickle
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride import ConvSpec, functional, nn, reference
from outstride.errors import ArgumentError, OutstrideError, ShapeError
from tests.tolerance import assert_close_to_reference, assert_same_bits, assert_same_numbers

_ND = pytest.mark.parametrize("nd", [1, 2, 3])
_SIZE = (9, 8, 7)


def _input(nd: int, *lead: int) -> Tensor:
    generator = torch.Generator().manual_seed(nd)
    return torch.randn(*(lead or (2, 3)), *_SIZE[:nd], generator=generator)


def _max_options(nd: int) -> list[dict[str, Any]]:
    grid = product((2, 3), (None, 1, 2), (0, 1), (1, 2), (False, True))
    rows = [
        dict(zip(("kernel_size", "stride", "padding", "dilation", "ceil_mode"), row, strict=True))
        for row in grid
    ]
    per_axis = {"kernel_size": (3, 2, 1)[:nd], "stride": (1, 2, 3)[:nd], "padding": (1, 1, 0)[:nd]}
    return [*rows, per_axis]


def _avg_options(nd: int) -> list[dict[str, Any]]:
    grid = product((2, 3), (None, 1, 2), (0, 1), (False, True), (False, True), (None, 1, 5))
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    rows = [dict(zip(names, row, strict=True)) for row in grid if nd > 1 or row[-1] is None]
    for row in rows:
        if nd == 1:
            row.pop("divisor_override")
    return rows


def _definition(x: Tensor, mode: Any, options: dict[str, Any]) -> np.ndarray:
    batched = {"kernel_size": options["kernel_size"], **options}
    return reference.pool(x.double().numpy(), mode=mode, **batched)


@_ND
def test_max_pooling_is_torchs_and_the_definitions(nd: int) -> None:
    x = _input(nd)
    for options in _max_options(nd):
        expected, places = getattr(F, f"max_pool{nd}d")(x, return_indices=True, **options)
        found, where = getattr(functional, f"max_pool{nd}d")(x, return_indices=True, **options)
        assert_same_bits(found, expected)
        assert_same_numbers(where, places)
        assert_same_bits(getattr(nn, f"MaxPool{nd}d")(**options)(x), expected)
        assert found.double().numpy().tolist() == _definition(x, "max", options).tolist(), options


@_ND
def test_average_pooling_is_torchs_and_the_definitions(nd: int) -> None:
    x = _input(nd, 1, 2)[..., :6]
    for options in _avg_options(nd):
        expected = getattr(F, f"avg_pool{nd}d")(x, **options)
        assert_same_bits(getattr(functional, f"avg_pool{nd}d")(x, **options), expected)
        assert_same_bits(getattr(nn, f"AvgPool{nd}d")(**options)(x), expected)
        truth, size = _definition(x, "avg", options), _definition(x.abs(), "avg", options)
        assert_close_to_reference(
            expected, truth, size, options["kernel_size"] ** nd, torch.float32, str(options)
        )


@_ND
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_unbatched_zero_batch_strided_and_narrow(nd: int, mode: str) -> None:
    pool = getattr(functional, f"{mode}_pool{nd}d")
    x = _input(nd)
    for padding in (0, "same", [(0, 1)] * nd):
        result = pool(x, 3, 2, padding)
        assert_same_bits(pool(x[1], 3, 2, padding), result[1])
        assert pool(x[:0], 3, 2, padding).shape == (0, *result.shape[1:])
        last = x.movedim(1, -1).contiguous().movedim(-1, 1)
        assert_same_bits(pool(last, 3, 2, padding).contiguous(), result)
        if (mode, nd) != ("avg", 3):  # which torch does not have in narrow types
            assert pool(x.bfloat16(), 3, 2, padding).dtype == torch.bfloat16
        assert pool(x.to("meta"), 3, 2, padding).shape == result.shape


def _windows(x: np.ndarray, k: int, s: int, d: int, filler: float) -> np.ndarray:
    """TensorFlow's SAME by its published definition: windows (N, C, *out, k**nd), nothing but slices."""
    nd = x.ndim - 2
    ends, outs = [(0, 0), (0, 0)], []
    for n in x.shape[2:]:
        out, extent = -(-n // s), (k - 1) * d + 1
        total = max((out - 1) * s + extent - n, 0)
        ends.append((total // 2, total - total // 2))
        outs.append(out)
    bordered = np.pad(x, ends, constant_values=filler)
    taps = []
    for offset in np.ndindex(*[k] * nd):
        view = bordered
        for axis, (o, n) in enumerate(zip(offset, outs, strict=True), 2):
            view = view.take(range(o * d, o * d + (n - 1) * s + 1, s), axis)
        taps.append(view)
    stacked: np.ndarray = np.stack(taps, -1)
    return stacked


@_ND
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("s", [1, 2, 3, 5])
def test_same_is_tensorflows(nd: int, k: int, s: int) -> None:
    x = _input(nd)
    array = x.double().numpy()
    largest = _windows(array, k, s, 1, -np.inf).max(-1)
    found, places = getattr(nn, f"MaxPool{nd}d")(k, s, "same", return_indices=True)(x)
    assert found.double().numpy().tolist() == largest.tolist()
    assert_same_bits(x.flatten(2).gather(2, places.flatten(2)).view_as(found), found)
    seen = _windows(np.ones_like(array), k, s, 1, 0).sum(-1)
    total, magnitude = _windows(array, k, s, 1, 0).sum(-1), _windows(np.abs(array), k, s, 1, 0).sum(-1)
    # TensorFlow counts the elements inside; torch's word for the other count is kept.
    for counting, count in (({}, seen), ({"count_include_pad": True}, np.full_like(seen, k**nd))):
        layer = getattr(nn, f"AvgPool{nd}d")(k, s, "same", **counting)
        assert_same_bits(getattr(functional, f"avg_pool{nd}d")(x, k, s, "same", **counting), layer(x))
        # Beside the sum, one division is rounded.
        assert_close_to_reference(layer(x), total / count, magnitude / count, k**nd + 1, torch.float32)
    assert reference.pool(array, k, s, "same").tolist() == largest.tolist()
    assert "padding=same" in repr(getattr(nn, f"MaxPool{nd}d")(k, s, "same"))


@_ND
def test_same_with_dilation(nd: int) -> None:
    x = _input(nd)
    largest = _windows(x.double().numpy(), 3, 2, 2, -np.inf).max(-1)
    assert nn_max(nd, 3, 2, "same", dilation=2)(x).double().numpy().tolist() == largest.tolist()


def nn_max(nd: int, *arguments: Any, **options: Any) -> Any:
    return getattr(nn, f"MaxPool{nd}d")(*arguments, **options)


@_ND
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("pair", [(0, 1), (1, 0)])
@pytest.mark.parametrize("s", [1, 2, 3])
def test_padding_per_side_is_the_definitions(nd: int, ceil_mode: bool, pair: tuple[int, int], s: int) -> None:
    x = _input(nd)
    options: dict[str, Any] = {"kernel_size": 3, "stride": s, "padding": [pair] * nd, "ceil_mode": ceil_mode}
    found = nn_max(nd, **options)(x)
    assert found.double().numpy().tolist() == _definition(x, "max", options).tolist()
    assert f"padding={(pair,) * nd}" in repr(nn_max(nd, **options))
    for counted in (True, False):
        rest = {**options, "count_include_pad": counted}
        average = getattr(nn, f"AvgPool{nd}d")(**rest)(x)
        truth, size = _definition(x, "avg", rest), _definition(x.abs(), "avg", rest)
        assert_close_to_reference(average, truth, size, 3**nd + 1, torch.float32, str(rest))


def test_gradients_pass() -> None:
    x = _input(2).double()[..., :4, :5].requires_grad_()
    for layer in (nn.MaxPool2d(3, 2, "same"), nn.AvgPool2d(3, 2, [(0, 1), (1, 0)], count_include_pad=False)):
        assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize("padding", [1, "same", ((0, 1), (1, 0))])
def test_compiled_traced_and_pickled(padding: Any) -> None:
    x = _input(2)
    for layer in (nn.MaxPool2d(3, 2, padding), nn.AvgPool2d(3, 2, padding)):
        expected = layer(x)
        assert_same_bits(torch.compile(layer, backend="eager")(x), expected)
        assert_same_bits(torch.jit.trace(layer, x)(x), expected)
        assert_same_bits(pickle.loads(pickle.dumps(layer))(x), expected)
        assert ConvSpec.of(layer).stride == (2, 2)


@_ND
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_bad_arguments_get_our_sentences_in_torchs_families(nd: int, mode: str) -> None:
    layer, pool = getattr(nn, f"{mode.title()}Pool{nd}d"), getattr(functional, f"{mode}_pool{nd}d")
    x = _input(nd)
    half = r"'padding' must be at most half the window on every axis, .*legal: at most"
    with pytest.raises(ArgumentError, match=half):
        layer(2, padding=2)
    with pytest.raises(ShapeError, match=half):
        pool(x, 2, padding=2)
    with pytest.raises(ShapeError, match=half):
        pool(x, 2, padding=[(0, 2)] * nd)
    with pytest.raises(ShapeError, match=r"'input_size' must be large enough .*legal: 10 or more"):
        layer(10)(x)
    with pytest.raises(ShapeError, match=r"'input' must be .*-d \(unbatched\)"):
        layer(2, padding="same")(x[None, None])
    with pytest.raises(ArgumentError, match="'padding' must be one of its names: got padding='full'"):
        layer(2, padding="full")
    with pytest.raises(OutstrideError, match="'kernel_size' must be at least 1"):
        layer(0)
    with pytest.raises(RuntimeError):
        pool(x, 0)
    with pytest.raises(OutstrideError, match="'ceil_mode' has no other meaning"):
        layer(2, padding="same", ceil_mode=True)


def test_a_window_of_padding_alone_is_refused() -> None:
    with pytest.raises(ShapeError, match="'dilation' must leave every window an element"):
        functional.max_pool1d(torch.zeros(1, 1, 1), 2, 1, "same", dilation=2)
    with pytest.raises(ShapeError, match="'dilation' must leave every window an element"):
        functional.max_pool1d(torch.zeros(1, 1, 1), 2, 1, [(2, 2)], dilation=4)
