"""Weights that are trained: no snapshot is taken, as the next use finds another weight; a write is seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import outstride.nn
from outstride.engine.launch.weights.packing import PACKED
from tests.tolerance import assert_same_bits


def _layer() -> nn.Conv2d:
    torch.manual_seed(3)
    return outstride.nn.Conv2d(24, 40, 3, padding=1)


def _input() -> Tensor:
    return torch.randn(1, 24, 9, 17, generator=torch.Generator().manual_seed(5))


def _used_once(weight: Tensor) -> list[bool]:
    return [PACKED._entries[form].is_used_once for form in PACKED.forms(weight)]


def _step(layer: nn.Module, x: Tensor, uses: int = 1) -> None:
    for parameter in layer.parameters():
        parameter.grad = None
    for _ in range(uses):
        layer(x).square().mean().backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            assert parameter.grad is not None
            parameter.sub_(parameter.grad)


def _fresh(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Of a weight that nobody has seen."""
    with torch.no_grad():
        return outstride.functional.conv2d(x, layer.weight.detach().clone(), layer.bias, padding=1)


def test_nobody_takes_a_snapshot_of_a_weight_that_is_written_to_before_each_use() -> None:
    layer, x = _layer(), _input().requires_grad_()
    _step(layer, x)
    assert _used_once(layer.weight) == [False, False], "nobody knows yet that it is trained"
    for _ in range(2):
        _step(layer, x)
        assert _used_once(layer.weight) == [True, True]


@pytest.mark.parametrize("counted", [True, False])
def test_a_write_is_seen_by_the_next_use(*, counted: bool) -> None:
    layer, x = _layer(), _input().requires_grad_()
    for _ in range(3):
        _step(layer, x)
    for _ in range(4):
        with torch.no_grad():
            if counted:
                layer.weight[1, 2, 0, 1] += 1
            else:
                layer.weight.data[1, 2, 0, 1] += 1
            assert_same_bits(layer(x), _fresh(layer, x))


def test_what_is_used_again_is_looked_at_and_kept() -> None:
    layer, x = _layer(), _input()
    for _ in range(3):
        _step(layer, x)
    with torch.no_grad():
        kept = []
        for _ in range(4):
            assert_same_bits(layer(x), _fresh(layer, x))
            (form,) = PACKED.forms(layer.weight)
            kept.append(PACKED._entries[form].packed)
    assert kept[1] is kept[2] is kept[3], "it was packed anew though it had not changed"


def test_a_weight_that_is_used_twice_in_each_step_is_packed_once_in_each() -> None:
    layer, x = _layer(), _input()
    for _ in range(4):
        _step(layer, x, uses=2)
    assert _used_once(layer.weight) == [False]


def test_writes_between_calls_of_a_compiled_training_are_seen() -> None:
    layer, x = _layer(), _input()
    model = nn.Sequential(layer, nn.ReLU())
    compiled = torch.compile(model, backend="outstride")
    for turn in range(6):
        made = compiled(x)
        assert_same_bits(made.detach(), _fresh(layer, x).relu())
        made.sum().backward()
        with torch.no_grad():
            (layer.weight if turn % 2 else layer.weight.data)[3, 1, 2, 0] += 1
