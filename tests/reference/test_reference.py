"""The loops against torch, SciPy and each other, in integers, so that every comparison is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from outstride import geometry, reference
from outstride.errors import ArgumentError, DTypeError, ShapeError
from outstride.layer.spec import ConvSpec
from tests.spec_strategies import conv_specs, pool_specs
from tests.tolerance import assert_equal_values, assert_within_roundings

CONV: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE: Any = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL: Any = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def integers(data: st.DataObject, *shape: int) -> np.ndarray[Any, Any]:
    """Small integers, so that float64 sums of products are exact."""
    seed = data.draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(-9, 10, shape)


def drawn_size(data: st.DataObject, spec: ConvSpec, most: int = 6) -> tuple[int, ...]:
    """A size that the layer accepts."""
    size = tuple(data.draw(st.integers(1, most)) for _ in range(spec.nd))
    try:
        geometry.output_size(spec, size)
    except ShapeError:
        assume(False)
    return size


def channels(spec: ConvSpec, data: st.DataObject) -> tuple[int, int]:
    return (spec.groups * data.draw(st.integers(1, 2)), spec.groups * data.draw(st.integers(1, 2)))


def to_torch(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.float64))


def bordered(x: Tensor, spec: ConvSpec, pads: Any) -> Tensor:
    """torch's own padding by explicit amounts in the layer's mode."""
    flat = [amount for pair in reversed(pads) for amount in pair]
    return F.pad(x, flat, mode="constant" if spec.padding_mode == "zeros" else spec.padding_mode)


def options(spec: ConvSpec) -> dict[str, Any]:
    return {
        "stride": spec.stride,
        "padding": spec.padding,
        "dilation": spec.dilation,
        "groups": spec.groups,
        "padding_mode": spec.padding_mode,
    }


@given(conv_specs(kinds=("conv",), most=3), st.data())
def test_conv_is_torchs_padding_and_convolution(spec: ConvSpec, data: st.DataObject) -> None:
    size = drawn_size(data, spec)
    c, o = channels(spec, data)
    x, w = integers(data, 2, c, *size), integers(data, o, c // spec.groups, *spec.kernel_size)
    bias = integers(data, o) if spec.bias else None
    padded = bordered(to_torch(x), spec, geometry.resolved_padding(spec, size))
    b = None if bias is None else to_torch(bias)
    expected = CONV[spec.nd](padded, to_torch(w), b, spec.stride, 0, spec.dilation, spec.groups)
    result = reference.conv(x, w, bias, **options(spec))
    assert result.dtype == np.int64
    assert_equal_values(result, expected)


@given(conv_specs(kinds=("conv_transpose",), most=3, torchs=True), st.data())
def test_conv_transpose_is_torchs(spec: ConvSpec, data: st.DataObject) -> None:
    size = drawn_size(data, spec)
    c, o = channels(spec, data)
    y, w = integers(data, 2, o, *size), integers(data, o, c // spec.groups, *spec.kernel_size)
    bias = integers(data, c)
    assert spec.padding != "same"
    padding, op = [low for low, _ in spec.padding], spec.output_padding
    expected = CONV_TRANSPOSE[spec.nd](
        *(to_torch(y), to_torch(w), to_torch(bias), spec.stride, padding, op, spec.groups, spec.dilation)
    )
    assert_equal_values(reference.conv_transpose(y, w, bias, output_padding=op, **options(spec)), expected)


@given(conv_specs(kinds=("conv_transpose",), most=3), st.data())
def test_conv_transpose_is_the_gradient_of_torchs_padding_and_convolution(
    spec: ConvSpec, data: st.DataObject
) -> None:
    """Every padding, "same" and every mode: torch's autograd transposes padding and convolution by itself."""
    size = drawn_size(data, spec)
    out = geometry.output_size(spec, size)
    c, o = channels(spec, data)
    y, w = integers(data, 2, o, *size), integers(data, o, c // spec.groups, *spec.kernel_size)
    numbers = geometry.resolve(spec, size)
    x = torch.zeros(2, c, *out, dtype=torch.float64, requires_grad=True)
    forward = CONV[spec.nd](
        *(bordered(x, spec, numbers.padding), to_torch(w), None, spec.stride, 0, spec.dilation, spec.groups)
    )
    # Where output_padding exceeds the stride the convolution has outputs beyond the layer's input.
    inside = (..., *map(slice, size))
    (expected,) = torch.autograd.grad(forward[inside], x, to_torch(y))
    assert_equal_values(
        reference.conv_transpose(y, w, output_padding=spec.output_padding, **options(spec)), expected
    )


@given(conv_specs(kinds=("conv",), most=3), st.data())
def test_the_three_contractions_leave_one_argument_out_of_one_form(
    spec: ConvSpec, data: st.DataObject
) -> None:
    """<conv(x, w), y> = <x, conv_transpose(y, w)> = <w, conv_weight(x, y)>, padding mode included."""
    size = drawn_size(data, spec)
    out = geometry.output_size(spec, size)
    c, o = channels(spec, data)
    x, w = integers(data, 2, c, *size), integers(data, o, c // spec.groups, *spec.kernel_size)
    y = integers(data, 2, o, *out)
    numbers = options(spec) | {"padding": geometry.resolved_padding(spec, size)}
    form = (reference.conv(x, w, **options(spec)) * y).sum()
    assert (x * reference.conv_transpose(y, w, output_size=size, **numbers)).sum() == form
    assert (w * reference.conv_weight(x, y, spec.kernel_size, **options(spec))).sum() == form


@given(conv_specs(kinds=("conv",), most=3, torchs=True), st.data())
def test_conv_weight_is_torchs_gradient(spec: ConvSpec, data: st.DataObject) -> None:
    size = drawn_size(data, spec)
    c, o = channels(spec, data)
    x = integers(data, 2, c, *size)
    y = integers(data, 2, o, *geometry.output_size(spec, size))
    w = torch.zeros(o, c // spec.groups, *spec.kernel_size, dtype=torch.float64, requires_grad=True)
    padded = bordered(to_torch(x), spec, spec.padding)
    forward = CONV[spec.nd](padded, w, None, spec.stride, 0, spec.dilation, spec.groups)
    (expected,) = torch.autograd.grad(forward, w, to_torch(y))
    assert_equal_values(reference.conv_weight(x, y, spec.kernel_size, **options(spec)), expected)


@given(pool_specs(torchs=True), st.data())
@settings(max_examples=100)
def test_pool_is_torchs(spec: ConvSpec, data: st.DataObject) -> None:
    size = drawn_size(data, spec)
    x = integers(data, 2, 3, *size)
    assert spec.padding != "same"
    padding = [low for low, _ in spec.padding]
    common: dict[str, Any] = {"stride": spec.stride, "ceil_mode": spec.ceil_mode}
    if spec.kind == "max_pool":
        shared = common | {"dilation": spec.dilation}
        expected = MAX_POOL[spec.nd](to_torch(x), spec.kernel_size, padding=padding, **shared)
        seen = x.astype(float)
        assert_equal_values(
            reference.pool(seen, spec.kernel_size, padding=padding, mode="max", **shared), expected
        )
        return
    shared = common | {"count_include_pad": spec.count_include_pad}
    if spec.divisor_override:
        shared["divisor_override"] = spec.divisor_override
    try:
        expected = AVG_POOL[spec.nd](to_torch(x), spec.kernel_size, padding=padding, **shared)
    except RuntimeError as error:
        assume(
            "smaller than kernel size" not in str(error)
        )  # avg_pool3d alone wants the kernel to fit unpadded
        raise
    result = reference.pool(x, spec.kernel_size, padding=padding, mode="avg", **shared)
    # One division of two exact integers on both sides, but torch may multiply by a reciprocal instead.
    assert_within_roundings(result, expected.numpy(), 2, "torch may multiply by a reciprocal")


def test_a_window_that_sees_padding_only_has_no_maximum() -> None:
    x = np.full((1, 1, 1), 7.0)
    expected = F.max_pool1d(to_torch(x), 2, 1, padding=1, dilation=2)
    assert expected.tolist() == [[[-np.inf]]]
    assert_equal_values(reference.pool(x, 2, 1, 1, 2), expected)


def test_same_pooling_ignores_what_lies_outside() -> None:
    x = np.arange(5)[None, None]
    assert reference.pool(x, 2, 2, "same").tolist() == [[[1, 3, 4]]]
    assert reference.pool(-x, 2, 2, "same").tolist() == [[[0, -2, -4]]]
    inside = reference.pool(x, 2, 2, "same", mode="avg")
    assert inside.tolist() == [[[0.5, 2.5, 4.0]]]
    counted = reference.pool(x, 2, 2, "same", mode="avg", count_include_pad=True)
    assert counted.tolist() == [[[0.5, 2.5, 2.0]]]


@given(st.data())
def test_corr2d_and_trans_conv_are_scipys(data: st.DataObject) -> None:
    kh, kw = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    X = integers(data, kh + data.draw(st.integers(0, 4)), kw + data.draw(st.integers(0, 4)))
    K = integers(data, kh, kw)
    assert_equal_values(reference.corr2d(X, K), scipy.signal.correlate2d(X, K, "valid"))
    assert_equal_values(reference.trans_conv(X, K), scipy.signal.convolve2d(X, K, "full"))


@given(st.data())
def test_pool2d_is_numpys_windows(data: st.DataObject) -> None:
    kh, kw = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    X = integers(data, kh + data.draw(st.integers(0, 4)), kw + data.draw(st.integers(0, 4)))
    windows = np.lib.stride_tricks.sliding_window_view(X, (kh, kw))
    assert_equal_values(reference.pool2d(X, (kh, kw)), windows.max((-1, -2)))
    assert_equal_values(reference.pool2d(X, (kh, kw), "avg"), windows.sum((-1, -2)) / (kh * kw))


@given(conv_specs(kinds=("conv",), most=3), st.data())
def test_the_matrix_is_the_convolution_and_its_transpose_the_transposed_one(
    spec: ConvSpec, data: st.DataObject
) -> None:
    size = drawn_size(data, spec, 5)
    out = geometry.output_size(spec, size)
    K, x, y = integers(data, *spec.kernel_size), integers(data, *size), integers(data, *out)
    alike = {key: value for key, value in options(spec).items() if key != "groups"}
    W = reference.kernel2matrix(K, size, **alike)
    assert W.shape == (np.prod(out), np.prod(size))
    assert_equal_values((W @ x.ravel()).reshape(out), reference.conv(x[None], K[None, None], **alike)[0])
    alike["padding"] = geometry.resolved_padding(spec, size)
    back = reference.conv_transpose(y[None], K[None, None], output_size=size, **alike)[0]
    assert_equal_values((W.T @ y.ravel()).reshape(size), back)


@pytest.mark.parametrize("output_size", [13, 14, 15])
def test_an_output_size_says_what_the_stride_leaves_open(output_size: int) -> None:
    y, w = np.arange(1, 6)[None, None], np.array([[[1, 10, 100]]])
    result = reference.conv_transpose(y, w, stride=3, padding=1, output_size=output_size)
    assert result.shape == (1, 1, output_size)
    assert_equal_values(
        result, reference.conv_transpose(y, w, stride=3, padding=1, output_padding=output_size - 13)
    )


def test_output_padding_uncovers_more_of_the_same_output() -> None:
    y, w = [[[1, 2]]], [[[1, 1, 1, 1]]]
    assert reference.conv_transpose(y, w, [5], stride=2, padding=1).tolist() == [[[6, 8, 8, 7]]]
    more = reference.conv_transpose(y, w, [5], stride=2, padding=1, output_padding=1)
    assert more.tolist() == [[[6, 8, 8, 7, 7]]]
    beyond = reference.conv_transpose(y, w, [5], stride=2, output_padding=1)
    assert beyond.tolist() == [[[6, 6, 8, 8, 7, 7, 5]]]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [20, 30, 40]),
        ("replicate", [30, 30, 90]),
        ("reflect", [20, 90, 40]),
        ("circular", [70, 30, 50]),
    ],
)
def test_a_padding_mode_folds_the_border_back(mode: str, expected: list[int]) -> None:
    """The full scatter of 10, 20, 30, 40, 50 on a border of one: the first and the last are folded back."""
    result = reference.conv_transpose([[[10, 20, 30, 40, 50]]], [[[1]]], padding=1, padding_mode=mode)
    assert result.tolist() == [[expected]]


def test_a_batch_axis_may_be_left_out() -> None:
    x, w = np.arange(12).reshape(2, 6), np.arange(12).reshape(2, 2, 3)
    assert_equal_values(reference.conv(x, w), reference.conv(x[None], w)[0])
    assert_equal_values(
        reference.conv_transpose(x, w, [1, 2]), reference.conv_transpose(x[None], w, [1, 2])[0]
    )
    assert_equal_values(
        reference.conv_weight(x, x, (3,), padding=1), reference.conv_weight(x[None], x[None], 3, padding=1)
    )


@pytest.mark.parametrize("batch", [0, 1])
def test_an_empty_batch_gives_an_empty_batch(batch: int) -> None:
    x, w = np.zeros((batch, 4, 6, 6)), np.ones((6, 2, 3, 3))
    assert reference.conv(x, w, groups=2).shape == (batch, 6, 4, 4)
    assert reference.conv_transpose(np.zeros((batch, 6, 4, 4)), w, groups=2).shape == (batch, 4, 6, 6)
    assert not reference.conv_weight(x, np.zeros((batch, 6, 4, 4)), 3, groups=2).any()
    assert reference.conv(np.zeros((1, 0, 6, 6)), np.zeros((6, 0, 3, 3))).shape == (1, 6, 4, 4)
    assert reference.conv_weight(np.zeros((1, 0, 6)), np.zeros((1, 4, 4)), 3, groups=2).shape == (4, 0, 3)


@pytest.mark.parametrize(
    ("dtype", "computed"),
    [
        (np.float16, np.float64),
        (np.float32, np.float64),
        (np.float64, np.float64),
        (np.longdouble, np.longdouble),
        (np.complex64, np.complex128),
        (np.int8, np.int64),
        (np.uint8, np.int64),
        (np.bool_, np.int64),
        (np.uint64, np.object_),
        (object, np.object_),
    ],
)
def test_numbers_are_computed_wide(dtype: Any, computed: Any) -> None:
    x, w = np.ones((1, 2, 5), dtype), np.ones((2, 2, 3), dtype)
    for result in (
        reference.conv(x, w),
        reference.conv_transpose(x, w),
        reference.conv_weight(x, x[..., :3], 3),
        reference.corr2d(x[0], w[0]),
        reference.trans_conv(x[0], w[0]),
        reference.kernel2matrix(w[0, 0], 5),
    ):
        assert result.dtype == computed


def test_integers_of_any_length_stay_exact() -> None:
    big = 10**40
    x, w = np.array([[[big, 1, big]]], object), np.array([[[big, -1]]], object)
    assert reference.conv(x, w).tolist() == [[[big * big - 1, big - big]]]
    assert reference.conv_transpose(x, w).tolist() == [[[big * big, 0, big * big - 1, -big]]]
    assert reference.conv_weight(x, x[..., :2], 2).tolist() == [[[big * big + 1, 2 * big]]]
    assert reference.corr2d([[big, big]], [[big, 1]]).tolist() == [[big * big + big]]
    assert reference.pool(x, 3).tolist() == [[[big]]]
    assert reference.conv(np.full((1, 1, 1), 127, np.int8), np.full((1, 1, 1), 127, np.int8)).tolist() == [
        [[16129]]
    ]


def test_a_nan_goes_where_it_is_read_and_nowhere_else() -> None:
    x = np.zeros((1, 1, 6))
    x[..., 3] = np.nan
    assert np.isnan(reference.conv(x, np.zeros((1, 1, 2))))[0, 0].tolist() == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert np.isnan(reference.conv_transpose(x, np.zeros((1, 1, 2))))[0, 0].tolist() == [
        *[False] * 3,
        *[True] * 2,
        *[False] * 2,
    ]
    assert np.isnan(reference.pool(x, 2))[0, 0].tolist() == [False, True, False]


UNKNOWN: Any = "mean"
X, W = np.zeros((1, 4, 6)), np.zeros((6, 2, 3))
MISUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: reference.conv(X, W), ShapeError, r"'x' must have the channels .*got 4; legal: 2"),
    (
        lambda: reference.conv(X, W, groups=3),
        ShapeError,
        r"'x' must have channels divisible by 'groups': got 4",
    ),
    (
        lambda: reference.conv(X[:, :3], W[:5, :1], groups=3),
        ShapeError,
        r"'w' must have a first axis divisible",
    ),
    (lambda: reference.conv(X[0, 0], W), ShapeError, r"'x' must have 3 axes, or 2 without a batch"),
    (lambda: reference.conv(X, W, np.zeros(5), groups=2), ShapeError, r"'bias' .*got \(5,\); legal: \(6,\)"),
    (lambda: reference.conv(X[..., :2], W, groups=2), ShapeError, r"got 2 on axis 0 .*legal: 3 or more"),
    (lambda: reference.conv(X, W, stride=0), ArgumentError, r"'stride' must be at least 1"),
    (lambda: reference.conv(X, W, groups=0), ArgumentError, r"'groups' must be at least 1"),
    (lambda: reference.conv(X, W[..., :0]), ArgumentError, r"'kernel_size' must be at least 1"),
    (lambda: reference.conv("text", W), DTypeError, r"'x' must hold numbers: got <U4"),
    (lambda: reference.conv_transpose(X, W), ShapeError, r"'y' must have the channels .*got 4; legal: 6"),
    (
        lambda: reference.conv_transpose(X, W[:4], output_padding=1),
        ArgumentError,
        r"'output_padding' must be smaller than 'stride' or 'dilation'",
    ),
    (
        lambda: reference.conv_transpose(X, W[:4], stride=2, output_size=15),
        ShapeError,
        r"got 15 on axis 0 .*; legal: 13 to 14",
    ),
    (
        lambda: reference.conv_transpose(X, W[:4], padding=4),
        ShapeError,
        r"an output of 0\); legal: 7 or more",
    ),
    (lambda: reference.conv_weight(X, np.zeros((2, 4, 4)), 3), ShapeError, r"'y' must have the batch of 'x'"),
    (
        lambda: reference.conv_weight(X, X, 3, padding_mode="reflect"),
        ShapeError,
        r"'y' must lie in the output of conv: got \(6,\); legal: \(4,\) or less",
    ),
    (lambda: reference.pool(X, 3, padding=2), ArgumentError, r"at most half the window"),
    (
        lambda: reference.pool(X, 3, mode=UNKNOWN),
        ArgumentError,
        r"'mode' .*got mode='mean'; legal: 'max', 'avg'",
    ),
    (lambda: reference.pool2d(X[0], (2, 2), UNKNOWN), ArgumentError, r"'mode' must be one of its names"),
    (lambda: reference.pool2d(X[0], (7, 2)), ShapeError, r"'X' must hold at least one window: got \(4, 6\)"),
    (lambda: reference.corr2d(X, X), ShapeError, r"'X' must be a matrix: got shape \(1, 4, 6\)"),
    (lambda: reference.corr2d(X[0], np.zeros((5, 1))), ShapeError, r"'X' must hold at least one window"),
    (lambda: reference.kernel2matrix(np.zeros(5), 4), ShapeError, r"got 4 on axis 0 .*legal: 5 or more"),
]


@pytest.mark.parametrize(("misuse", "error", "message"), MISUSED, ids=range(len(MISUSED)))
def test_arguments_that_do_not_fit_are_refused(misuse: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        misuse()
