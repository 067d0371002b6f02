"""Guarded calls: what a repeated call may skip, and what it must notice all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import outstride.nn
from outstride import functional
from outstride.engine import runtime
from outstride.engine.autograd.bias_gradient import bias_gradient
from outstride.engine.dispatch import checked, routing
from outstride.engine.dispatch.function import CONV, CONV_TRANSPOSE
from outstride.engine.launch import gather, guarded
from outstride.engine.launch.call_cache import CallCache
from outstride.errors import ShapeError
from tests.tolerance import assert_same_bits

_SHAPES = ((2, 4, 7, 9), (6, 2, 3, 3), (6,))


def _drawn(*shapes: tuple[int, ...], seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _conv(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    return functional.conv2d(x, w, bias, padding=1, groups=2)


@contextmanager
def _unguarded() -> Iterator[None]:
    """Every call takes the way that it takes where torch has no guard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guarded, "tensor_guard", lambda *_: None)
        for function in (*CONV.values(), *CONV_TRANSPOSE.values()):
            for name in ("latest", "checked", "guarded"):
                patch.setattr(function, name, CallCache(f"{name} calls"))
        yield


_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda x: x,
    "size": lambda x: x[:, :, 1:],
    "batch": lambda x: x[:1],
    "strides": lambda x: x.contiguous(memory_format=torch.channels_last),
    "expanded": lambda x: x[:, :, :1].expand_as(x),
    "negated lazily": torch._neg_view,
    "unbatched": lambda x: x[0],
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_form_that_changes_between_calls_is_noticed(
    change: Callable[[Tensor], Tensor], threads: int
) -> None:
    x, w, bias = _drawn(*_SHAPES)
    torch.set_num_threads(1)
    _conv(x, w, bias)
    _conv(x, w, bias)
    torch.set_num_threads(threads)
    with _unguarded():
        expected = _conv(change(x), w, bias)
    assert_same_bits(_conv(change(x), w, bias), expected)
    assert _conv(change(x).double(), w.double(), bias.double()).dtype is torch.float64


def test_weights_of_another_form_under_the_same_identity() -> None:
    x, w, _ = _drawn(*_SHAPES)
    weight = torch.nn.Parameter(w)
    _conv(x, weight, None)
    for other in (_drawn((4, 2, 3, 3))[0], _drawn((6, 2, 3, 5))[0], w.transpose(2, 3)):
        weight.data = other
        assert_same_bits(_conv(x, weight, None), _conv(x, other.clone(), None))


@pytest.mark.parametrize("wrong", [{"groups": True}, {"groups": 2.0}, {"padding": True}, {"stride": 1.0}])
def test_an_argument_that_only_equals_a_good_one_is_refused_all_the_same(wrong: dict[str, Any]) -> None:
    x, w, bias = _drawn((1, 4, 5, 5), (4, 4, 3, 3), (4,))
    good: dict[str, Any] = {name: int(value) for name, value in wrong.items()}
    if good.get("groups") == 2:
        w = w[:, :2]
    for _ in range(2):
        functional.conv2d(x, w, bias, **good)
    with pytest.raises(TypeError):
        functional.conv2d(x, w, bias, **wrong)


def test_what_intercepts_operators_sees_a_call_that_was_guarded() -> None:
    x, w, bias = _drawn(*_SHAPES)
    for _ in range(2):
        _conv(x, w, bias)
    heard: list[str] = []

    class Dispatched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            heard.append(str(func))
            return func(*args, **(kwargs or {}))

    class Called(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            heard.append(getattr(func, "__name__", str(func)))
            return func(*args, **(kwargs or {}))

    for mode in (Dispatched(), Called()):  # type: ignore[no-untyped-call]
        heard.clear()
        with mode:
            _conv(x, w, bias)
        assert any("conv" in name for name in heard), mode
    with torch.profiler.profile() as profile:
        _conv(x, w, bias)
    assert any("outstride::conv" in event.key for event in profile.key_averages())
    with torch.autocast("cpu", torch.bfloat16):
        assert _conv(x, w, bias).dtype is torch.bfloat16
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        assert torch.autograd.forward_ad.unpack_dual(_conv(dual, w, bias)).tangent is not None
    assert torch.vmap(lambda each: _conv(each, w, bias))(torch.stack([x, x])).shape[0] == 2


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    "needed", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
)
def test_gradients_without_a_guard_are_the_same_bits(needed: tuple[bool, ...], transposed: bool) -> None:
    operator = functional.conv_transpose2d if transposed else functional.conv2d
    weight = (4, 3, 3, 2) if transposed else (6, 4, 3, 2)
    channels = weight[1] if transposed else weight[0]

    def gradients() -> list[Tensor | None]:
        operands = _drawn((2, 4, 7, 9), weight, (channels,))
        for tensor, wanted in zip(operands, needed, strict=True):
            tensor.requires_grad_(wanted)
        for _ in range(2):
            x, w, bias = operands
            result = operator(x, w, bias, stride=2, padding=1)
            result.square().sum().backward()
        return [tensor.grad for tensor in operands]

    with _unguarded():
        expected = gradients()
    for found, wanted in zip(gradients(), expected, strict=True):
        assert (found is None) == (wanted is None)
        if found is not None and wanted is not None:
            assert_same_bits(found, wanted)


def test_a_frozen_weight_does_not_keep_the_input() -> None:
    x, w, _ = _drawn(*_SHAPES)
    x.requires_grad_()
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _conv(x, w, None).sum().backward()
    assert [tensor.shape for tensor in held] == [w.shape]
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_bias_gradient_has_one_order_on_every_machine(dtype: torch.dtype) -> None:
    grad = _drawn((3, 5, 13, 29))[0].to(dtype)
    found = []
    for name in runtime.available():
        with runtime.instruction_set(name):
            found.append(bias_gradient(grad))
    # By the order that the kernel's heading writes down.
    planes = torch.nn.functional.pad(grad.double().flatten(2), (0, -13 * 29 % 16)).unflatten(2, (-1, 16))
    lanes = torch.zeros(5, 16, dtype=torch.float64)
    for image in planes:
        for step in range(image.shape[1]):
            lanes += image[:, step]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    narrow = dtype in (torch.bfloat16, torch.float16)
    expected = (lanes[:, 0].float() if narrow else lanes[:, 0]).to(dtype)
    for each in found:
        assert_same_bits(each, expected)


def test_equal_layers_share_their_guarded_calls() -> None:
    x = _drawn((1, 4, 5, 23))[0]
    with torch.no_grad():
        for _ in range(20):
            outstride.nn.Conv2d(4, 4, 3, padding=1)(x)
    cached = CONV[2].guarded.entries()
    assert [len(calls) for (_, *shapes), calls in cached.items() if shapes[0] == x.shape] == [1]


_LONG: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "conv1d": (partial(functional.conv1d, padding=2), ((2, 6), (8, 6, 5), (8,))),
    "conv1d, stride": (partial(functional.conv1d, stride=3, groups=2), ((1, 6), (8, 3, 5))),
    "conv1d, same": (partial(functional.conv1d, padding="same", dilation=3), ((1, 6), (8, 6, 4))),
    "conv2d": (partial(functional.conv2d, padding=((1, 0), (2, 1))), ((1, 4, 9), (5, 4, 3, 3), (5,))),
    "transposed": (
        partial(functional.conv_transpose1d, stride=3, padding=2, output_padding=1),
        ((1, 6), (6, 4, 7), (4,)),
    ),
    "transposed, same": (
        partial(functional.conv_transpose1d, stride=3, padding="same"), ((1, 6), (6, 4, 7)),
    ),
}  # fmt: skip


def _of_lengths(name: str, *lengths: int) -> tuple[Callable[..., Tensor], list[Tensor], list[Tensor]]:
    """A call of `_LONG`, its weights, and an input of each length."""
    call, (lead, *shapes) = _LONG[name]
    return call, _drawn(*shapes), [_drawn((*lead, length), seed=length)[0] for length in lengths]


@pytest.mark.parametrize("name", _LONG)
@pytest.mark.parametrize("threads", [1, 2])
def test_another_length_is_served_by_what_an_earlier_one_left_ready(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, weights, inputs = _of_lengths(name, 8999, 8801, 8800, 9000, 9011, 8801)
    torch.set_num_threads(threads)
    with _unguarded():
        expected = [call(x, *weights) for x in inputs]
    call(inputs[3], *weights)
    with monkeypatch.context() as patch:
        patch.setattr(checked, "check", None)
        patch.setattr(gather, "kernel_arguments", None)
        for x, result in zip(inputs, expected, strict=True):
            assert_same_bits(call(x, *weights), result)
    for x, result in zip(inputs, expected, strict=True):  # twice in a row it is guarded
        for _ in range(3):
            assert_same_bits(call(x, *weights), result)


@pytest.mark.parametrize("name", _LONG)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_size_that_must_be_planned_is_checked_no_more(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, weights, inputs = _of_lengths(name, 40, 1, 7, 33, 500, 5, 34, 2000)
    torch.set_num_threads(threads)
    with _unguarded():
        expected = [_result_or_error(call, x, *weights) for x in inputs]
    call(inputs[0], *weights)
    with monkeypatch.context() as patch:
        patch.setattr(routing, "guarded_result", None)
        patch.setattr(routing, "contract", None)
        for x, result in zip(inputs, expected, strict=True):
            if isinstance(result, Tensor) and x is not inputs[0]:
                assert_same_bits(call(x, *weights), result)
    for x, result in zip(inputs, expected, strict=True):
        found = _result_or_error(call, x, *weights)
        if isinstance(result, Tensor):
            assert isinstance(found, Tensor)
            assert_same_bits(found, result)
        else:
            assert found == result


def _result_or_error(call: Callable[..., Tensor], *operands: Tensor) -> Tensor | str:
    try:
        return call(*operands)
    except ShapeError as error:
        return str(error)


@pytest.mark.parametrize("name", _LONG)
def test_what_a_length_left_ready_is_for_the_same_call_alone(name: str) -> None:
    call, weights, (x, longer) = _of_lengths(name, 9000, 8990)
    call(x, *weights)
    others: dict[str, tuple[Tensor, ...]] = {
        "rows apart": (torch.cat([longer, longer], -1)[..., : longer.shape[-1]], *weights),
        "float64": (longer.double(), *(w.double() for w in weights)),
        "batch": (torch.cat([longer, longer]), *weights),
        "far shorter": (longer[..., :50].clone(), *weights),
        "to be derived": (longer, weights[0].clone().requires_grad_(), *weights[1:]),
    }
    for operands in others.values():
        with _unguarded():
            expected = call(*operands)
        assert_same_bits(call(x, *weights), call(x.clone(), *weights))
        found = call(*operands)
        assert found.requires_grad == expected.requires_grad
        assert_same_bits(found.detach(), expected.detach())
    with pytest.raises(ShapeError):
        call(longer[..., :0], *weights)


@pytest.mark.parametrize("name", runtime.available())
@pytest.mark.parametrize("nd", [1, 2])
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_what_another_layout_left_ready_is_not_for_contiguous_inputs(kind: str, nd: int, name: str) -> None:
    """Its kernel reads channels that lie side by side, whatever strides it is told of."""
    call = partial(getattr(functional, f"{kind}{nd}d"), stride=5)
    across, inputs, outputs = [7] * (nd - 1), 64, 5
    sizes = (outputs, inputs) if kind == "conv" else (inputs, outputs)
    x, longer, weight = _drawn(
        (3, inputs, *across, 496), (3, inputs, *across, 500), (*sizes, *[1] * (nd - 1), 5)
    )
    torch.set_num_threads(4)
    # A part of something channels last: no format that the results would take over.
    side_by_side = torch.zeros(3, *across, 507, inputs + 9)[..., :496, :inputs].movedim(-1, 1).copy_(x)
    with runtime.instruction_set(name):
        for other in (x, longer):
            weight = weight.clone()
            with _unguarded():
                expected = call(other, weight)
            call(side_by_side, weight)
            assert_same_bits(call(other, weight), expected)
