"""The figures that the tutorials give, shown by the definition and the sizes, in their order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import geometry, reference
from outstride.errors import ArgumentError, ShapeError
from outstride.layer.spec import ConvSpec
from tests.tolerance import assert_equal_values

X3 = np.arange(9).reshape(3, 3)
K2 = np.arange(4).reshape(2, 2)
STAMP = np.array([[0, 1], [2, 3]])


def flat(result: Any) -> Any:
    """A result's numbers as plain lists, without axes of one element."""
    return np.asarray(result).squeeze().tolist()


def transposed(X: Any, K: Any, **options: Any) -> Any:
    X, K = np.asarray(X), np.asarray(K)
    return reference.conv_transpose(X[None, None], K[None, None], **options)[0, 0].tolist()


def test_cross_correlation_in_two_loops() -> None:
    assert reference.corr2d(X3, K2).tolist() == [[19, 25], [37, 43]]
    assert reference.corr2d(X3, [[1, 2], [3, 4]]).tolist() == [[27, 37], [57, 67]]


def test_a_kernel_over_d_axes_slides_over_d_axes() -> None:
    x = np.arange(64).reshape(1, 1, 4, 4, 4)
    assert reference.conv(x[..., 0, 0, :], np.ones((1, 1, 2), int)).shape == (1, 1, 3)
    assert reference.conv(x[..., 0, :, :], np.ones((1, 1, 2, 2), int)).shape == (1, 1, 3, 3)
    assert flat(reference.conv(x, np.ones((1, 1, 4, 4, 4), int))) == 64 * 63 // 2


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("Conv2d(1, 1, 3, padding=1)", (8, 8), (8, 8)),
        ("Conv2d(1, 1, (5, 3), padding=(2, 1))", (8, 8), (8, 8)),
        ("Conv2d(1, 1, 3, padding=1, stride=2)", (8, 8), (4, 4)),
        ("Conv2d(1, 1, (3, 5), padding=(0, 1), stride=(3, 4))", (8, 8), (2, 2)),
        ("Conv2d(3, 64, 3, 1, 1)", (32, 32), (32, 32)),
        ("Conv2d(1, 1, 3, dilation=2)", (8, 8), (4, 4)),
    ],
)
def test_output_size(text: str, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    spec = ConvSpec.parse(text)
    assert geometry.output_size(spec, size) == expected
    (i, *_), (k, *_), (s, *_), (d, *_) = size, spec.kernel_size, spec.stride, spec.dilation
    assert spec.padding != "same"
    assert expected[0] == (i + 2 * spec.padding[0][0] - d * (k - 1) - 1) // s + 1


def test_leaving_dilation_out_gives_another_size() -> None:
    dilated = ConvSpec.parse("Conv1d(1, 1, 3, dilation=2)")
    without = (8 - 3) // 1 + 1
    assert geometry.output_size(dilated, 8) == (4,) != (without,)


def test_a_one_by_one_convolution_is_a_matrix_product_over_channels() -> None:
    x = np.arange(27).reshape(1, 3, 3, 3)
    w = np.arange(6).reshape(2, 3, 1, 1)
    product = (w[:, :, 0, 0] @ x.reshape(3, 9)).reshape(1, 2, 3, 3)
    assert_equal_values(reference.conv(x, w), product)
    by_channel = sum(reference.corr2d(x[0, c], w[1, c]) for c in range(3))
    assert_equal_values(reference.conv(x, w)[0, 1], by_channel)


def test_pooling_in_loops() -> None:
    assert reference.pool2d(X3, (2, 2)).tolist() == [[4, 5], [7, 8]]
    assert reference.pool2d(X3, (2, 2), "avg").tolist() == [[2, 3], [5, 6]]


def test_pooling_layers_step_by_their_window_and_treat_each_channel_by_itself() -> None:
    X = np.arange(16).reshape(1, 1, 4, 4)
    assert flat(reference.pool(X, 3)) == 10
    assert flat(reference.pool(X, 3, padding=1, stride=2)) == [[5, 7], [13, 15]]
    assert flat(reference.pool(X, (2, 3), stride=(2, 3), padding=(0, 1))) == [[5, 7], [13, 15]]
    both = reference.pool(np.concatenate([X, X + 1], axis=1), 3, padding=1, stride=2)
    assert flat(both) == [[[5, 7], [13, 15]], [[6, 8], [14, 16]]]


def test_more_padding_than_half_the_window_is_refused_and_explained() -> None:
    reason = r"at most half the window .*\(2, 1\) with kernel_size=\(2, 3\), .*; legal: at most \(1, 1\)"
    with pytest.raises(ArgumentError, match=reason):
        ConvSpec.parse("MaxPool2d((2, 3), padding=(2, 1))")
    with pytest.raises(RuntimeError, match="half of effective kernel size"):
        nn.MaxPool2d((2, 3), padding=(2, 1))(torch.zeros(1, 1, 4, 4))


def test_every_input_element_stamps_the_kernel() -> None:
    assert reference.trans_conv(STAMP, STAMP).tolist() == [[0, 0, 1], [0, 4, 6], [4, 12, 9]]


def test_four_axes_give_the_same() -> None:
    assert transposed(STAMP, STAMP) == reference.trans_conv(STAMP, STAMP).tolist()


def test_padding_removes_the_first_and_last_rows_and_columns() -> None:
    assert transposed(STAMP, STAMP, padding=1) == [[4]]
    whole = transposed(np.arange(9).reshape(3, 3), STAMP)
    assert transposed(np.arange(9).reshape(3, 3), STAMP, padding=1) == [row[1:-1] for row in whole[1:-1]]


def test_the_stride_is_that_of_the_output() -> None:
    assert transposed(STAMP, STAMP, stride=2) == [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]]


def test_the_layer_with_swapped_channels_restores_the_shape_where_the_stride_divides() -> None:
    down = ConvSpec.parse("Conv2d(10, 20, 5, padding=2, stride=3)")
    up = ConvSpec.parse("ConvTranspose2d(20, 10, 5, padding=2, stride=3)")
    assert geometry.output_size(up, geometry.output_size(down, (16, 16))) == (16, 16)
    back = {i: geometry.output_size(up, geometry.output_size(down, i))[0] for i in range(13, 22)}
    assert {i for i, o in back.items() if i == o} == {i for i in back if i % 3 == 1}
    assert geometry.input_sizes(down, 6)[0] == range(16, 19)
    for size in (16, 17, 18):
        shaped = geometry.resolve(up, 6, size)
        assert shaped.output_padding == (size - 16, size - 16)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 3, 6, 6, 5, 3]),
        ({"stride": 2}, [1, 2, 4, 2, 4, 2, 4, 2, 3]),
        ({"dilation": 2}, [1, 1, 3, 3, 5, 5, 3, 3]),
        ({"padding": 1}, [3, 6, 6, 5]),
    ],
)
def test_one_axis(options: dict[str, int], expected: list[int]) -> None:
    result = reference.conv_transpose(np.ones((1, 1, 4), int), [[[1, 2, 3]]], **options)  # type: ignore[arg-type]
    assert result.tolist() == [[expected]]


@pytest.mark.parametrize(
    ("i", "k", "s", "p", "d", "op"),
    [(4, 3, 1, 0, 1, 0), (4, 3, 2, 1, 1, 1), (7, 5, 3, 2, 2, 2), (1, 1, 4, 0, 1, 3)],
)
def test_size_of_a_transposed_convolution(i: int, k: int, s: int, p: int, d: int, op: int) -> None:
    spec = ConvSpec("conv_transpose", (k,), s, p, d, op)
    assert geometry.output_size(spec, i) == ((i - 1) * s - 2 * p + d * (k - 1) + op + 1,)
    simple = ConvSpec("conv_transpose", (k,), s)
    assert geometry.output_size(simple, i) == ((i - 1) * s + k,)


def test_output_padding_uncovers_the_high_side_and_adds_no_zeros() -> None:
    one = np.ones((1, 1, 2), int)
    whole = flat(reference.conv_transpose(one, [[[1, 2, 3]]], stride=2))
    cut = flat(reference.conv_transpose(one, [[[1, 2, 3]]], stride=2, padding=1))
    more = flat(reference.conv_transpose(one, [[[1, 2, 3]]], stride=2, padding=1, output_padding=1))
    assert (whole, cut, more) == ([1, 2, 4, 2, 3], [2, 4, 2], [2, 4, 2, 3])
    beyond = flat(reference.conv_transpose(one, [[[1, 2, 3]]], [7], stride=2, output_padding=1))
    assert beyond == [8, 9, 11, 9, 10, 7]


def test_a_refused_output_padding_is_told_the_legal_ones() -> None:
    with pytest.raises(
        ArgumentError, match=r"got output_padding=\(2,\) with stride=\(2,\), .*legal: 0 or 1$"
    ):
        ConvSpec("conv_transpose", (3,), stride=2, output_padding=2)
    assert list(geometry.legal_output_padding(ConvSpec("conv_transpose", (3,), stride=2))[0]) == [0, 1]


def test_an_output_of_nothing_is_an_error() -> None:
    spec = ConvSpec.parse("ConvTranspose2d(1, 1, 2, padding=(0, 1))")
    with pytest.raises(ShapeError, match=r"got 1 on axis 1 .*\(an output of 0\); legal: 2 or more"):
        geometry.output_size(spec, (1, 1))
    with pytest.raises(ShapeError, match="an output of 0"):
        reference.conv_transpose(np.ones((1, 1, 1, 1)), np.ones((1, 1, 2, 2)), padding=(0, 1))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_padding_mode_on_a_transposed_layer_is_the_adjoint(mode: str) -> None:
    x, y = np.arange(1, 8)[None, None], np.arange(3, 10)[None, None] ** 2
    w = np.array([[[1, 20, 300, 4000, 50000]]])
    forward = reference.conv(x, w, padding=2, padding_mode=mode)
    back = reference.conv_transpose(y, w, padding=2, padding_mode=mode)
    assert (forward * y).sum() == (x * back).sum()
    assert (back != reference.conv_transpose(y, w, padding=2)).any()


def test_a_convolution_is_a_sparse_matrix() -> None:
    K = np.array([[1, 2], [3, 4]])
    W = reference.kernel2matrix(K, (3, 3))
    assert W.shape == (4, 9)
    assert np.count_nonzero(W) == 16
    assert (W @ X3.ravel()).tolist() == [27, 37, 57, 67]
    Y = reference.corr2d(X3, K)
    assert reference.trans_conv(Y, K).ravel().tolist() == (W.T @ Y.ravel()).tolist()
    assert reference.kernel2matrix(np.ones((3, 3)), (4, 4)).shape == (4, 16)


@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("p", [0, 1, 2])
@pytest.mark.parametrize("g", [1, 2])
def test_a_transposed_convolution_as_an_ordinary_one(s: int, d: int, p: int, g: int) -> None:
    """Zeros between the elements, a border of d * (k - 1) - p, the kernel flipped, the channels swapped."""
    k, op = 3, max(s, d) - 1
    y = np.arange(1, 21).reshape(1, 4, 5)
    w = np.arange(1, 4 * 3 * k + 1).reshape(4, 3, k)
    spread = np.zeros((1, 4, (5 - 1) * s + 1), int)
    spread[..., ::s] = y
    border = d * (k - 1) - p
    padded = np.pad(spread, ((0, 0), (0, 0), (border, border + op)))
    swapped = w.reshape(g, 4 // g, 3, k).swapaxes(1, 2).reshape(g * 3, 4 // g, k)[..., ::-1]
    ordinary = reference.conv(padded, swapped, dilation=d, groups=g)
    direct = reference.conv_transpose(y, w, stride=s, padding=p, output_padding=op, groups=g, dilation=d)
    assert direct.tolist() == ordinary.tolist()


def test_it_restores_the_size_and_not_the_values() -> None:
    Y = reference.corr2d(X3, K2)
    back = reference.trans_conv(Y, K2)
    assert back.shape == X3.shape
    assert back.tolist() == [[0, 19, 25], [38, 144, 118], [74, 197, 129]]
    assert (back != X3).any()
