"""Layers whose channels lie side by side store results where they belong, wherever pixels lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from outstride.engine.launch.execute import gather_run
from outstride.engine.launch.fused import fused_run
from outstride.engine.planner.steps import Step
from tests.tolerance import assert_same_bits

_STEPS = (Step("leaky_relu", (0.125,)), Step("add", (), ("tensor",)))
_LAYERS = {
    "many": ((2, 24, 9, 11), (72, 24, 1, 1), 1, (0, 0)),
    "partial": ((1, 40, 7, 7), (45, 40, 3, 3), 1, (1, 1)),
    "few": ((1, 5, 6, 8), (13, 5, 3, 3), 1, (1, 1)),
    "depthwise": ((2, 60, 9, 8), (60, 1, 3, 3), 60, (1, 1)),
    "planes": ((1, 32, 12, 7, 19), (64, 32, 1, 1, 1), 1, (0, 0, 0)),
    "deep": ((1, 16, 13, 7, 14), (16, 16, 3, 3, 3), 1, (1, 1, 1)),
    "deep-depthwise": ((1, 24, 5, 6, 7), (24, 1, 3, 3, 3), 24, (1, 1, 1)),
    "few-depthwise": ((1, 9, 5, 5), (9, 1, 5, 5), 9, (2, 2)),
}


def _places(like: Tensor) -> dict[str, Tensor]:
    """Memory for a result: as channels_last has it; rows, images or pixels further apart; contiguous."""
    n, c, *planes, h, w = like.shape
    return {
        "channels_last": torch.empty(n, *planes, h, w, c).movedim(-1, 1),
        "rows apart": torch.empty(n, *planes, h, w + 3, c).movedim(-1, 1)[..., :w],
        "pixels apart": torch.empty(n, *planes, h, w, c + 7).movedim(-1, 1)[:, 3 : 3 + c],
        "planes apart": torch.empty(n, *planes, h + 1, w, c).movedim(-1, 1)[..., 1:, :],
        "contiguous": torch.empty_like(like),
    }


@pytest.mark.parametrize("steps", [(), _STEPS], ids=["plain", "steps"])
@pytest.mark.parametrize("name", _LAYERS)
def test_results_are_the_same_wherever_they_lie(name: str, steps: tuple[Step, ...]) -> None:
    shape, weight, groups, padding = _LAYERS[name]
    torch.manual_seed(1)
    x, w, bias = torch.randn(shape), torch.randn(weight), torch.randn(weight[0])
    size = shape[2:]
    ones = (1,) * len(size)
    numbers = (ones, padding, size, ones, groups)
    expected = gather_run("conv", x, w, *numbers, "direct")(x, w, bias)
    residual = torch.randn_like(expected)
    if steps:
        expected = torch.nn.functional.leaky_relu(expected, 0.125) + residual
    lying = x.movedim(1, -1).contiguous().movedim(-1, 1)
    for place, out in _places(expected).items():
        around = out.untyped_storage().nbytes() // 4
        whole = torch.as_strided(out, (around,), (1,), 0)
        whole.fill_(float("inf"))
        own = torch.empty_strided(out.shape, out.stride()).copy_(residual)
        if steps:
            found = fused_run("conv", lying, w, *numbers, "direct", steps, out)(lying, w, bias, [own], out)
        else:
            found = gather_run("conv", lying, w, *numbers, "direct", out)(lying, w, bias, out)
        assert_same_bits(found, expected, f"{name}, {place}")
        untouched = int(whole.isinf().sum())
        assert untouched == around - expected.numel(), f"{name}, {place}: something else was written"
