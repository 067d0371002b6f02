"""The functional form: torch's values for torch's arguments, and what torch has no arguments for."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride import functional, geometry
from outstride.engine import borders as padding
from outstride.engine.autograd.bias_gradient import bias_gradient
from outstride.layer.spec import ConvSpec
from tests.cases import CASES, Case
from tests.tolerance import assert_close_to_reference, assert_same_bits, assert_same_numbers

MODES = ("reflect", "replicate", "circular")
_NAMES = [f"conv{transpose}{nd}d" for transpose in ("", "_transpose") for nd in (1, 2, 3)]


def _integers(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-3, 4, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("name", _NAMES)
def test_arguments_stand_where_torch_has_them(name: str) -> None:
    text = (getattr(F, name).__doc__ or "").strip().splitlines()[0]
    torchs = [part.split("=")[0].strip() for part in text[text.index("(") + 1 : text.index(")")].split(",")]
    parameters = inspect.signature(getattr(functional, name)).parameters.values()
    ours = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert ours == torchs
    extra = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    ours_alone = ["padding_mode", "algorithm"]
    assert extra == (["output_size", *ours_alone] if "transpose" in name else ours_alone)


@pytest.mark.parametrize("case", CASES, ids=[c.id for c in CASES])
def test_sizes_are_those_of_geometry(case: Case) -> None:
    operator = "conv_transpose" if case.transposed else "conv"
    channels = {"in_channels": case.in_channels, "out_channels": case.out_channels, "groups": case.groups}
    spec = ConvSpec(
        operator,  # type: ignore[arg-type]
        case.kernel_size,
        case.stride or None,
        case.padding if case.padding != () else 0,
        case.dilation or 1,
        case.output_padding or 0,
        padding_mode=case.padding_mode,
        **channels,  # type: ignore[arg-type]
    )
    arguments: dict[str, Any] = {
        "stride": spec.stride,
        "padding": spec.padding,
        "dilation": spec.dilation,
        "groups": case.groups,
        "padding_mode": case.padding_mode,
    }
    expected = case.output_size
    if case.transposed:
        arguments |= {"output_padding": spec.output_padding, "output_size": case.output_size}
    x = torch.empty(case.input_shape, device="meta")
    w = torch.empty(case.weight_shape, device="meta")
    result = getattr(functional, f"{operator}{case.nd}d")(x, w, **arguments)
    assert tuple(result.shape[2:]) == (expected or geometry.output_size(spec, case.input_size))


@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_pad_is_torchs_and_fold_is_its_adjoint(nd: int, mode: str) -> None:
    size, pairs = (5, 6, 7)[:nd], ((2, 1), (0, 3), (4, 4))[:nd]
    x = _integers(2, 3, *size)
    padded = padding.pad(x, pairs, mode)
    assert_same_numbers(padded, F.pad(x, [end for pair in reversed(pairs) for end in pair], mode=mode))
    y = _integers(*padded.shape)
    assert (padded * y).sum() == (x * padding.fold(y, pairs, mode)).sum()


@pytest.mark.parametrize("mode", ["zeros", *MODES])
@pytest.mark.parametrize("arguments", [{"padding": 2}, {"padding": ((2, 0), (1, 2))}, {"padding": "same"}])
def test_a_transposed_padding_mode_is_the_exact_adjoint(mode: str, arguments: dict[str, Any]) -> None:
    x, w, bias = _integers(2, 4, 7, 8), _integers(6, 2, 4, 3), _integers(4)
    rest = {"stride": 2, "groups": 2, "padding_mode": mode, **arguments}
    forward = functional.conv2d(x, w, **rest)
    y = _integers(*forward.shape)
    back = functional.conv_transpose2d(y, w, output_size=x.shape, **rest)
    assert back.shape == x.shape
    assert (forward * y).sum() == (x * back).sum()
    with_bias = functional.conv_transpose2d(y, w, bias, output_size=(7, 8), **rest)
    assert_same_numbers(with_bias, back + bias.view(-1, 1, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", MODES)
def test_a_folded_border_is_rounded_once(dtype: torch.dtype, mode: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x, w, bias = (torch.randn(s, generator=generator).to(dtype) for s in ((1, 3, 9), (3, 2, 4), (2,)))
    narrow = functional.conv_transpose1d(x, w, bias, 2, 3, padding_mode=mode)
    wide = functional.conv_transpose1d(x.float(), w.float(), bias.float(), 2, 3, padding_mode=mode)
    assert narrow.dtype == dtype
    assert_same_bits(narrow, wide.to(dtype))


@pytest.mark.parametrize("name", _NAMES)
def test_unbatched_zero_batch_and_expanded_inputs(name: str) -> None:
    nd = int(name[-2])
    operator = getattr(functional, name)
    x, w = _integers(2, 4, *[5] * nd), _integers(4, 4, *[3] * nd)
    whole = operator(x, w, None, 2, 1)
    assert_same_bits(operator(x[0], w, None, 2, 1), whole[0])
    assert operator(x[:0], w, None, 2, 1).shape == (0, *whole.shape[1:])
    assert_same_bits(operator(x[:1].expand(3, *x.shape[1:]), w, None, 2, 1)[2], whole[0])
    empty = x[:0].clone().requires_grad_()
    weight = w.clone().requires_grad_()
    operator(empty, weight, None, 2, 1).sum().backward()
    assert empty.grad is not None
    assert weight.grad is not None
    assert empty.grad.shape == empty.shape
    assert_same_numbers(weight.grad, torch.zeros_like(w))


def test_no_input_channels_leave_the_bias() -> None:
    result = functional.conv2d(torch.ones(2, 0, 4, 4), torch.ones(3, 0, 3, 3), torch.arange(3.0))
    assert_same_numbers(result, torch.arange(3.0).view(3, 1, 1).expand(2, 3, 2, 2))


@pytest.mark.parametrize("name", _NAMES[1:3] + _NAMES[4:])
def test_channels_last_in_is_channels_last_out(name: str) -> None:
    nd = int(name[-2])
    last = torch.channels_last if nd == 2 else torch.channels_last_3d
    # In float64 torch itself returns conv3d contiguous, for want of a kernel.
    x, w = (_integers(*s, *[n] * nd, dtype=torch.float32) for s, n in (((2, 4), 5), ((4, 4), 3)))
    plain = getattr(functional, name)(x, w)
    for a, b in itertools.product((x, x.to(memory_format=last)), (w, w.to(memory_format=last))):
        ours, torchs = getattr(functional, name)(a, b), getattr(F, name)(a, b)
        assert ours.stride() == torchs.stride()
        assert_same_bits(ours, plain)
    y = x.to(memory_format=last).requires_grad_()
    getattr(functional, name)(y, w).sum().backward()
    assert y.grad is not None
    assert y.grad.is_contiguous(memory_format=last)


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("to", [torch.bfloat16, torch.float16])
def test_autocast_casts_as_torchs(name: str, dtype: torch.dtype, to: torch.dtype) -> None:
    nd = int(name[-2])
    x, w = _integers(1, 2, *[4] * nd, dtype=dtype), _integers(2, 2, *[3] * nd).float()
    w, bias = (w.double(), torch.ones(2).double()) if dtype == torch.float64 else (w, torch.ones(2))
    weight = w.clone().requires_grad_()
    with torch.autocast("cpu", dtype=to):
        ours, torchs = getattr(functional, name)(x, weight, bias), getattr(F, name)(x, w, bias)
    assert ours.dtype == torchs.dtype == (torch.float64 if dtype == torch.float64 else to)
    assert_same_numbers(ours, torchs)
    ours.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == weight.dtype
    with torch.autocast("cpu", enabled=False):
        assert getattr(functional, name)(x, w.to(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.int64])
def test_other_dtypes_take_every_argument_too(dtype: torch.dtype) -> None:
    """What torch computes for this dtype, from arguments that torch does not have: judged in float64."""
    x, w, bias = _integers(2, 4, 6, 7), _integers(4, 2, 3, 3), _integers(4)
    convolutions: list[dict[str, Any]] = [
        {"stride": 2, "padding": "same"},
        {"padding": ((2, 0), (0, 1)), "dilation": 2},
        {"padding": 1, "padding_mode": "reflect", "stride": (1, 2)},
        {"padding": "valid"},
        {"padding": 1, "stride": 3},
    ]
    transposed: list[dict[str, Any]] = [
        *convolutions,
        {"stride": 3, "output_size": (20, 22)},
        {"stride": 4, "padding": "same", "dilation": 1},
    ]
    for name, every in (("conv2d", convolutions), ("conv_transpose2d", transposed)):
        for arguments in every:
            operator, arguments = getattr(functional, name), {"groups": 2, **arguments}
            result = operator(x.to(dtype), w.to(dtype), bias.to(dtype), **arguments)
            assert result.dtype == dtype
            assert_same_numbers(result, operator(x, w, bias, **arguments).to(dtype))
            unbatched = operator(x[0].to(dtype), w.to(dtype), bias.to(dtype), **arguments)
            assert_same_numbers(unbatched, result[0])


def test_same_is_tensorflows_rule_with_the_odd_element_high() -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]])
    pair = torch.tensor([[[1.0, 10.0]]])
    assert functional.conv1d(x, pair, padding="same").tolist() == [[[21, 32, 43, 54, 5]]]
    assert functional.conv1d(x, pair, stride=2, padding="same").tolist() == [[[21, 43, 5]]]
    triple = torch.tensor([[[1.0, 10.0, 100.0]]])
    assert functional.conv1d(x[..., :4], triple, stride=2, padding="same").tolist() == [[[321, 43]]]
    assert functional.conv_transpose1d(x[..., :2], triple, stride=2, padding="same").tolist() == [
        [[1, 10, 102, 20]]
    ]
    wide = functional.conv_transpose1d(x[..., :2], pair, stride=3, padding="same")
    assert wide.tolist() == [[[1, 10, 0, 2, 20, 0]]]


def test_output_size_reaches_every_size_the_stride_leaves_open() -> None:
    x, w = _integers(1, 2, 5, 5), _integers(2, 3, 3, 3)
    for size in (11, 12):
        by_size = functional.conv_transpose2d(x, w, None, 2, output_size=(size, 11))
        by_padding = functional.conv_transpose2d(x, w, None, 2, 0, (size - 11, 0))
        assert_same_bits(by_size, by_padding)
        assert_same_bits(functional.conv_transpose2d(x, w, None, 2, output_size=(1, 3, size, 11)), by_size)
        assert_same_bits(functional.conv_transpose2d(x[0], w, None, 2, output_size=(3, size, 11)), by_size[0])
    for size in (9, 10):
        shape = functional.conv_transpose2d(x, w, None, 2, "same", output_size=(size, 10)).shape
        assert tuple(shape[2:]) == (size, 10)


def test_output_padding_uncovers_what_was_stamped() -> None:
    """It reveals more of the same scatter, where there is none the bias, and adds no zeros."""
    x, w, bias = torch.ones(1, 1, 2), torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([0.5])
    plain = functional.conv_transpose1d(x, w, bias, 2, 1)
    more = functional.conv_transpose1d(x, w, bias, 2, 1, 1)
    assert more[..., :-1].tolist() == plain.tolist()
    assert more[..., -1].item() == 4.5


@pytest.mark.parametrize("name", _NAMES)
def test_repeated_calls_follow_their_arguments(name: str) -> None:
    nd = int(name[-2])
    operator, torchs = getattr(functional, name), getattr(F, name)
    x, w, bias = _integers(1, 4, *[6] * nd), _integers(4, 4, *[3] * nd), _integers(4)
    for _ in range(2):
        for stride, pad, with_bias in itertools.product((1, 2, (2,) * nd), (0, 1, (1,) * nd), (bias, None)):
            assert_same_numbers(operator(x, w, with_bias, stride, pad), torchs(x, w, with_bias, stride, pad))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_changed_weight_is_seen(dtype: torch.dtype) -> None:
    """Through every door: in place, through .data, through a view, through NumPy's memory."""
    x = _integers(1, 16, 6, 6, dtype=dtype)
    weight = torch.nn.Parameter(_integers(16, 16, 3, 3, dtype=dtype))

    changes: list[Callable[[Tensor], object]] = [
        lambda w: w.mul_(2),
        lambda w: w.data.mul_(2),
        lambda w: w.data.copy_(_integers(16, 16, 3, 3, dtype=dtype)),
        lambda w: w.detach()[0].zero_(),
        lambda w: setattr(w, "data", w.data + 1),
        lambda w: w.data.view(-1)[7:8].add_(1),
    ]
    with torch.no_grad():
        functional.conv2d(x, weight)
        for change in changes:
            change(weight)
            assert_same_numbers(functional.conv2d(x, weight), functional.conv2d(x, weight.clone()))
        if dtype == torch.float32:
            weight.detach().numpy()[3] = 1
            assert_same_numbers(functional.conv2d(x, weight), functional.conv2d(x, weight.clone()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_random_calls_agree_with_torch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(11)

    def pick(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator=generator))

    compared = 0
    for name in _NAMES * 12:
        nd, transposed = int(name[-2]), "transpose" in name
        groups = pick(1, 3)
        c, o = groups * pick(1, 3), groups * pick(1, 3)
        stride, dilation, kernel = ([pick(1, 3) for _ in range(nd)] for _ in range(3))
        pads, size = [pick(0, 2) for _ in range(nd)], [pick(1, 9) for _ in range(nd)]
        rest: list[Any] = [stride, pads, groups, dilation] if transposed else [stride, pads, dilation, groups]
        if transposed:
            extra = [pick(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
            rest.insert(2, extra)
        weight = (c, o // groups, *kernel) if transposed else (o, c // groups, *kernel)
        x, w, bias = (
            torch.randn(s, generator=generator).to(dtype) for s in ((pick(1, 2), c, *size), weight, (o,))
        )
        try:
            truth = getattr(F, name)(x.double(), w.double(), bias.double(), *rest)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                getattr(functional, name)(x, w, bias, *rest)
            continue
        magnitude = getattr(F, name)(x.double().abs(), w.double().abs(), bias.double().abs(), *rest)
        result = getattr(functional, name)(x, w, bias, *rest)
        assert_close_to_reference(
            result, truth.numpy(), magnitude.numpy(), w.numel() // w.shape[1] + w[0].numel() + 1, dtype
        )
        compared += 1
    assert compared >= 40


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bias_gradient_has_one_order(channels: int, dtype: torch.dtype) -> None:
    """Law 4 for the sum that is no contraction: threads and layouts change no bit."""
    generator = torch.Generator().manual_seed(channels)
    grad = torch.randn(3, channels, 150, 160, generator=generator).to(dtype)
    found = []
    for threads, layout in itertools.product((1, 2, 3), (torch.contiguous_format, torch.channels_last)):
        torch.set_num_threads(threads)
        found.append(bias_gradient(grad.to(memory_format=layout)))
    for other in found[1:]:
        assert_same_bits(other, found[0])
    truth, magnitude = (g.double().sum((0, 2, 3)).numpy() for g in (grad, grad.abs()))
    assert_close_to_reference(found[0], truth, magnitude, grad[:, 0].numel(), dtype)
    assert_same_numbers(bias_gradient(torch.ones(70000, 1, 1)), torch.tensor([70000.0]))
