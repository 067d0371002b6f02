"""Whatever a task of a weight gradient takes of pixels, channels and outputs: its sums have one order."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.launch.gradients.gradient import GradientCall, gradient_call
from outstride.engine.planner.gradients import direct as gradient_direct
from outstride.engine.planner.gradients import gradient
from outstride.engine.planner.gradients.plan import GradientPlan
from tests.layouts import laid_out
from tests.poison import poison
from tests.tolerance import assert_same_bits


class Layer(NamedTuple):
    """A convolution by the shapes of its input and of its output's gradient."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def call(self, x: Tensor, y: Tensor, threads: int = 1) -> GradientCall:
        """Its bound weight gradient."""
        call = gradient_call(
            x, y, self.kernel, self.stride, self.padding, self.dilation, self.groups, threads
        )
        assert isinstance(call, GradientCall)
        return call

    def choices(self, x: Tensor, y: Tensor) -> list[GradientPlan]:
        """All that the planner chooses from, or a dozen of them where they are many."""
        found = list(gradient_direct._candidates(self.call(x, y).plan))
        return found[:: max(1, len(found) // 12)]


LAYERS = {
    "planes in a box": Layer(
        (2, 20, 7, 12, 11), (2, 70, 7, 12, 11), (3, 1, 3), (1, 1, 1), (1, 0, 1), (1, 1, 1)
    ),
    "images in a box": Layer((7, 19, 14, 15), (7, 70, 14, 15), (3, 3), (1, 1), (1, 1), (1, 1)),
    "a box of one row": Layer((1, 13, 1500), (1, 70, 1500), (3,), (1,), (1,), (1,)),
    "one split": Layer((2, 64, 16, 18), (2, 450, 8, 9), (4, 4), (2, 2), (1, 1), (1, 1)),
    "slabs of channels": Layer((1, 70, 64, 62), (1, 9, 32, 31), (4, 4), (2, 2), (1, 1), (1, 1)),
    "much padding": Layer((1, 9, 24, 26), (1, 40, 24, 26), (3, 3), (1, 1), (15, 15), (15, 15)),
    "groups": Layer((3, 14, 24, 26), (3, 20, 12, 13), (2, 2), (2, 2), (0, 0), (1, 1), 2),
    "one channel, one pixel": Layer((1, 1, 1, 1), (1, 4, 1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    "steps beyond the kernel": Layer((2, 5, 40, 41), (2, 9, 14, 14), (2, 2), (3, 3), (0, 0), (1, 1)),
}


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", LAYERS)
def test_every_choice_gives_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = LAYERS[name]
    x, y = drawn(layer.x, 1), drawn(layer.y, 2)
    expected = None
    for layout in ("contiguous", "channels_last", "sliced"):
        first, second = laid_out(x, layout), laid_out(y, layout)
        for isa in runtime.available():
            with runtime.instruction_set(isa), poison():
                for plan in layer.choices(first, second):
                    monkeypatch.setattr(gradient, "direct_shares", lambda *_, chosen=plan: chosen)
                    found = layer.call(first, second, 2)(first, second)
                    monkeypatch.undo()
                    expected = found if expected is None else expected
                    assert_same_bits(found, expected, f"{layout}, {isa}, {plan.part}")


def test_there_are_choices_of_every_kind() -> None:
    """Else the test above would not see them."""
    layers = LAYERS.values()
    plans = [plan for layer in layers for plan in layer.choices(drawn(layer.x, 1), drawn(layer.y, 2))]
    assert {sum(a < b for a, b in zip(p.part, p.box, strict=True)) for p in plans} == {0, 1}
    assert {p.writes for p in plans} == {p.by_tap for p in plans} == {True, False}
    assert any(1 < p.blocks_per_chunk < p.output_blocks for p in plans)
    assert any(p.channels_per_slab < p.channels_per_block < p.problem.channels for p in plans)
