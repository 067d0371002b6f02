"""Few rows times a matrix: weights are read where they lie, with the bits of packed ones."""

from __future__ import annotations

from itertools import product
from typing import Literal

import pytest
import torch
from torch import Tensor

import outstride
from outstride import functional
from outstride.engine import runtime
from outstride.engine.launch.execute import gather_run, weight_run
from outstride.engine.launch.fused import fused_run
from outstride.engine.launch.gradients.few_rows import MOST_ROWS as MOST_SUMMED
from outstride.engine.launch.weights.packing import PACKED
from outstride.engine.planner.dataflows.unpacked import MOST_ROWS as MOST
from outstride.engine.planner.steps import Step
from tests.environments import threads
from tests.guard import GuardedPages
from tests.poison import poison
from tests.tolerance import assert_equal_values, assert_same_bits

_Operator = Literal["conv", "conv_transpose"]
_OPERATORS: tuple[_Operator, ...] = ("conv", "conv_transpose")
#: Channels and outputs: parts of vectors and of tiles, several tasks, fewer than a vector.
_SIZES = ((64, 96), (70, 33), (131, 1100), (1, 9), (9, 1), (530, 17))
_FEW, _TRAINED = MOST["seldom"], MOST["always"]
#: And on how many threads.
_ROWS = ((1, 1), (2, 3), (3, 1), (_FEW, 2))
_NONE: tuple[int, ...] = ()


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def weight(operator: _Operator, channels: int, outputs: int, dtype: torch.dtype) -> Tensor:
    shape = (outputs, channels) if operator == "conv" else (channels, outputs)
    return drawn(*shape, dtype=dtype, seed=1)


def apart(rows: Tensor) -> Tensor:
    """Rows as the pixels of one row of an image, in which nothing lies side by side."""
    return rows.t().repeat_interleave(2, 1)[None, :, ::2]


def packed(operator: _Operator, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """The same by pixels of an image, for which weights are packed."""
    lying = apart(x)
    numbers = ((1,), (0,), (x.shape[0],), (1,), 1)
    before = len(PACKED)
    result = gather_run(operator, lying, w.unsqueeze(-1), *numbers)(lying, w.unsqueeze(-1), bias)
    assert len(PACKED) > before
    return result[0].t()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("operator", _OPERATORS)
def test_the_bits_are_those_of_packed_weights(operator: _Operator, dtype: torch.dtype) -> None:
    for channels, outputs in _SIZES:
        x, w = drawn(_FEW + 2, channels, dtype=dtype), weight(operator, channels, outputs, dtype)
        bias = drawn(outputs, dtype=dtype, seed=2)
        expected = packed(operator, x, w, bias)
        for isa, (rows, count), lying in product(runtime.available(), _ROWS, ("as it is", "turned")):
            given = w.clone() if lying == "as it is" else w.t().clone().t()
            with runtime.instruction_set(isa), threads(count), GuardedPages() as pages:
                some, given, own = (pages.copy(t, "end") for t in (x[:rows], given, bias))
                found = gather_run(operator, some, given, _NONE, _NONE, _NONE, _NONE, 1)(some, given, own)
                assert not PACKED.forms(given), "weights were packed"
                assert_same_bits(found, expected[:rows], f"{channels} to {outputs}, {rows} rows, {isa}")


@pytest.mark.parametrize("operator", _OPERATORS)
def test_steps_follow_and_nothing_beside_the_result_is_written(operator: _Operator) -> None:
    steps = (Step("leaky_relu", (0.125,)), Step("add", (), ("tensor",)))
    numbers = (_NONE, _NONE, _NONE, _NONE, 1)
    for rows in (1, 3, _FEW):
        x, w, bias = drawn(rows, 70), weight(operator, 70, 45, torch.float32), drawn(45, seed=2)
        residual = drawn(rows, 45, seed=3)
        expected = torch.nn.functional.leaky_relu(packed(operator, x, w, bias), 0.125) + residual
        around = torch.full((rows, 60), float("inf"))
        out = around[:, 7:52]
        out.copy_(residual)
        run = fused_run(operator, x, w, *numbers, "auto", steps, out)
        assert run.declined is None
        assert_same_bits(run(x, w, bias, [out], out), expected, f"{rows} rows, in the residual's place")
        assert_equal_values(around.isinf().sum(), torch.tensor(15 * rows), "something else was written")


def test_a_step_before_it_lets_weights_be_packed() -> None:
    x, w = drawn(2, 70), drawn(40, 70, seed=1)
    numbers = (_NONE, _NONE, _NONE, _NONE, 1)
    run = fused_run("conv", x, w, *numbers, "auto", (), None, (Step("relu"),))
    assert_same_bits(run(x, w, None, []), packed("conv", x.relu(), w.clone(), None))


@pytest.mark.parametrize("operator", _OPERATORS)
def test_weights_that_are_rewritten_are_read_as_they_lie_for_more_rows(operator: _Operator) -> None:
    x, w = drawn(_TRAINED + 1, 70), weight(operator, 70, 45, torch.float32)
    expected = packed(operator, x, w, None)
    for isa, rows in product(runtime.available(), (_FEW + 1, _TRAINED, _TRAINED + 1)):
        with runtime.instruction_set(isa), poison():
            given, some = w.clone(), x[:rows]
            run = gather_run(operator, some, given, _NONE, _NONE, _NONE, _NONE, 1, rewritten=True)
            assert_same_bits(run(some, given), expected[:rows], f"{rows} rows, {isa}")
            assert bool(PACKED.forms(given)) == (rows > _TRAINED)


def test_layers_that_are_trained_pack_nothing() -> None:
    x, w = drawn(20, 70).requires_grad_(), drawn(40, 70, seed=1).requires_grad_()
    functional.linear(x, w).square().sum().backward()
    assert not PACKED.forms(w)
    with torch.no_grad():
        functional.linear(x[:10], w)
    assert PACKED.forms(w)


def test_compiled_layers_that_are_trained_read_weights_where_they_lie() -> None:
    """As others do, and with their bits."""
    torch.manual_seed(4)
    layers = torch.nn.Linear(70, 40), torch.nn.Linear(40, 24)
    plain = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
    x = drawn(_TRAINED, 70)
    results: list[list[Tensor | None]] = []
    for model in (outstride.accelerate(plain), torch.compile(plain, backend="outstride")):
        for _ in range(3):
            plain.zero_grad()
            made = model(x)
            made.square().sum().backward()
        assert not any(PACKED.forms(layer.weight) for layer in layers)
        results.append([made.detach(), *(layer.weight.grad for layer in layers)])
        outstride.restore(plain)
    for found, expected in zip(*results, strict=True):
        assert found is not None
        assert expected is not None
        assert_same_bits(found, expected)
    with torch.no_grad():
        torch.compile(plain, backend="outstride")(x)
    assert PACKED.forms(layers[0].weight), "a graph that is not differentiated packs them"


def test_frozen_weights_are_packed_unless_one_row_reads_them_from_the_cache() -> None:
    for rows, outputs in ((1, 300), (2, 300), (1, 3000)):
        x, w = drawn(rows, 130), drawn(outputs, 130, seed=1)
        PACKED.freeze(w)
        run = gather_run("conv", x, w, _NONE, _NONE, _NONE, _NONE, 1)
        assert_same_bits(run(x, w), packed("conv", x, w.clone(), None))
        assert bool(PACKED.forms(w)) == (rows > 1 or outputs > 300)


def test_what_is_written_to_a_weight_is_seen() -> None:
    x, w = drawn(1, 70), drawn(40, 70, seed=1)
    run = gather_run("conv", x, w, _NONE, _NONE, _NONE, _NONE, 1)
    run(x, w)
    w.data[3, 5] = 7.0
    assert_same_bits(run(x, w), packed("conv", x, w, None))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_where_it_is(value: float) -> None:
    for operator, rows in product(_OPERATORS, (1, 3)):
        x, w = drawn(rows, 70), weight(operator, 70, 45, torch.float32)
        w[8, 9] = value
        run = gather_run(operator, x, w, _NONE, _NONE, _NONE, _NONE, 1)
        column = 8 if operator == "conv" else 9
        spoiled = ~run(x, w).isfinite()
        assert spoiled[:, column].all()
        assert_equal_values(spoiled.sum(), torch.tensor(rows), operator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_gradients_have_the_bits_of_packed_rows(dtype: torch.dtype) -> None:
    for channels, outputs in (*_SIZES[:3], (5, 130)):
        for rows in (1, 2, 7, MOST_SUMMED, MOST_SUMMED + 1):
            x, y = drawn(rows, channels, dtype=dtype), drawn(rows, outputs, dtype=dtype, seed=1)
            x[:, 0] = -0.0
            lying, beside = apart(x), apart(y)
            numbers = ((1,), (0,), (1,), 1)
            expected = weight_run(lying, beside, (1,), *numbers)(lying, beside).squeeze(-1)
            for isa in runtime.available():
                for count, lies in ((1, y), (3, y.t().contiguous().t())):
                    with runtime.instruction_set(isa), threads(count), GuardedPages() as pages:
                        some, given = (pages.copy(t, "end") for t in (x, lies))
                        found = weight_run(some, given, _NONE, _NONE, _NONE, _NONE, 1)(some, given)
                        assert_same_bits(found, expected, f"{channels} to {outputs}, {rows} rows, {isa}")


def test_weight_gradients_that_are_not_finite_meet_no_padding() -> None:
    x, y = drawn(5, 70), drawn(5, 45, seed=1)
    x[3, 8] = float("inf")
    found = weight_run(x, y, _NONE, _NONE, _NONE, _NONE, 1)(x, y)
    assert not found[:, 8].isfinite().any()
    assert_equal_values((~found.isfinite()).sum(), torch.tensor(45))
