"""Which linear functions are computed here: those of the layers that ``accelerate`` serves, and no others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import outstride
from tests.tolerance import assert_same_bits

#: So many that torch's sums of them have other bits.
_WIDE, _NARROW = 130, 48


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Own(nn.Linear):
    """A layer with a ``forward`` of its own, as those of adapters are."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + F.linear(x, self.weight * 0.5)


class Kept(nn.Linear):
    """A layer with another class's name."""


class Function(nn.Module):
    """A matrix that is no layer's, among layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.matrix = nn.Linear(_WIDE, _WIDE), nn.Parameter(torch.randn(_NARROW, _WIDE))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.relu(self.layer(x)), self.matrix)


def replaced() -> nn.Module:
    """A layer whose own ``forward`` was replaced beside one like it, which is called twice."""
    layer = nn.Linear(_WIDE, _WIDE)

    def twice(self: nn.Linear, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) * 2

    vars(layer)["forward"] = MethodType(twice, layer)
    other = nn.Linear(_WIDE, _WIDE)
    return nn.Sequential(other, layer, nn.ReLU(), other)


def wrapped() -> nn.Module:
    """A layer whose ``forward`` is called by what stands in its place, as tools that move weights do."""
    layer = nn.Linear(_WIDE, _NARROW)
    before = layer.forward
    vars(layer)["forward"] = lambda x: before(x + 1)
    return layer


def hooked() -> nn.Module:
    """A layer with hooks that call the function, as adapters without a class do."""
    layer = nn.Linear(_WIDE, _NARROW)
    down, up = torch.randn(8, _WIDE), torch.randn(_NARROW, 8)

    def add(_: nn.Module, given: Any, result: Tensor) -> Tensor:
        return result + F.linear(F.linear(given[0], down), up)

    layer.register_forward_pre_hook(
        lambda _, given: (given[0] + F.linear(given[0], torch.ones(_WIDE, _WIDE)),)
    )
    layer.register_forward_hook(add)
    return nn.Sequential(layer, nn.ReLU())


MODELS: dict[str, Callable[[], nn.Module]] = {
    "own": lambda: Own(_WIDE, _NARROW), "kept": lambda: Kept(_WIDE, _NARROW), "function": Function,
    "replaced": replaced, "wrapped": wrapped, "hooked": hooked,
    "attention": lambda: nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True),
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 13])
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_are_those_of_the_accelerated_model(name: str, rows: int) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    x = torch.randn(2, rows, 64 if name == "attention" else _WIDE)
    served = outstride.accelerate(model)
    fast = torch.compile(model, backend="outstride", fullgraph=True)
    with torch.no_grad():
        for _ in range(2):
            assert_same_bits(fast(x), served(x), name)


@pytest.mark.parametrize("name", ["own", "replaced", "hooked"])
def test_gradients_are_those_of_the_accelerated_model(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    other = copy.deepcopy(model)
    fast = torch.compile(model, backend="outstride", fullgraph=True)
    for run in (fast, outstride.accelerate(other)):
        run(torch.linspace(-1, 1, 3 * _WIDE).view(3, _WIDE)).square().sum().backward()
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert_same_bits(mine.grad, theirs.grad)  # type: ignore[arg-type]  # there are gradients


def test_what_is_added_to_rows_may_come_in_other_memory() -> None:
    """It is read as rows, and is known by the sizes in which it comes."""

    class Adds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)

        def forward(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.second(torch.relu(self.first(x))) + residual
            return made

    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Adds().eval()
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)
    given = [(torch.randn(3, 17, 32), torch.randn(3, 17, 32)) for _ in range(5)]
    with torch.no_grad():
        for inputs in given:
            assert_same_bits(fast(*inputs), served(*inputs))
