"""The operators under what torch does to operators: derivatives, vmap, torch.func, compile, export."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, func
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from outstride import functional
from outstride.engine.autograd import contractions
from outstride.engine.dispatch import shapes
from tests.tolerance import assert_same_bits, assert_same_numbers, assert_within_roundings

Convolve = Callable[[Tensor, Tensor, Tensor], Tensor]

OPERATORS = torch.ops.outstride


def _tensors(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes)


def _conv(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    return functional.conv1d(x, w, bias, 2, ((1, 2),), 1, 2)


def _conv_by_torch(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    return F.conv1d(F.pad(x, (1, 2)), w, bias, 2, 0, 1, 2)


def _transposed(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    return functional.conv_transpose1d(x, w, bias, 2, 1, 1, 2)


def _transposed_by_torch(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    return F.conv_transpose1d(x, w, bias, 2, 1, 1, 2)


def _reflected(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    return functional.conv_transpose1d(x, w, bias, 2, 2, 1, 2, padding_mode="reflect")


PAIRS: dict[str, tuple[Convolve, Convolve, tuple[tuple[int, ...], ...]]] = {
    "conv": (_conv, _conv_by_torch, ((2, 2, 5), (4, 1, 3), (4,))),
    "conv_transpose": (_transposed, _transposed_by_torch, ((2, 2, 5), (2, 2, 3), (4,))),
}
_pair = pytest.mark.parametrize("name", PAIRS)


def _cubed(convolve: Convolve) -> Convolve:
    return lambda *tensors: convolve(*tensors).pow(3).sum()


@pytest.mark.parametrize("convolve", [_conv, _transposed, _reflected])
def test_derivatives_of_both_orders_in_both_directions(convolve: Convolve) -> None:
    weight = (4, 1, 3) if convolve is _conv else (2, 2, 3)
    inputs = [t.requires_grad_() for t in _tensors((1, 2, 4), weight, (4,))]
    assert torch.autograd.gradcheck(
        convolve, inputs, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(convolve, inputs, check_fwd_over_rev=True)


@_pair
@pytest.mark.parametrize("outer", [func.jacrev, func.jacfwd])
@pytest.mark.parametrize("inner", [func.jacrev, func.jacfwd])
def test_hessians_agree_in_every_order_of_transforms(name: str, outer: Any, inner: Any) -> None:
    ours, torchs, shapes = PAIRS[name]
    tensors = _tensors(*shapes)
    every = (0, 1, 2)
    found = outer(inner(_cubed(ours), every), every)(*tensors)
    expected = func.jacrev(func.jacrev(_cubed(torchs), every), every)(*tensors)
    for row, expected_row in zip(found, expected, strict=True):
        for block, expected_block in zip(row, expected_row, strict=True):
            assert_within_roundings(block, expected_block, 1000, "sums of products of sums of products")


@_pair
def test_third_order(name: str) -> None:
    ours, torchs, shapes = PAIRS[name]
    x, *rest = _tensors(*shapes)

    def of(convolve: Convolve) -> Callable[[Tensor], Tensor]:
        return lambda x: _cubed(convolve)(x, *rest)

    expected = func.jacrev(func.jacrev(func.jacrev(of(torchs))))(x)
    for a, b, c in ((func.jacfwd, func.jacfwd, func.jacfwd), (func.jacrev, func.jacfwd, func.jacrev)):
        found = a(b(c(of(ours))))(x)
        assert_within_roundings(found, expected, 1000, "sums of products of sums of products")


@_pair
@pytest.mark.parametrize(
    "in_dims", [d for d in itertools.product((0, 1, None), repeat=3) if any(i is not None for i in d)]
)
def test_vmap_returns_the_bits_of_separate_calls(name: str, in_dims: tuple[int | None, ...]) -> None:
    ours, _, shapes = PAIRS[name]
    wide = [(3, *s) if d is not None else s for s, d in zip(shapes, in_dims, strict=True)]
    tensors = [t if d is None else t.movedim(0, d) for t, d in zip(_tensors(*wide), in_dims, strict=True)]

    def separately(function: Any) -> list[Any]:
        rows = range(3)
        return [
            function(*[t if d is None else t.select(d, i) for t, d in zip(tensors, in_dims, strict=True)])
            for i in rows
        ]

    assert_same_bits(func.vmap(ours, in_dims)(*tensors), torch.stack(separately(ours)))
    gradient = func.grad(_cubed(ours), (0, 1, 2))
    mapped = func.vmap(gradient, in_dims)(*tensors)
    for found, expected in zip(mapped, zip(*separately(gradient), strict=True), strict=True):
        assert_within_roundings(found, torch.stack(expected), 100, "batches may be summed in another order")


@_pair
@pytest.mark.parametrize("groups", [1, 2])
def test_vmap_of_the_weight_gradient(name: str, groups: int) -> None:
    x, y = _tensors((3, 2, 4, 6), (3, 2, 2 * groups, 4))
    rest: tuple[Any, ...] = ([3], [1], [0], [1], groups)
    for in_dims in ((0, 0), (0, None), (None, 0)):
        a, b = (t if d == 0 else t[0] for t, d in zip((x, y), in_dims, strict=True))
        mapped = func.vmap(lambda p, q: OPERATORS.conv_weight(p, q, *rest), in_dims)(a, b)
        rows = [
            OPERATORS.conv_weight(a[i] if in_dims[0] == 0 else a, b[i] if in_dims[1] == 0 else b, *rest)
            for i in range(3)
        ]
        assert_within_roundings(mapped, torch.stack(rows), 100, "batches may be summed in another order")


@_pair
def test_nested_vmap_and_functionalize(name: str) -> None:
    ours, _, shapes = PAIRS[name]
    x, w, bias = _tensors(shapes[0], (4, *shapes[1]), (4, *shapes[2]))
    many = torch.stack([x, 2 * x, 3 * x])
    nested = func.vmap(func.vmap(ours, (0, None, None)), (None, 0, 0))(many, w, bias)
    for i, j in itertools.product(range(4), range(3)):
        assert_same_bits(nested[i, j], ours(many[j], w[i], bias[i]))
    assert_same_bits(func.functionalize(ours)(x, w[0], bias[0]), ours(x, w[0], bias[0]))


@_pair
def test_vjp_outlives_its_transform(name: str) -> None:
    ours, torchs, shapes = PAIRS[name]
    tensors = _tensors(*shapes)
    (value, pull), (expected_value, expected_pull) = (func.vjp(f, *tensors)[:2] for f in (ours, torchs))
    assert_within_roundings(value, expected_value, 100, "torch sums in another order")
    for found, expected in zip(pull(value), expected_pull(expected_value), strict=True):
        assert_within_roundings(found, expected, 200, "torch sums in another order, twice")


def _layer(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
    upsampled = functional.conv_transpose2d(x, w, None, 2, "same")
    return functional.conv2d(upsampled.relu(), w, bias, 2, ((1, 0), (0, 1)), padding_mode="reflect")


@pytest.mark.parametrize("dynamic", [None, pytest.param(True, marks=pytest.mark.slow)])
def test_compile_as_one_graph_forward_and_backward(dynamic: bool | None) -> None:
    torch._dynamo.reset()
    w, bias = (t.requires_grad_() for t in _tensors((3, 3, 3, 3), (3,), dtype=torch.float32))
    compiled = torch.compile(_layer, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for shape in ((2, 3, 6, 6), (3, 3, 9, 7)):
        x = _tensors(shape, dtype=torch.float32)[0].requires_grad_()
        expected, found = _layer(x, w, bias), compiled(x, w, bias)
        assert_same_bits(found, expected)
        gradients = torch.autograd.grad(found.sum(), (x, w, bias))
        for a, b in zip(gradients, torch.autograd.grad(expected.sum(), (x, w, bias)), strict=True):
            assert_same_bits(a, b)


def test_a_new_size_needs_no_new_graph() -> None:
    torch._dynamo.reset()
    graphs: list[Any] = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    w = _tensors((3, 3, 4, 4))[0]
    compiled = torch.compile(
        lambda x: functional.conv_transpose2d(x, w, None, 2, 1), fullgraph=True, backend=count, dynamic=True
    )
    for size in (5, 6, 7, 11):
        x = _tensors((2, 3, size, size + 1))[0]
        assert_same_bits(compiled(x), functional.conv_transpose2d(x, w, None, 2, 1))
    assert len(graphs) == 1


@pytest.mark.slow
def test_compile_with_inductor() -> None:
    torch._dynamo.reset()
    w, bias = (t.requires_grad_() for t in _tensors((3, 3, 3, 3), (3,), dtype=torch.float32))
    x = _tensors((2, 3, 6, 6), dtype=torch.float32)[0].to(memory_format=torch.channels_last)
    found = torch.compile(_layer, fullgraph=True)(x, w, bias)
    assert_within_roundings(found, _layer(x, w, bias), 64, "what lies around the layer is fused", scale=2.0)
    assert torch.autograd.grad(found.sum(), w)[0].shape == w.shape


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        weights = _tensors((3, 3, 3, 3), (3,))
        self.w, self.bias = (torch.nn.Parameter(t) for t in weights)

    def forward(self, x: Tensor) -> Tensor:
        up = functional.conv_transpose2d(x, self.w, self.bias, 2, 1, 1)
        return functional.conv2d(up, self.w, self.bias, 2, 1)


@pytest.mark.parametrize("strict", [True, False])
def test_export_with_open_sizes(strict: bool) -> None:
    model, x = _Model(), _tensors((2, 3, 8, 8))[0]
    batch, height = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("height", min=2, max=512)
    program = torch.export.export(model, (x,), strict=strict, dynamic_shapes=({0: batch, 2: height},))
    targets = [str(node.target) for node in program.graph.nodes]
    assert [t for t in targets if "outstride" in t] == [
        "outstride.conv_transpose.default",
        "outstride.conv.default",
    ]
    other = _tensors((3, 3, 11, 8))[0]
    assert_same_bits(program.module()(other).detach(), model(other).detach())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["conv", "conv_transpose", "conv_weight"])
def test_opcheck(name: str, layout: torch.memory_format) -> None:
    x, w, bias, y = (
        t.requires_grad_()
        for t in _tensors((2, 4, 5, 5), (6, 2, 3, 3), (6,), (2, 6, 5, 2), dtype=torch.float32)
    )
    x, y = (
        x.detach().to(memory_format=layout).requires_grad_(),
        y.detach().to(memory_format=layout).requires_grad_(),
    )
    arguments: dict[str, tuple[Any, ...]] = {
        "conv": (x, w, bias, [1, 2], [1, 0], [5, 2], [1, 1], 2),
        "conv_transpose": (y, w, None, [1, 2], [1, 0], [5, 5], [1, 1], 2),
        "conv_weight": (x, y, [3, 3], [1, 2], [1, 0], [1, 1], 2),
    }
    results = torch.library.opcheck(getattr(OPERATORS, name).default, arguments[name])
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize("in_layout", ["contiguous", "channels_last", "one_channel_last"])
@pytest.mark.parametrize("weight_layout", ["contiguous", "channels_last"])
def test_shape_rule_tells_the_strides_of_the_result(in_layout: str, weight_layout: str) -> None:
    x, w = _tensors((2, 1 if in_layout == "one_channel_last" else 3, 5, 6), (4, 1, 3, 3))
    w = w if x.shape[1] == 1 else w.expand(4, 3, 3, 3).contiguous()
    if "last" in in_layout:
        x = x.to(memory_format=torch.channels_last)
    if weight_layout == "channels_last":
        w = w.to(memory_format=torch.channels_last)
    result = functional.conv2d(x, w)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = functional.conv2d(mode.from_tensor(x), mode.from_tensor(w))
    assert fake.stride() == result.stride()
    assert result.is_contiguous(memory_format=torch.channels_last) == F.conv2d(x, w).is_contiguous(
        memory_format=torch.channels_last
    )


def test_modes_and_tools_see_the_operator() -> None:
    x, w = _tensors((1, 3, 8, 8), (4, 3, 3, 3))
    with torch.profiler.profile() as profile:
        functional.conv2d(x, w)
    assert "outstride::conv" in {event.key for event in profile.key_averages()}
    with FlopCounterMode(display=False) as ours:
        functional.conv2d(x, w)
        functional.conv_transpose2d(x, w.transpose(0, 1))
    with FlopCounterMode(display=False) as torchs:
        F.conv2d(x, w)
        F.conv_transpose2d(x, w.transpose(0, 1))
    assert ours.get_total_flops() == torchs.get_total_flops() > 0
    traced = make_fx(lambda x: functional.conv2d(x, w))(x)
    assert "outstride.conv.default" in [str(node.target) for node in traced.graph.nodes]


def test_a_recording_holds_torchs_operators_and_takes_other_sizes() -> None:
    model = _Model()
    traced = torch.jit.trace(model, _tensors((1, 3, 8, 8))[0])
    assert "outstride::" not in str(traced.graph)
    other = _tensors((2, 3, 11, 9))[0]
    assert_within_roundings(traced(other), model(other), 100, "torch sums in another order")


def test_tensors_that_only_the_dispatcher_understands() -> None:
    x, w, bias = _tensors((1, 3, 6, 6), (4, 3, 3, 3), (4,))
    expected = functional.conv2d(x, w, bias)
    assert_same_bits(functional.conv2d(torch._neg_view(-x), w, bias), expected)
    zero = torch._efficientzerotensor(x.shape, dtype=x.dtype)
    assert_same_numbers(functional.conv2d(zero, w), torch.zeros_like(expected))

    class Labelled(torch.Tensor):
        pass

    labelled = functional.conv2d(x.as_subclass(Labelled), w, bias)
    assert type(labelled) is Labelled
    assert_same_bits(labelled.as_subclass(Tensor), expected)
    with torch.device("meta"):
        assert functional.conv2d(torch.empty(1, 3, 6, 6), torch.empty(4, 3, 3, 3)).is_meta
        assert_same_bits(functional.conv2d(x, w, bias), expected)


def test_a_dual_number_is_not_lost_on_the_direct_way() -> None:
    x, w, tangent = _tensors((1, 2, 5), (2, 2, 3), (1, 2, 5))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        result = torch.autograd.forward_ad.unpack_dual(functional.conv1d(dual, w)).tangent
        assert result is not None
        assert_same_bits(result, functional.conv1d(tangent, w))


def test_inference_mode_and_no_grad_take_the_direct_way() -> None:
    x, w = _tensors((1, 2, 5), (2, 2, 3))
    assert contractions.is_direct(x, w, None)
    with torch.inference_mode():
        y = x.clone()
        assert contractions.is_direct(y, torch.nn.Parameter(w), None)
        assert_same_bits(functional.conv1d(y, w).clone(), functional.conv1d(x, w))
    assert not contractions.is_direct(x.to("meta"), w, None)
    assert not contractions.is_direct(x, w.to_sparse(), None)


def test_the_engines_dtypes() -> None:
    assert {torch.float32, torch.float64, torch.bfloat16, torch.float16} == shapes.ENGINE_DTYPES
