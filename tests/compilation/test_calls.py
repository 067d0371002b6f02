"""What torch computes between launches lies in the buffer of values, too, with the bits of a new tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import outstride
from outstride.compilation.calls import by_torch
from tests.fuzz.graphs.tracing import traced
from tests.tolerance import assert_same_bits

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": torch.sin,
    "tanh": torch.tanh,
    "log1p": lambda x: torch.log1p(x.abs()),
    "power": lambda x: x**3,
    "softplus": lambda x: F.softplus(x, 2.0),
    "mish": F.mish,
    "maximum": lambda x: torch.maximum(x, -2 * torch.cos(x)),
    "steps on rows with gaps": lambda x: x[..., 3:-2] * 3 - 0.5,
    "more steps on rows with gaps": lambda x: (x[..., 3:-2] / 3 + 1).square().neg().abs(),
    "a step that is not exact among them": lambda x: (x[..., 3:-2] * 3).sigmoid() * 2,
    "a snake": lambda x: x[..., 1:] + torch.sin(1.5 * x[..., 1:]).square() / 1.5,
    "several at once": lambda x: torch.sin(x) * torch.cos(x) + torch.exp(-x),
}


class Between(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 5, 3), nn.Conv1d(5, 4, 3)
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.second(self._function(self.first(x)))
        return made


class _New(TorchDispatchMode):
    """Notes the operators that make a tensor of each element by itself."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch does not annotate it
        self.operators = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.pointwise in func.tags and "out" not in (kwargs or {}):
            self.operators.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_later_calls_make_no_new_tensors(name: str) -> None:
    torch.manual_seed(0)
    model = Between(FUNCTIONS[name]).eval().requires_grad_(False)
    served, fast = outstride.accelerate(model), traced(model, [torch.zeros(2, 3, 45)])
    for seed in range(4):
        x = 3 * torch.randn(2, 3, 45)
        x[0, 1, seed] = (float("nan"), float("inf"), 0.0, -0.0)[seed]
        with torch.no_grad(), _New() as new:
            found = fast(x)
        with torch.no_grad():
            assert_same_bits(found, served(x), f"call {seed}")
    if name != "a step that is not exact among them":
        assert new.operators == []


def test_what_torch_would_copy_is_called_as_it_is() -> None:
    """Torch has a form of every operator that writes to a tensor; some make a new one for that first."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.empty(1, 3, 8)
    for operator, writes in (
        (torch.ops.aten.sin.default, True),
        (torch.ops.aten.clone.default, False),
        (torch.ops.aten.cumsum.default, False),
    ):
        node = graph.call_function(operator, (x, 2) if not writes and "cumsum" in str(operator) else (x,))
        node.meta["val"] = torch.empty(1, 3, 8)
        assert by_torch(node).takes_out == writes, str(operator)
