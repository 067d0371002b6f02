"""Predicted times: what they are made of, and how they are written. How good they are is in the decision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.tiling.costs import clock
from outstride.tiling.costs.times import cycles_of, writing_cycles
from outstride.tiling.running import TileRun
from tests.tiling.models_to_tile import Function, UNet, seeded
from tests.tiling.passes.models import NNUNet
from tests.tolerance import assert_within


def test_a_plan_says_what_it_takes() -> None:
    plan = tiling.plan(seeded(UNet), (1, 3, 4096, 4096), tile=512)
    assert_within(plan.seconds, 64 * plan.tile_seconds, 1e-9 * plan.seconds, "sums of seconds are rounded")
    assert f"  time          about {clock.spelled(plan.seconds)} on " in str(plan)
    assert plan.to_dict()["predicted_seconds"] == plan.seconds


def test_passes_are_part_of_it() -> None:
    plan = tiling.plan(seeded(lambda: NNUNet((4, 6, 8), (1, 2, 2))), (1, 1, 48, 64, 64), tile=16)
    walks = sum(walk.seconds for walk in plan.schedule.walks)
    assert walks > 0
    tiles = 48 * plan.tile_seconds
    assert_within(plan.seconds, walks + tiles, 1e-9 * plan.seconds, "sums of seconds are rounded")


def test_twice_as_large_a_map_takes_about_twice_as_long() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GELU(), nn.MaxPool2d(2)))
    runs = [TileRun(model, torch.empty(1).expand(1, 8, size, 1024), 2048) for size in (1024, 2048)]
    small, large = (
        cycles_of(run.program, run.program.need(run.output, next(iter(run.plan.boxes())))) for run in runs
    )
    assert 1.8 * small < large < 2.4 * small, "of the larger tensors the system hands out new memory"


def test_a_file_is_dearer_in_short_stretches() -> None:
    node = TileRun(nn.ReLU(), torch.empty(1).expand(1, 8, 512, 512)).node
    rows, columns = (((0, 1), (0, 8), *box) for box in (((0, 64), (0, 512)), ((0, 512), (0, 64))))
    assert writing_cycles(node, columns, False) > 5 * writing_cycles(node, rows, False)
    assert writing_cycles(node, columns, True) == writing_cycles(node, rows, True)


def test_a_square_is_a_product() -> None:
    x = torch.empty(1).expand(1, 8, 512, 512)
    square, power = (TileRun(Function(raised), x, 512) for raised in (lambda x: x**2, lambda x: x**3.5))
    assert square.plan.tile_seconds < power.plan.tile_seconds / 2


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0123, "0.012 s"), (2.34, "2.3 s"), (43.2, "43 s"), (1234, "21 min"), (9000, "2.5 h")],
)
def test_seconds_are_written_with_a_unit(seconds: float, said: str) -> None:
    assert clock.spelled(seconds) == said
