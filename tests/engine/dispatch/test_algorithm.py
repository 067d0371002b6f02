"""``algorithm`` on every way from a call to the engine: the same name arrives, derivatives included."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, func
from torch._decomp import decomposition_table
from torch.fx.experimental.proxy_tensor import make_fx

from outstride import functional
from outstride.engine.launch import call_cache
from outstride.errors import OutstrideError
from outstride.layer.shortening import ALGORITHMS
from tests.asking import asked
from tests.tolerance import assert_same_bits, assert_same_numbers

OPERATORS = torch.ops.outstride
_NAMES = [f"conv{transpose}{nd}d" for transpose in ("", "_transpose") for nd in (1, 2, 3)]
_either = pytest.mark.parametrize("algorithm", ALGORITHMS)
_by_name = pytest.mark.parametrize("name", _NAMES)
REFUSAL = "'algorithm' must be one of its names: got algorithm='fast'; legal: 'auto', 'direct'"


def _operands(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    nd, generator = int(name[-2]), torch.Generator().manual_seed(3)
    shapes = (2, 16, *[7] * nd), (16, 16, *[3] * nd), (16,)
    x, w, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    return x, w, bias


def _call(name: str, algorithm: str, **more: Any) -> Callable[..., Tensor]:
    function = getattr(functional, name)
    return lambda x, w, bias: function(x, w, bias, stride=1, padding=1, algorithm=algorithm, **more)


@_either
@_by_name
def test_small_integers_are_exact(name: str, algorithm: str) -> None:
    operands = tuple((4 * t).round().clamp(-4, 4) for t in _operands(name))
    expected = getattr(F, name)(*operands, padding=1)
    assert_same_numbers(_call(name, algorithm)(*operands), expected)


@_either
@_by_name
def test_derivatives_of_any_order_ask_for_the_same(name: str, algorithm: str) -> None:
    operands = [t.requires_grad_() for t in _operands(name, torch.float64)]
    with asked() as names:
        results: tuple[Tensor, ...] = (_call(name, algorithm)(*operands),)
        counts = [len(names)]
        for _ in range(3):
            total = torch.stack([result.pow(3).sum() for result in results]).sum()
            results = torch.autograd.grad(total, operands, create_graph=True)
            counts.append(len(names))
        assert sorted(set(counts)) == counts
    assert set(names) == {algorithm}


@_either
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@_by_name
def test_transforms_and_borders_ask_for_the_same(name: str, mode: str, algorithm: str) -> None:
    operands = _operands(name)
    call = _call(name, algorithm, padding_mode=mode)

    def squared(*operands: Tensor) -> Tensor:
        return call(*operands).pow(2).sum()

    with asked() as names:
        func.grad(squared, (0, 1, 2))(*operands)
        func.jvp(lambda x: call(x, *operands[1:]), operands[:1], operands[:1])
        for dims in itertools.product((0, None), repeat=3):
            if any(dim is not None for dim in dims):
                wide = [
                    t if d is None else t.expand(2, *t.shape) for t, d in zip(operands, dims, strict=True)
                ]
                func.vmap(func.grad(squared, (0, 1, 2)), dims)(*wide)
        with torch.autocast("cpu"):
            call(*(t.requires_grad_() for t in operands)).sum().backward()
    # A layer that mapped ones are folded into is direct where each alone is.
    assert {algorithm} <= set(names) <= {algorithm, "direct"}


@_either
def test_guarded_and_resized_calls_are_of_one_algorithm(algorithm: str) -> None:
    x, w, _ = _operands("conv2d")
    other = "direct" if algorithm == "auto" else "auto"
    with asked() as names:
        for size in (7, 7, 7, 6, 5, 4, 6, 7):
            functional.conv2d(x[..., :size].contiguous(), w, algorithm=algorithm)
        assert set(names) == {algorithm}
        names.clear()
        functional.conv2d(x, w, algorithm=other)
        assert set(names) == {other}
        names.clear()
        functional.conv2d(x[..., :5].contiguous(), w, algorithm=other)
        assert set(names) == {other}
        names.clear()
        functional.conv2d(x, w, algorithm=algorithm)
        functional.conv2d(x, w, algorithm=other)
        assert names == [], "both are guarded by now"


@_either
@pytest.mark.parametrize("name", ["conv", "conv_transpose", "conv_weight"])
def test_operators_take_it_last(name: str, algorithm: str) -> None:
    x, w, bias = _operands("conv2d")
    tail: list[Any] = [[1, 1], [1, 1], [7, 7], [1, 1], 1]
    arguments: list[Any] = (
        [x, w, bias, *tail] if name != "conv_weight" else [x, x, [3, 3], *tail[:2], *tail[3:]]
    )
    operator = getattr(OPERATORS, name)
    schema = operator.default._schema
    assert schema.arguments[-1].name == "algorithm"
    assert schema.arguments[-1].default_value == "auto"
    with asked() as names:
        by_place, by_name = operator(*arguments, algorithm), operator(*arguments, algorithm=algorithm)
    assert set(names) == {algorithm}
    assert_same_bits(by_place, by_name)
    arguments = [t.requires_grad_() if isinstance(t, Tensor) else t for t in arguments]
    results = torch.library.opcheck(operator.default, (*arguments, algorithm))
    assert set(results.values()) == {"SUCCESS"}


@_either
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_graphs_hold_it(name: str, algorithm: str) -> None:
    x, w, bias = _operands(name)
    call = _call(name, algorithm)

    def squared(x: Tensor) -> Tensor:
        return call(x, w, bias).pow(2).sum()

    graph = make_fx(func.grad(squared))(x).graph
    ours = [node for node in graph.nodes if "outstride.conv" in str(node.target)]
    assert len(ours) == 2
    assert all(("direct" in node.args) == (algorithm == "direct") for node in ours)


@_either
def test_compiled_calls_ask_for_the_same(algorithm: str) -> None:
    torch._dynamo.reset()
    operands = [t.requires_grad_() for t in _operands("conv2d")]
    call = _call("conv2d", algorithm)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    with asked() as names:
        found = compiled(*operands)
        gradients = torch.autograd.grad(found.sum(), operands)
    assert set(names) == {algorithm}
    assert_same_bits(found, call(*operands))
    for a, b in zip(gradients, torch.autograd.grad(call(*operands).sum(), operands), strict=True):
        assert_same_bits(a, b)


class _Model(torch.nn.Module):
    def __init__(self, algorithm: str) -> None:
        super().__init__()
        self.algorithm = algorithm
        _, w, bias = _operands("conv2d")
        self.w, self.bias = torch.nn.Parameter(w), torch.nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        up = functional.conv_transpose2d(x, self.w, self.bias, 2, algorithm=self.algorithm)
        return functional.conv2d(up, self.w, self.bias, algorithm=self.algorithm)


@_either
@pytest.mark.parametrize("strict", [True, False])
def test_a_saved_program_keeps_it(strict: bool, algorithm: str) -> None:
    model, x = _Model(algorithm), _operands("conv2d")[0]
    program, file = torch.export.export(model, (x,), strict=strict), io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for each in (program, torch.export.load(file), program.run_decompositions({})):
        with asked() as names:
            found = each.module()(x)
        assert set(names) == {algorithm}
        assert_same_bits(found, model(x))


def test_a_decomposition_into_torchs_operators_leaves_it_out() -> None:
    x, w, bias = _operands("conv2d")
    table = {
        name.default: decomposition_table[name.default] for name in (OPERATORS.conv, OPERATORS.conv_transpose)
    }
    for name in ("conv2d", "conv_transpose2d"):
        call = _call(name, "direct")
        graph = make_fx(call, decomposition_table=table)(x, w, bias).graph
        targets = [str(node.target) for node in graph.nodes if node.op == "call_function"]
        assert targets == ["aten.convolution.default"]


@_either
def test_symbolic_traces_and_recordings(algorithm: str) -> None:
    model, x = _Model(algorithm), _operands("conv2d")[0]
    traced = torch.fx.symbolic_trace(model)
    with asked() as names:
        assert_same_bits(traced(x), model(x))
    assert set(names) == {algorithm}
    recording = torch.jit.trace(model, x)
    assert "outstride::" not in str(recording.graph)


def _served_by_torch(x: Tensor, w: Tensor) -> Tensor:
    return functional.conv2d(x.to(torch.complex64), w.to(torch.complex64), algorithm="fast")


class _Labelled(Tensor):
    pass


REFUSED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "eager": lambda x, w: functional.conv2d(x, w, algorithm="fast"),
    "transposed": lambda x, w: functional.conv_transpose2d(x, w, algorithm="fast"),
    "meta": lambda x, w: functional.conv2d(x.to("meta"), w.to("meta"), algorithm="fast"),
    "torch's kernels": _served_by_torch,
    "subclass": lambda x, w: functional.conv2d(x.as_subclass(_Labelled), w, algorithm="fast"),
    "operator": lambda x, w: OPERATORS.conv(x, w, None, [1, 1], [0, 0], [5, 5], [1, 1], 1, "fast"),
    "operator, by name": lambda x, _: OPERATORS.conv_weight(
        x, x, [1, 1], [1, 1], [0, 0], [1, 1], 1, algorithm="fast"
    ),
    "vmap": lambda x, w: func.vmap(lambda x: functional.conv2d(x, w, algorithm="fast"))(x),
    "grad": lambda x, w: func.grad(lambda x: functional.conv2d(x, w, algorithm="fast").sum())(x),
    "make_fx": lambda x, w: make_fx(lambda x: functional.conv2d(x, w, algorithm="fast"))(x),
    "jit.trace": lambda x, w: torch.jit.trace(lambda x: functional.conv2d(x, w, algorithm="fast"), x),
    "fx": lambda x, w: torch.fx.symbolic_trace(lambda x: functional.conv2d(x, w, algorithm="fast"))(x),
    "compiled": lambda x, w: torch.compile(
        lambda x: functional.conv2d(x, w, algorithm="fast"), backend="aot_eager"
    )(x),
    "export": lambda x, _: torch.export.export(_Model("fast"), (x,), strict=False),
}


@pytest.mark.parametrize("way", REFUSED)
def test_another_name_is_refused_in_one_sentence(way: str) -> None:
    torch._dynamo.reset()
    x, w, _ = _operands("conv2d")
    functional.conv2d(x, w, algorithm="direct")
    with pytest.raises(OutstrideError) as refusal:
        REFUSED[way](x, w)
    assert str(refusal.value) == REFUSAL


@pytest.mark.parametrize("value", [None, 1, True, b"direct", ("direct",), ["direct"], "Direct", ""])
def test_what_is_no_name_is_refused(value: Any) -> None:
    x, w, _ = _operands("conv2d")
    for _ in range(2):
        with pytest.raises(OutstrideError, match="'algorithm' must be one of its names"):
            functional.conv2d(x, w, algorithm=value)


def test_a_name_that_another_module_wrote_is_as_good() -> None:
    """Arguments are told apart by identity: equal strings may be two objects."""
    x, w, _ = _operands("conv2d")
    call_cache.clear()
    first = functional.conv2d(x, w, algorithm="direct")
    assert_same_bits(functional.conv2d(x, w, algorithm="".join(["dir", "ect"])), first)
