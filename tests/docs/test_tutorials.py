"""Every row of the five tutorials, named after it, on our layers, with the figures that the tutorials print.

The definition itself is held to the same figures in test_mission_reference.py; here the engine is.
"""

from __future__ import annotations

import sysconfig
from math import floor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import outstride
from outstride import ConvSpec, artifacts, convert, functional, geometry, nn, reference
from outstride.errors import OutstrideError
from tests.docs.test_examples import script
from tests.tolerance import assert_same_bits

X3 = torch.arange(9.0).view(1, 1, 3, 3)
K2 = torch.arange(4.0).view(1, 1, 2, 2)
STAMP = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 1, 2, 2)


def flat(result: Tensor) -> Any:
    """A result's numbers as plain lists, without axes of one element."""
    return result.detach().squeeze().tolist()


def holding(layer: Any, weight: Tensor) -> Any:
    """The layer with that weight and without a bias."""
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Small integers, which float32 sums exactly."""
    return torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_a1_cross_correlation() -> None:
    assert flat(functional.conv2d(X3, K2)) == [[19, 25], [37, 43]]
    assert flat(functional.conv2d(X3, K2 + 1)) == [[27, 37], [57, 67]]
    assert reference.corr2d(X3[0, 0].numpy(), K2[0, 0].numpy()).tolist() == [[19, 25], [37, 43]]


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_a2_a_kernel_over_d_axes_slides_over_d_axes(nd: int) -> None:
    size = (5, 6, 7)[:nd]
    layer = holding(getattr(nn, f"Conv{nd}d")(1, 1, 3), torch.ones(1, 1, *[3] * nd))
    x = drawn(1, 1, *size)
    windows = x
    for axis in range(2, nd + 2):
        windows = windows.unfold(axis, 3, 1)
    assert layer(x).shape == (1, 1, *[n - 2 for n in size])
    assert flat(layer(x)) == flat(windows.flatten(nd + 2).sum(-1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": (1, 3)},
        {"padding": 1},
        {"padding": (2, 0)},
        {"padding": "same"},
        {"dilation": 2},
        {"dilation": (1, 3), "padding": (0, 3)},
        {"groups": 2},
        {"groups": 4},
        {"bias": False},
        {"padding": 2, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "replicate"},
        {"padding": 2, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_a3_every_parameter_of_conv2d(options: dict[str, Any]) -> None:
    stock = torch.nn.Conv2d(4, 8, 3, **options)
    for number, parameter in enumerate(stock.parameters()):
        parameter.data = drawn(*parameter.shape, seed=number)
    layer = nn.Conv2d(4, 8, 3, **options)
    layer.load_state_dict(stock.state_dict())
    x = drawn(2, 4, 9, 10, seed=9)
    assert_same_bits(layer(x), stock(x).contiguous())
    assert repr(layer) == repr(stock)


def test_a3_the_usual_layer() -> None:
    assert nn.Conv2d(3, 64, 3, 1, 1)(torch.randn(1, 3, 32, 32)).shape == (1, 64, 32, 32)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kernel_size": 3, "padding": 1}, (8, 8)),
        ({"kernel_size": (5, 3), "padding": (2, 1)}, (8, 8)),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, (4, 4)),
        ({"kernel_size": (3, 5), "padding": (0, 1), "stride": (3, 4)}, (2, 2)),
    ],
)
def test_a4_output_size(options: dict[str, Any], expected: tuple[int, int]) -> None:
    layer = nn.Conv2d(1, 1, **options)
    assert layer(torch.rand(1, 1, 8, 8)).shape[2:] == expected
    assert geometry.output_size(ConvSpec.of(layer), 8) == expected


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a4_the_formula_has_the_dilation_in_it(d: int) -> None:
    i, p, k, s = 15, 2, 3, 2
    out = nn.Conv1d(1, 1, k, stride=s, padding=p, dilation=d)(torch.rand(1, 1, i)).shape[-1]
    assert out == floor((i + 2 * p - d * (k - 1) - 1) / s) + 1
    # Without it, as tutorials 002 and 003 have it, the formula is right at dilation 1 alone.
    assert (out == floor((i + 2 * p - k) / s) + 1) == (d == 1)


def test_a5_channels() -> None:
    x, w = drawn(1, 3, 5, 6), drawn(2, 3, 2, 2, seed=1)
    by_hand = [
        sum(reference.corr2d(x[0, ic].numpy(), w[oc, ic].numpy()) for ic in range(3)) for oc in range(2)
    ]
    assert functional.conv2d(x, w)[0].tolist() == np.stack(by_hand).tolist()
    shared = drawn(4, 3, 1, 1, seed=2)
    product = (shared[:, :, 0, 0] @ x.view(3, 30)).view(1, 4, 5, 6)
    assert flat(functional.conv2d(x, shared)) == flat(product)


def test_a6_learning_a_kernel() -> None:
    X = torch.ones(1, 1, 6, 8)
    X[..., 2:6] = 0
    Y = torch.from_numpy(reference.corr2d(X[0, 0].numpy(), [[1.0, -1.0]])).float().view(1, 1, 6, 7)
    assert Y[0, 0, 0].tolist() == [0, 1, 0, 0, 0, -1, 0]
    finals = []
    for seed in range(20):
        torch.manual_seed(seed)
        layer, printed = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False), []
        for step in range(10):
            loss = ((layer(X) - Y) ** 2).sum()
            layer.zero_grad()
            loss.backward()
            weight, grad = layer.weight, layer.weight.grad
            assert grad is not None
            weight.data -= 3e-2 * grad
            if (step + 1) % 2 == 0:
                printed.append(loss.item())
        assert printed == sorted(printed, reverse=True)
        finals.append(layer.weight.detach().flatten())
    distances = torch.stack(finals) - torch.tensor([1.0, -1.0])
    assert distances.abs().max() < 0.25
    assert distances.abs().mean() < 0.06


def test_a7_layer_and_function_agree() -> None:
    layer = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    x = torch.randn(2, 3, 9, 9)
    assert_same_bits(layer(x), functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1))
    up = nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)
    assert_same_bits(up(x), functional.conv_transpose2d(x, up.weight, up.bias, stride=2, padding=1))


def test_a8_a_picture_of_the_kernels() -> None:
    layer = nn.Conv2d(3, 64, 11, stride=4)
    edge = torch.zeros(3, 11, 11)
    edge[0, :, :5], edge[0, :, 6:] = 1, -1
    with torch.no_grad():
        layer.weight[0] = edge
    picture = outstride.kernels(layer)
    assert (picture.shown, picture.total, picture.colour) == (64, 64, True)
    rows = (picture.pixels.shape[0] - 2) / (11 * 4 + 2)
    assert rows == 8
    first = picture.pixels[2:46:4, 2:46:4]
    # Red where the red channel is positive, its complement where it is negative, grey elsewhere.
    assert first[0, [0, 5, 10]].tolist() == [[255, 128, 128], [128, 128, 128], [0, 128, 128]]


def test_a9_pooling() -> None:
    assert reference.pool2d(X3[0, 0].numpy(), (2, 2)).tolist() == [[4, 5], [7, 8]]
    assert reference.pool2d(X3[0, 0].numpy(), (2, 2), "avg").tolist() == [[2, 3], [5, 6]]
    assert flat(nn.MaxPool2d(2, stride=1)(X3)) == [[4, 5], [7, 8]]
    assert flat(nn.AvgPool2d(2, stride=1)(X3)) == [[2, 3], [5, 6]]
    X4 = torch.arange(16.0).view(1, 1, 4, 4)
    assert nn.MaxPool2d(3)(X4).tolist() == [[[[10]]]]
    assert flat(nn.MaxPool2d(3, padding=1, stride=2)(X4)) == [[5, 7], [13, 15]]
    assert flat(nn.MaxPool2d((2, 3), stride=(2, 3), padding=(0, 1))(X4)) == [[5, 7], [13, 15]]
    both = torch.cat((X4, X4 + 1), dim=1)
    assert flat(nn.MaxPool2d(3, padding=1, stride=2)(both)) == [[[5, 7], [13, 15]], [[6, 8], [14, 16]]]


def test_a9_the_window_of_tutorial_004_is_refused_with_the_reason() -> None:
    said = (
        "'padding' must be at most half the window on every axis, or a window could see padding only: got "
        r"padding=\(2, 1\) with kernel_size=\(2, 3\), dilation=\(1, 1\); legal: at most \(1, 1\)"
    )
    for layer in (nn.MaxPool2d, nn.AvgPool2d):
        with pytest.raises(ValueError, match=said) as refusal:
            layer((2, 3), stride=(2, 3), padding=(2, 1))
        assert isinstance(refusal.value, OutstrideError)
    # What torch says of the same layer, and only once it is called.
    with pytest.raises(RuntimeError, match="pad should be at most half"):
        torch.nn.MaxPool2d((2, 3), stride=(2, 3), padding=(2, 1))(torch.zeros(1, 1, 4, 4))


def test_b1_every_element_stamps_the_kernel() -> None:
    expected = [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
    assert reference.trans_conv(STAMP[0, 0].numpy(), STAMP[0, 0].numpy()).tolist() == expected
    assert flat(functional.conv_transpose2d(STAMP, STAMP)) == expected


def test_b2_the_layer_on_four_axes() -> None:
    layer = holding(nn.ConvTranspose2d(1, 1, kernel_size=2, bias=False), STAMP)
    assert layer(STAMP).tolist() == [[[[0, 0, 1], [0, 4, 6], [4, 12, 9]]]]
    # Tutorial 000's first listing has padding=1 beside this result; that gives another.
    stray = holding(nn.ConvTranspose2d(1, 1, kernel_size=2, padding=1, bias=False), STAMP)
    assert stray(STAMP).tolist() == [[[[4]]]]


def test_b3_padding_cuts_off() -> None:
    assert functional.conv_transpose2d(STAMP, STAMP, padding=1).tolist() == [[[[4]]]]
    whole = functional.conv_transpose2d(X3, STAMP)
    assert_same_bits(functional.conv_transpose2d(X3, STAMP, padding=1), whole[..., 1:-1, 1:-1])


def test_b4_the_stride_is_that_of_the_output() -> None:
    layer = holding(nn.ConvTranspose2d(1, 1, kernel_size=2, stride=2, bias=False), STAMP)
    assert flat(layer(STAMP)) == [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]]


def test_b5_channels_and_the_way_back_to_a_size() -> None:
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
def test_b6_one_axis(options: dict[str, Any], expected: list[int]) -> None:
    layer = holding(nn.ConvTranspose1d(1, 1, 3, bias=False, **options), torch.tensor([[[1.0, 2.0, 3.0]]]))
    assert flat(layer(torch.ones(1, 1, 4))) == expected


@pytest.mark.parametrize(
    ("i", "k", "s", "p", "d", "e"),
    [(4, 3, 1, 0, 1, 0), (4, 3, 2, 1, 1, 1), (7, 5, 3, 2, 2, 2), (1, 1, 4, 0, 1, 3), (9, 4, 2, 1, 1, 0)],
)
def test_b7_size(i: int, k: int, s: int, p: int, d: int, e: int) -> None:
    layer = nn.ConvTranspose2d(1, 1, k, s, (p, 0), e, dilation=d)
    sizes = tuple((i - 1) * s - 2 * pad + d * (k - 1) + e + 1 for pad in (p, 0))
    assert layer(torch.rand(1, 1, i, i)).shape[2:] == sizes
    assert nn.ConvTranspose1d(1, 1, k, s)(torch.rand(1, 1, i)).shape[2:] == ((i - 1) * s + k,)


def test_b8_output_padding_uncovers_and_does_not_fill_with_zeros() -> None:
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
def test_b8_a_refused_output_padding_is_told_the_legal_ones(stride: int, dilation: int, legal: str) -> None:
    most = max(stride, dilation)
    nn.ConvTranspose2d(1, 1, 3, stride, output_padding=most - 1, dilation=dilation)
    with pytest.raises(ValueError, match=f"'output_padding' must be smaller than .*; legal: {legal}$"):
        nn.ConvTranspose2d(1, 1, 3, stride, output_padding=most, dilation=dilation)


def test_b9_an_output_of_nothing_is_an_error_on_every_path() -> None:
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


def test_b10_every_parameter_of_conv_transpose2d() -> None:
    layer = nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, (1, 2))
    stock = torch.nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, True, (1, 2))
    for number, parameter in enumerate(stock.parameters()):
        parameter.data = drawn(*parameter.shape, seed=number)
    layer.load_state_dict(stock.state_dict())
    x = drawn(2, 4, 5, 6, seed=8)
    assert_same_bits(layer(x), stock(x).contiguous())
    assert repr(layer) == repr(stock)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_b10_a_padding_mode_is_the_adjoint_of_the_convolution_with_that_mode(mode: str) -> None:
    # Tutorial 003 lists "reflection"; torch allows zeros alone.
    with pytest.raises(ValueError, match='Only "zeros" padding mode is supported'):
        torch.nn.ConvTranspose2d(1, 1, 3, padding=1, padding_mode=cast(Any, mode))
    w = drawn(3, 2, 5, 5)
    x, y = drawn(1, 2, 8, 9, seed=1), drawn(1, 3, 8, 9, seed=2)
    forward = functional.conv2d(x, w, padding=2, padding_mode=mode)
    back = functional.conv_transpose2d(y, w, padding=2, padding_mode=mode)
    assert (forward * y).sum() == (x * back).sum()
    layer = holding(nn.ConvTranspose2d(3, 2, 5, padding=2, padding_mode=mode), w)
    assert_same_bits(layer(y), back)


def test_b11_a_convolution_is_a_sparse_matrix() -> None:
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
def test_b12_a_transposed_convolution_is_an_ordinary_one(p: int, s: int) -> None:
    k = 3
    layer = holding(nn.ConvTranspose2d(2, 3, k, stride=s, padding=p), drawn(2, 3, k, k))
    x = drawn(1, 2, 4, 5, seed=1)
    # By hand: zeros between the elements, a border of k - 1 - p, the kernel turned round, channels swapped.
    spread = torch.zeros(1, 2, 3 * s + 1, 4 * s + 1)
    spread[..., ::s, ::s] = x
    turned = layer.weight.flip(2, 3).transpose(0, 1)
    by_hand = functional.conv2d(F.pad(spread, [k - 1 - p] * 4), turned)
    assert flat(layer(x)) == flat(by_hand) == flat(convert.to_conv(layer)(x))


def test_b13_it_is_not_the_inverse() -> None:
    w = K2
    y = functional.conv2d(X3, w)
    back = functional.conv_transpose2d(y, w)
    assert back.shape == X3.shape
    assert flat(back) == [[0, 19, 25], [38, 144, 118], [74, 197, 129]]
    assert not torch.equal(back, X3)
    # Nothing could be: 4 numbers do not hold 9, and W^T W is no multiple of the identity.
    W = reference.kernel2matrix(w[0, 0].numpy(), (3, 3))
    assert np.linalg.matrix_rank(W) == 4
    gram = W.T @ W
    assert np.abs(gram - np.diag(np.diag(gram))).max() > 0


def test_b14_many_layers_give_a_size_and_there_is_a_best() -> None:
    found = geometry.solve(16, 32)
    assert len(found) >= 10
    for solution in found:
        spec = solution.spec
        layer = nn.ConvTranspose2d(
            1, 1, cast(Any, spec.kernel_size), spec.stride, spec.padding, spec.output_padding,
            dilation=spec.dilation,
        )  # fmt: skip
        assert layer(torch.rand(1, 1, 16, 16)).shape[2:] == (32, 32)
    best = found[0].spec
    # It doubles every size, not this one alone, lies centred, and its stride divides its kernel.
    assert all(geometry.output_size(best, n) == (2 * n, 2 * n) for n in range(1, 40))
    assert best.stride == (2, 2)
    assert best.kernel_size[0] % 2 == 0
    assert best.output_padding == (0, 0)
    assert artifacts.overlap(best).counts.min() == artifacts.overlap(best).counts.max()
    # The tutorials' usual k=3 with output_padding has an uneven overlap, and so is not the first.
    usual = ConvSpec.parse("ConvTranspose2d(kernel_size=3, stride=2, padding=1, output_padding=1)")
    assert geometry.output_size(usual, 16) == (32, 32)
    assert artifacts.overlap(usual).counts.min() < artifacts.overlap(usual).counts.max()
    assert [solution.spec for solution in found].index(usual) > 0


def board(layer: Any, period: int) -> float:
    """How much of the layer's answer to a constant picture repeats with the period, 0 to 1.

    Measured without any tool: the root mean square over the phases of their means, less the mean, over the
    root mean square of all, in the middle of the picture, where no border is seen.
    """
    with torch.no_grad():
        out = layer(torch.ones(1, layer.in_channels, 24, 24))[0, :, 12:, 12:]
    out = out[..., : out.shape[-2] // 2 // period * period, : out.shape[-1] // 2 // period * period].double()
    cells = out.unflatten(1, (-1, period)).unflatten(3, (-1, period)).mean((1, 3))
    uneven = cells - cells.mean((1, 2), keepdim=True)
    return float(uneven.square().mean().sqrt() / cells.square().mean().sqrt())


def up(kernel: int, stride: int, padding: int = 0, weight: str = "ones") -> Any:
    """A layer as it is before training: all stamps alike, or as the layer is initialised."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 8, kernel, stride, padding, bias=False)
    return holding(layer, torch.ones_like(layer.weight)) if weight == "ones" else layer


def test_b15_the_checkerboard_comes_from_uneven_overlap() -> None:
    for kernel in range(1, 8):
        for stride in range(1, kernel + 1):
            uneven = board(up(kernel, stride), stride)
            assert (uneven < 1e-9) == (kernel % stride == 0), (kernel, stride)
    # Of four neighbours one is stamped once, two twice and one four times.
    assert board(up(3, 2), 2) == pytest.approx(np.std([1, 2, 2, 4]) / np.sqrt(np.mean([1, 4, 4, 16])))


def test_b15_the_cures_of_tutorial_003_do_not_cure() -> None:
    """A larger stride, a smaller kernel, more padding: measured, none is what helps."""
    # More padding cuts off the border and leaves the middle as it is.
    boards = [board(up(3, 2, padding), 2) for padding in (0, 1, 2)]
    assert max(boards) - min(boards) < 1e-9
    assert min(boards) > 0.3
    # A larger stride: even overlap becomes uneven, and uneven more uneven.
    assert board(up(4, 2), 2) < 1e-9 < 0.2 < board(up(4, 3), 3)
    assert board(up(5, 2), 2) < board(up(5, 3), 3) < board(up(5, 4), 4)
    # A smaller kernel: the same.
    assert board(up(4, 2), 2) < 1e-9 < 0.3 < board(up(3, 2), 2)
    assert board(up(7, 2), 2) < board(up(5, 2), 2) < board(up(3, 2), 2)


def test_b15_what_helps() -> None:
    # An even overlap is needed; with weights that differ it does not suffice, and these cures do.
    uncured = board(up(4, 2, 1, "drawn"), 2)
    assert uncured > 0.1
    assert board(artifacts.icnr_(up(4, 2, 1, "drawn")), 2) < 1e-6
    assert board(artifacts.equalize_(up(4, 2, 1, "drawn")), 2) < 1e-6
    assert board(artifacts.smooth(up(3, 2, 1, "drawn")), 2) < 1e-6
    resized = torch.nn.Sequential(torch.nn.UpsamplingNearest2d(scale_factor=2), nn.Conv2d(8, 8, 3, padding=1))
    resized.in_channels = 8  # type: ignore[assignment]
    assert board(resized, 2) < 1e-6
    # The library's own figures agree with what was measured here.
    layer = up(3, 2, 1, "drawn")
    found, told = board(layer, 2), artifacts.ripple(layer).value
    assert found > 0.1
    assert told == pytest.approx(found, rel=0.35)


def test_b16_an_encoder_decoder_with_transposed_convolutions_segments() -> None:
    example = script("segmentation")
    learned, unseen = example.scenes()
    x, labels = unseen.draw(2, 64, np.random.default_rng(0))
    assert x.shape == (2, 3, 64, 64)
    assert {int(c) for c in labels.unique()} <= set(range(11))
    for name, upsampler in example.UPSAMPLERS.items():
        model = example.EncoderDecoder(upsampler).eval()
        assert model(x).shape == (2, 11, 64, 64), name
    # The bilinear start is bilinear enlargement, away from the border, where torch's has no zeros beyond.
    start = example.bilinear_(nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1))
    enlarged = F.interpolate(x, scale_factor=2, mode="bilinear")
    assert (start(x) - enlarged)[..., 1:-1, 1:-1].abs().max() < 1e-5
    model, losses = example.train("transposed, bilinear start", learned, 8, 0, example.Training())
    assert len(losses) == 8
    assert sum(losses[-3:]) < sum(losses[:3])


@pytest.mark.slow
def test_b16_a_trained_network_finds_the_digits() -> None:
    example = script("segmentation")
    learned, unseen = example.scenes()
    x, labels = unseen.draw(12, 128, np.random.default_rng(1))
    name = "transposed, bilinear start"
    model, losses = example.train(name, learned, example.STEPS, 0, example.Training())
    told = example.judge(name, model, losses, x, labels)
    assert told.accuracy > float((labels == 0).float().mean()) + 0.05
    assert told.mean_iou > 0.4


def test_b17_the_text_network_is_the_tutorials() -> None:
    example = script("text_cnn")
    torch.manual_seed(0)
    model = example.TextCNN(words=50, classes=15)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda _m, _i, out, name=name: shapes.update({name: tuple(out.shape)}))
    words = torch.randint(50, (3, example.LENGTH))
    model.eval()
    assert model(words).shape == (3, 15)
    assert shapes["embedding"] == (3, 100, 48)
    assert shapes["first"] == (3, 64, 97, 1)  # VALID: 100 - 4 + 1 places, the width used up
    assert shapes["pool"] == (3, 64, 49, 1)  # SAME: ceil(97 / 2)
    assert shapes["second"] == (3, 64, 46, 1)  # the filters as width: VALID over 49 places
    # The pooling is TensorFlow's: three elements of border in all, one before and two behind.
    line = drawn(1, 1, 97, 1)
    bordered = F.pad(line, (0, 0, 1, 2), value=float("-inf"))
    assert (49 - 1) * 2 + 4 - 97 == 3
    assert_same_bits(model.pool(line), F.max_pool2d(bordered, (4, 1), (2, 1)))
    answer = model.predict(words)
    assert answer["class"].tolist() == answer["prob"].argmax(1).tolist()
    assert float((answer["prob"].sum(1) - 1).abs().max()) < 1e-5


def trained_text_network(steps: int) -> tuple[float, float, float]:
    """Held-out accuracy of the network, of the largest class, and of a linear classifier."""
    example = script("text_cnn")
    torch.manual_seed(0)
    found = example.corpus(Path(sysconfig.get_paths()["stdlib"]))
    assert len(found.names) == 15
    learned, unseen = found.split(0.25, 0)
    assert not {found.texts[i] for i in learned} & {found.texts[i] for i in unseen}
    texts, labels = [found.texts[i] for i in learned], [found.labels[i] for i in learned]
    held, truth = [found.texts[i] for i in unseen], [found.labels[i] for i in unseen]
    vocabulary = example.Vocabulary(texts)
    model = example.TextCNN(len(vocabulary), 15)
    words = vocabulary.encode(texts)
    losses = example.train(model, words, torch.tensor(labels), steps, 0, example.Training())
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    right = float((model.predict(vocabulary.encode(held))["class"] == torch.tensor(truth)).float().mean())
    most = max(truth.count(label) for label in range(15)) / len(truth)
    return right, most, example.linear_baseline(texts, labels, held, truth)


def test_b17_it_learns_from_real_text() -> None:
    right, most, _ = trained_text_network(60)
    assert right > most


@pytest.mark.slow
def test_b17_trained_in_full_it_knows_most_docstrings() -> None:
    right, most, linear = trained_text_network(2000)
    assert right > 0.7 > most
    # A linear classifier on word counts is better on so little text; nobody should be told otherwise.
    assert linear > right - 0.05
