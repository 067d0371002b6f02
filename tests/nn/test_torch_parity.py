"""Where torch's layers are looked at from outside: subclasses, strides, empty tensors, counted work."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from outstride import accelerate, functional, nn
from tests.tolerance import assert_same_numbers, assert_within_roundings

NAMES = [f"{kind}{nd}d" for kind in ("conv", "conv_transpose") for nd in (1, 2, 3)]


class Told(Tensor):
    """Knows torch's functions by what they are."""

    seen: list[Any] = []  # noqa: RUF012  # one list for all is meant

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func)
        if func in (F.conv2d, F.conv_transpose2d):
            arguments = [a.as_subclass(Tensor) if isinstance(a, Told) else a for a in args]
            return func(*arguments, **(kwargs or {}))
        usual: Any = super().__torch_function__
        return usual(func, types, args, kwargs or {})


class Scaled(Tensor):
    """A weight in the manner of quantised ones: whole numbers and a scale, which knows torch's operators."""

    whole: Tensor
    seen: list[str] = []  # noqa: RUF012  # one list for all is meant

    @staticmethod
    def __new__(cls, whole: Tensor) -> Scaled:
        make: Any = torch.Tensor._make_wrapper_subclass
        made: Scaled = make(cls, whole.shape, dtype=torch.float32, device=whole.device)
        made.whole = whole
        return made

    __torch_function__: Any = torch._C._disabled_torch_function_impl

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["whole"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], *_: Any) -> Scaled:
        return Scaled(parts["whole"])

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares what it does without one
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.detach.default:
            return Scaled(args[0].whole)
        cls.seen.append(str(func))
        assert func.namespace == "aten", func
        plain = tree_map(lambda a: a.whole.float() / 4 if isinstance(a, Scaled) else a, args)
        return func(*plain, **(kwargs or {}))


def _layers(layers: Any) -> list[Any]:
    torch.manual_seed(0)
    return [layers.Conv2d(3, 4, 3, padding=1), layers.ConvTranspose2d(3, 4, 3, stride=2)]


@pytest.mark.parametrize("own", [False, True])
def test_a_subclass_is_told_of_torchs_functions(own: bool) -> None:
    x = torch.randn(1, 3, 6, 6)
    for layer, stock in zip(_layers(nn if own else torch.nn), _layers(torch.nn), strict=True):
        served = layer if own else accelerate(layer)
        expected = stock(x)
        Told.seen.clear()
        assert_same_numbers(served(x.as_subclass(Told)), expected)
        assert Told.seen[0] in (F.conv2d, F.conv_transpose2d)
        served.weight = torch.nn.Parameter(stock.weight.detach().as_subclass(Told))
        Told.seen.clear()
        assert_same_numbers(served(x), expected)
        assert Told.seen[0] in (F.conv2d, F.conv_transpose2d)


def test_borders_of_ours_come_before_torchs_function() -> None:
    x, w = torch.randn(1, 3, 7, 7), torch.randn(4, 3, 3, 3)
    for options in ({"stride": 2, "padding": "same"}, {"padding": ((1, 0), (2, 1))}, {"padding": 1, "padding_mode": "circular"}):  # fmt: skip  # noqa: E501
        Told.seen.clear()
        result = functional.conv2d(x, w.as_subclass(Told), **options)
        assert F.conv2d in Told.seen
        ours = functional.conv2d(x, w, **options)
        assert_within_roundings(result, ours, 28, "27 products, in torch's order", scale=5.0)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_wrapped_weight_gets_torchs_operators(own: bool, compiled: bool) -> None:
    torch._dynamo.reset()
    x = torch.randn(1, 3, 6, 6)
    for layer in _layers(nn if own else torch.nn):
        served: Any = layer if own else accelerate(layer)
        whole = torch.randint(-8, 9, layer.weight.shape, dtype=torch.int8)
        served.weight = torch.nn.Parameter(Scaled(whole), requires_grad=False)
        kind = "conv_transpose2d" if isinstance(layer, torch.nn.ConvTranspose2d) else "conv2d"
        expected = getattr(F, kind)(x, whole.float() / 4, layer.bias, layer.stride, layer.padding)
        run = torch.compile(served, backend="aot_eager") if compiled else served
        Scaled.seen.clear()
        assert_within_roundings(run(x), expected, 64, "27 products of a scaled weight and a bias", scale=2.0)
        assert "aten.convolution.default" in Scaled.seen


class Duck:
    """No tensor at all, but something that torch's functions take."""

    @classmethod
    def __torch_function__(cls, func: Any, *_: Any) -> Any:
        return func


def test_what_only_stands_for_a_tensor_is_told_of_torchs_function() -> None:
    duck: Any = Duck()
    w = torch.randn(4, 3, 3, 3)
    conv2d: Any = functional.conv2d
    assert conv2d(duck, w) is F.conv2d
    assert conv2d(torch.randn(1, 3, 6, 6), duck) is F.conv2d


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"groups": 2}, {"groups": 4}, {"dilation": 2, "padding": 1}],
    ids=str,
)
def test_flops_are_counted_as_torchs(name: str, options: dict[str, int]) -> None:
    nd, groups = int(name[-2]), options.get("groups", 1)
    shape = (4, 8 // groups) if "transpose" in name else (8, 4 // groups)
    x, w = (
        torch.randn(2, 4, *[9] * nd, requires_grad=True),
        torch.randn(*shape, *[3] * nd, requires_grad=True),
    )
    totals = []
    for functions in (functional, F):
        with FlopCounterMode(display=False) as counter:
            y = getattr(functions, name)(x, w, torch.zeros(8, requires_grad=True), **options)
            forward = counter.get_total_flops()
            y.sum().backward()
        totals.append((forward, counter.get_total_flops()))
    assert totals[0] == totals[1]
    assert totals[0][1] > totals[0][0] > 0


def _result(function: Any, x: Tensor, w: Tensor, stride: int, padding: int) -> Any:
    try:
        return function(x, w, stride=stride, padding=padding)
    except RuntimeError:
        return None


@pytest.mark.parametrize("name", ["conv1d", "conv_transpose1d", "conv2d", "conv_transpose2d"])
def test_an_empty_batch_may_have_empty_sizes(name: str) -> None:
    nd = int(name[-2])
    for size, kernel, padding, stride in product((0, 1, 2, 4), (1, 3), (0, 1, 2), (1, 2)):
        shape = (2, 3) if "transpose" in name else (3, 2)
        x, w = torch.zeros(0, 2, *[size] * nd, requires_grad=True), torch.randn(*shape, *[kernel] * nd)
        ours, theirs = (
            _result(getattr(functions, name), x, w, stride, padding) for functions in (functional, F)
        )
        assert (ours is None) == (theirs is None), (size, kernel, padding, stride)
        if ours is not None:
            assert ours.shape == theirs.shape
            (grad,) = torch.autograd.grad(ours.sum(), x)
            assert grad.shape == x.shape
        with pytest.raises(RuntimeError, match="legal: "):
            getattr(functional, name)(torch.zeros(1, 2, *[0] * nd), w, padding=padding)


def _layouts(shape: tuple[int, ...]) -> list[Tensor]:
    x = torch.randn(shape)
    return [
        x,
        torch.randn(shape[0], *shape[2:], shape[1]).movedim(-1, 1),
        torch.randn(*shape[1:], shape[0]).movedim(-1, 0),
        torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2],
        torch.randn(1, *shape[1:]).expand(shape),
        torch.randn(shape[0], 2 * shape[1], *shape[2:])[:, ::2],
    ]


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("name", ["conv1d", "conv_transpose1d", "conv2d", "conv_transpose2d"])
def test_results_and_gradients_have_torchs_strides(name: str, batched: bool) -> None:
    nd = int(name[-2])
    for n, c, o, size, kernel in product((1, 2), (1, 4), (1, 6), (1, 5), (1, 3)):
        wide = (c, o) if "transpose" in name else (o, c)
        weight = torch.randn(*wide, *[kernel] * nd)
        for x, w in product(_layouts((n, c, *[size] * nd)), (weight, weight.movedim(1, -1).contiguous().movedim(-1, 1))):  # fmt: skip  # noqa: E501
            given = (x if batched else x[0]).detach().requires_grad_()
            ours = getattr(functional, name)(given, w, padding=kernel // 2)
            theirs = getattr(F, name)(given, w, padding=kernel // 2)
            assert ours.stride() == theirs.stride(), (given.stride(), w.stride())
            assert_within_roundings(ours, theirs, 40, "36 products, in torch's order", scale=20.0)
            if nd == 1 and min(c, o, size) > 1:
                (grad,) = torch.autograd.grad(ours, given, torch.ones_like(ours))
                (torchs,) = torch.autograd.grad(theirs, given, torch.ones_like(theirs))
                assert grad.stride() == torchs.stride(), (given.stride(), w.stride())
