"""What torch's tracer is told while a graph of ours is traced changes no bit, and is forgotten behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride.compilation.in_place import quick_in_place
from outstride.compilation.resizing import whole_resizing
from outstride.compilation.tracing import traced_by
from tests.tolerance import assert_same_bits

_META: Any = torch._C.DispatchKey.Meta
_SPECIAL = [
    0.0,
    -0.0,
    6.0,
    6.5,
    -1.0,
    -3.0,
    3.0,
    1e-3,
    20.0,
    -1e-30,
    float("inf"),
    -float("inf"),
    float("nan"),
]

IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: F.relu(x, inplace=True),
    "relu6": lambda x: F.relu6(x, inplace=True),
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.7, inplace=True),
    "one bound": lambda x: F.hardtanh_(x, -float("inf"), -0.0),
    "clamp": lambda x: x.clamp_(-1.0, 1e-3),
    "clamp, of numbers": lambda x: x.clamp_(-1, 6),
    "clamp, from below": lambda x: torch.clamp_min_(x, -0.0),
    "clamp, from above": lambda x: torch.clamp_max_(x, 0.0),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2, inplace=True),
    "threshold": lambda x: F.threshold(x, 0.0, 20.0, inplace=True),
    "silu": lambda x: F.silu(x, inplace=True),
    "hardswish": lambda x: F.hardswish(x, inplace=True),
    "hardsigmoid": lambda x: F.hardsigmoid(x, inplace=True),
    "sigmoid": lambda x: x.sigmoid_(),
    "tanh": lambda x: x.tanh_(),
    "elu": lambda x: F.elu(x, 0.7, inplace=True),
    "celu": lambda x: F.celu(x, 0.7, inplace=True),
    "selu": lambda x: F.selu(x, inplace=True),
    "mish": lambda x: F.mish(x, inplace=True),
}


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Written(nn.Module):
    """Each function in place on values at which a view looks, too; and one on what the model is given."""

    def forward(self, x: Tensor, given: Tensor) -> list[Tensor]:
        made = []
        for part, function in zip(x.unbind(), IN_PLACE.values(), strict=True):
            y = part * 1
            row = y[:, 1:]
            made += [function(y), row + 1]
        return [*made, F.relu6(given, inplace=True)]


def _operands(dtype: torch.dtype, width: int) -> tuple[Tensor, Tensor]:
    x = torch.tensor(_SPECIAL * width, dtype=dtype).reshape(width, -1).t().contiguous()
    return x.repeat(len(IN_PLACE), 1, 1), x.t().flip(0)


def _compiled() -> Callable[..., list[Tensor]]:
    return torch.compile(Written(), backend="outstride", dynamic=True, fullgraph=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_functions_in_place_have_their_bits_where_sizes_are_symbols(dtype: torch.dtype) -> None:
    fast, names = _compiled(), [name for name in IN_PLACE for _ in range(2)]
    for width in (4, 7):
        found, expected = _operands(dtype, width), _operands(dtype, width)
        results = zip(fast(*found), Written()(*expected), [*names, "relu6"], strict=True)
        for one, other, name in results:
            assert_same_bits(one, other, name)
            assert one.stride() == other.stride()
        assert_same_bits(found[1], expected[1], "what was written to")


def test_so_do_their_gradients() -> None:
    def gradients(model: Callable[..., list[Tensor]], width: int) -> Tensor:
        x, given = _operands(torch.float32, width)
        x.requires_grad_()
        torch.stack([y.sum() for y in model(x, given)[:-1:2]]).sum().backward()
        assert x.grad is not None
        return x.grad

    fast = _compiled()
    for width in (4, 7):
        for name, one, other in zip(
            IN_PLACE, gradients(fast, width), gradients(Written(), width), strict=True
        ):
            assert_same_bits(one, other, name)


def test_integers_in_place_are_torchs_to_refuse() -> None:
    x = torch.arange(12, dtype=torch.int32).reshape(3, 4)
    fast = torch.compile(lambda x: F.hardtanh_(x * 1, 2, 5), backend="outstride", dynamic=True)
    assert_same_bits(fast(x), x.clamp(2, 5))
    beyond = torch.compile(lambda x: F.hardtanh_(x * 1, -2, 5), backend="outstride", dynamic=True)
    try:
        expected = F.hardtanh_(x.byte() * 1, -2, 5)
    except RuntimeError:
        with pytest.raises(Exception, match="unsigned type with negative limits"):
            beyond(x.byte())
    else:  # torch 2.15 ends them at 0
        assert_same_bits(beyond(x.byte()), expected)


def test_a_graph_is_traced_without_writing_them_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which asks for every size and stride again and again; behind it all is as it was."""
    played = list[str]()
    operators = quick_in_place()
    for operator in operators:
        noted = partial(_noted, played, operator, operator.py_kernels[_META])
        monkeypatch.setitem(operator.py_kernels, _META, noted)
        operator._dispatch_cache.clear()
    before = {operator: dict(operator.py_kernels) for operator in [*operators, *whole_resizing()]}
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU6(True), nn.SiLU(True), nn.Hardswish(True), nn.ELU(inplace=True)]
    try:
        torch.compile(nn.Sequential(*layers), backend="outstride", dynamic=True)(torch.randn(1, 1, 9, 11))
        assert not played
        assert {operator: dict(operator.py_kernels) for operator in before} == before
    finally:
        monkeypatch.undo()
        for operator in operators:
            operator._dispatch_cache.clear()


def _noted(played: list[str], operator: Any, kernel: Callable[..., Tensor], *given: Any) -> Tensor:
    played.append(str(operator))
    return kernel(*given)


def test_what_fails_while_it_is_traced_leaves_torch_as_it_was() -> None:
    operator = torch.ops.aten.hardtanh_.default
    before = dict(operator.py_kernels)

    def fail() -> None:
        with traced_by(quick_in_place()):
            assert operator.py_kernels[_META] is not before[_META]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert operator.py_kernels == before


RESIZED: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    f"{mode}, {axes}": (axes, partial(F.interpolate, scale_factor=1.5, mode=mode))
    for axes, modes in {
        1: ("nearest", "nearest-exact", "linear"),
        2: ("nearest", "nearest-exact", "bilinear", "bicubic"),
        3: ("nearest", "nearest-exact", "trilinear"),
    }.items()
    for mode in modes
}


@pytest.mark.parametrize("name", RESIZED)
@pytest.mark.parametrize("last", [False, True])
def test_derivatives_of_resizing_take_sizes_that_change(name: str, last: bool) -> None:
    """A graph whose sizes are symbols has them, laid out as torch's."""
    axes, resize = RESIZED[name]
    fast = torch.compile(lambda x: resize(x.sin()), backend="outstride", dynamic=True)
    torch.manual_seed(0)
    for size in (4, 6):
        x = torch.randn(2, *[size] * axes, 3).movedim(-1, 1)
        x = x if last else x.contiguous()
        gradients = list[Tensor]()
        for run in (fast, lambda x: resize(x.sin())):
            given = x.detach().requires_grad_()
            made = run(given)
            gradients += torch.autograd.grad(made, given, made.detach())
        found, expected = gradients
        assert_same_bits(found, expected)
        assert found.stride() == expected.stride()
