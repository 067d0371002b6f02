"""Layers of one position run as matrix products, with the bits that they have among other positions."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.launch.execute import gather_run
from outstride.engine.launch.fused import fused_run
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.plans import plan_of
from outstride.engine.planner.steps import Step
from tests.tolerance import assert_same_bits

_ONES, _NONE = (1, 1), (0, 0)
_DIRECT: Literal["direct"] = "direct"


@pytest.mark.parametrize("isa", runtime.available())
@pytest.mark.parametrize(("channels", "outputs"), [(150, 6), (64, 48), (10, 130), (1, 9)])
def test_one_position_has_the_bits_that_it_has_among_others(channels: int, outputs: int, isa: str) -> None:
    torch.manual_seed(2)
    x, w, bias = torch.randn(1, channels, 1, 2), torch.randn(outputs, channels, 1, 1), torch.randn(outputs)
    residual = torch.randn(1, outputs, 1, 1)
    with runtime.instruction_set(isa):
        both = gather_run("conv", x, w, _ONES, _NONE, (1, 2), _ONES, 1, "direct")(x, w, bias)
        one = x[..., 1:].contiguous()
        layer = (w, _ONES, _NONE, _ONES, _ONES, 1, _DIRECT)
        for lying in (one, one.to(memory_format=torch.channels_last), x[..., 1:]):
            assert_same_bits(gather_run("conv", lying, *layer)(lying, w, bias), both[..., 1:])
            steps = (Step("add", (), ("tensor",)), Step("relu"))
            found = fused_run("conv", lying, *layer, steps)(lying, w, bias, [residual])
            assert_same_bits(found, torch.relu(both[..., 1:] + residual))


@pytest.mark.parametrize("strides", [(64, 1, 1, 1), (64, 1, 64, 64)])
def test_sizes_of_one_do_not_tell_where_channels_lie(strides: tuple[int, ...]) -> None:
    x, w = torch.empty_strided((1, 64, 1, 1), strides), torch.empty(48, 64, 1, 1)
    plan = plan_of(Operands("conv", x, w, torch.empty(1, 48, 1, 1), _ONES, _NONE, _ONES, 1), 1)
    assert (plan.problem.in_unit, plan.problem.out_unit) == ("channel", "channel")
    assert plan.tile.rows == 1, "no lanes are lost to pixels that are not there"
