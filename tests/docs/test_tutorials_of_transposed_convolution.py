"""What the tutorials print of transposed convolutions, from the engine."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from outstride import convert, functional, nn, reference
from tests.docs.tutorial_layers import K2, STAMP, X3, drawn, flat, holding
from tests.tolerance import assert_differ, assert_same_bits


def test_every_element_stamps_the_kernel() -> None:
    expected = [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
    assert reference.trans_conv(STAMP[0, 0].numpy(), STAMP[0, 0].numpy()).tolist() == expected
    assert flat(functional.conv_transpose2d(STAMP, STAMP)) == expected


def test_the_layer_on_four_axes() -> None:
    layer = holding(nn.ConvTranspose2d(1, 1, kernel_size=2, bias=False), STAMP)
    assert layer(STAMP).tolist() == [[[[0, 0, 1], [0, 4, 6], [4, 12, 9]]]]
    # A listing with padding=1 is often printed beside this result; that gives another.
    stray = holding(nn.ConvTranspose2d(1, 1, kernel_size=2, padding=1, bias=False), STAMP)
    assert stray(STAMP).tolist() == [[[[4]]]]


def test_padding_cuts_off() -> None:
    assert functional.conv_transpose2d(STAMP, STAMP, padding=1).tolist() == [[[[4]]]]
    whole = functional.conv_transpose2d(X3, STAMP)
    assert_same_bits(functional.conv_transpose2d(X3, STAMP, padding=1), whole[..., 1:-1, 1:-1])


def test_the_stride_is_that_of_the_output() -> None:
    layer = holding(nn.ConvTranspose2d(1, 1, kernel_size=2, stride=2, bias=False), STAMP)
    assert flat(layer(STAMP)) == [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]]


def test_channels_and_the_way_back_to_a_size() -> None:
    down = nn.Conv2d(10, 20, kernel_size=5, padding=2, stride=3)
    up = nn.ConvTranspose2d(20, 10, kernel_size=5, padding=2, stride=3)
    restored = []
    for size in range(13, 23):
        x = torch.rand(1, 10, size, size)
        y = down(x)
        assert y.shape[1] == 20
        if up(y).shape == x.shape:
            restored.append(size)
        # What is lost in rounding down, output_size says.
        assert up(y, output_size=(size, size)).shape == x.shape
    assert restored == [13, 16, 19, 22]
    assert {size % 3 for size in restored} == {1}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 1}, [1, 3, 6, 6, 5, 3]),
        ({"stride": 2}, [1, 2, 4, 2, 4, 2, 4, 2, 3]),
        ({"dilation": 2}, [1, 1, 3, 3, 5, 5, 3, 3]),
        ({"padding": 1}, [3, 6, 6, 5]),
    ],
    ids=str,
)
def test_one_axis(options: dict[str, Any], expected: list[int]) -> None:
    layer = holding(nn.ConvTranspose1d(1, 1, 3, bias=False, **options), torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert flat(layer(torch.ones(1, 1, 4))) == expected


@pytest.mark.parametrize(
    ("i", "k", "s", "p", "d", "e"),
    [(4, 3, 1, 0, 1, 0), (4, 3, 2, 1, 1, 1), (7, 5, 3, 2, 2, 2), (1, 1, 4, 0, 1, 3), (9, 4, 2, 1, 1, 0)],
)
def test_size(i: int, k: int, s: int, p: int, d: int, e: int) -> None:
    layer = nn.ConvTranspose2d(1, 1, k, s, (p, 0), e, dilation=d)
    sizes = tuple((i - 1) * s - 2 * pad + d * (k - 1) + e + 1 for pad in (p, 0))
    assert layer(torch.rand(1, 1, i, i)).shape[2:] == sizes
    assert nn.ConvTranspose1d(1, 1, k, s)(torch.rand(1, 1, i)).shape[2:] == ((i - 1) * s + k,)


def test_output_padding_uncovers_and_does_not_fill_with_zeros() -> None:
    x, w = torch.ones(1, 1, 2), torch.tensor([[[1.0, 2.0, 3.0]]])
    assert flat(functional.conv_transpose1d(x, w, stride=2)) == [1, 2, 4, 2, 3]
    assert flat(functional.conv_transpose1d(x, w, stride=2, padding=1)) == [2, 4, 2]
    assert flat(functional.conv_transpose1d(x, w, stride=2, padding=1, output_padding=1)) == [2, 4, 2, 3]
    # Beyond the last stamp stands the bias.
    beyond = functional.conv_transpose1d(x, w, torch.tensor([7.0]), stride=2, output_padding=1)
    assert flat(beyond) == [8, 9, 11, 9, 10, 7]


@pytest.mark.parametrize(
    ("stride", "dilation", "legal"), [(1, 1, "0"), (2, 1, "0 or 1"), (1, 3, "0 to 2"), (3, 2, "0 to 2")]
)
def test_a_refused_output_padding_is_told_the_legal_ones(stride: int, dilation: int, legal: str) -> None:
    most = max(stride, dilation)
    nn.ConvTranspose2d(1, 1, 3, stride, output_padding=most - 1, dilation=dilation)
    with pytest.raises(ValueError, match=f"'output_padding' must be smaller than .*; legal: {legal}$"):
        nn.ConvTranspose2d(1, 1, 3, stride, output_padding=most, dilation=dilation)


def test_an_output_of_nothing_is_an_error_on_every_path() -> None:
    layer = nn.ConvTranspose2d(1, 1, 2, padding=1)
    x = torch.rand(1, 1, 1, 1)
    said = "'padding' must leave an output of at least 1: got output size 0"
    with pytest.raises(RuntimeError, match=said):
        layer(x)
    with pytest.raises(RuntimeError, match=said):
        layer.to("meta")(x.to("meta"))
    layer = nn.ConvTranspose2d(1, 1, 2, padding=1)
    with pytest.raises(RuntimeError, match=said):
        torch.jit.trace(layer, x)
    with pytest.raises(Exception, match=said):
        torch.export.export(layer, (x,))
    with pytest.raises(Exception, match=said):
        torch.compile(layer, backend="eager")(x)
    with pytest.raises(RuntimeError, match=said):
        torch.func.vmap(layer)(x[None])


def test_every_parameter_of_conv_transpose2d() -> None:
    layer = nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, (1, 2))
    stock = torch.nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, (1, 2))
    for number, parameter in enumerate(stock.parameters()):
        parameter.data = drawn(*parameter.shape, seed=number)
    layer.load_state_dict(stock.state_dict())
    x = drawn(2, 4, 5, 6, seed=8)
    assert_same_bits(layer(x), stock(x).contiguous())
    assert repr(layer) == repr(stock)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_padding_mode_is_the_adjoint_of_the_convolution_with_that_mode(mode: str) -> None:
    # Other layers take "reflect"; torch allows zeros alone.
    with pytest.raises(ValueError, match='Only "zeros" padding mode is supported'):
        torch.nn.ConvTranspose2d(1, 1, 3, padding=1, padding_mode=cast(Any, mode))
    w = drawn(3, 2, 5, 5)
    x, y = drawn(1, 2, 8, 9, seed=1), drawn(1, 3, 8, 9, seed=2)
    forward = functional.conv2d(x, w, padding=2, padding_mode=mode)
    back = functional.conv_transpose2d(y, w, padding=2, padding_mode=mode)
    assert (forward * y).sum() == (x * back).sum()
    layer = holding(nn.ConvTranspose2d(3, 2, 5, padding=2, padding_mode=mode), w)
    assert_same_bits(layer(y), back)


def test_a_convolution_is_a_sparse_matrix() -> None:
    K = np.array([[1, 2], [3, 4]])
    W = reference.kernel2matrix(K, (3, 3))
    assert W.shape == (4, 9)
    x, w = X3, torch.from_numpy(K).float().view(1, 1, 2, 2)
    assert (W @ x.numpy().ravel()).tolist() == flat(functional.conv2d(x, w).flatten()) == [27, 37, 57, 67]
    Y = functional.conv2d(x, w)
    back = functional.conv_transpose2d(Y, w)
    assert (W.T @ Y.numpy().ravel()).tolist() == flat(back.flatten())
    assert back[0, 0].tolist() == reference.trans_conv(Y[0, 0].numpy(), K).tolist()
    assert reference.kernel2matrix(np.ones((3, 3)), (4, 4)).shape == (4, 16)


@pytest.mark.parametrize(("p", "s"), [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (1, 3)])
def test_a_transposed_convolution_is_an_ordinary_one(p: int, s: int) -> None:
    k = 3
    layer = holding(nn.ConvTranspose2d(2, 3, k, stride=s, padding=p), drawn(2, 3, k, k))
    x = drawn(1, 2, 4, 5, seed=1)
    # By hand: zeros between the elements, a border of k - 1 - p, the kernel turned round, channels swapped.
    spread = torch.zeros(1, 2, 3 * s + 1, 4 * s + 1)
    spread[..., ::s, ::s] = x
    turned = layer.weight.flip(2, 3).transpose(0, 1)
    by_hand = functional.conv2d(F.pad(spread, [k - 1 - p] * 4), turned)
    assert flat(layer(x)) == flat(by_hand) == flat(convert.to_conv(layer)(x))


def test_it_is_not_the_inverse() -> None:
    w = K2
    y = functional.conv2d(X3, w)
    back = functional.conv_transpose2d(y, w)
    assert back.shape == X3.shape
    assert flat(back) == [[0, 19, 25], [38, 144, 118], [74, 197, 129]]
    assert_differ(back, X3)
    # Nothing could be: 4 numbers do not hold 9, and W^T W is no multiple of the identity.
    W = reference.kernel2matrix(w[0, 0].numpy(), (3, 3))
    assert np.linalg.matrix_rank(W) == 4
    gram = W.T @ W
    assert np.abs(gram - np.diag(np.diag(gram))).max() > 0
