"""Plans of tiles: what they take, what needs every pixel, and that they cover the result once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.errors import ShapeError, UnsupportedError
from outstride.tiling.budget import budget_of
from tests.tiling.models_to_tile import Function, UNet, conv, seeded
from tests.tiling.passes.models import SqueezeExcite, generator
from tests.tiling.shifted_windows import ShiftedWindows


def test_a_plan_keeps_within_memory_and_says_what_it_takes() -> None:
    plan = tiling.plan(seeded(UNet), (1, 3, 60000, 60000), memory="200 MB")
    assert plan.peak_bytes <= 200_000_000 < plan.whole_bytes
    assert len(plan) == np.prod(plan.counts) == len(list(plan.boxes()))
    assert 1 < plan.recomputed < 1.3
    assert "60000 x 60000" in str(plan)
    assert plan.to_dict()["tiles"] == len(plan)


def test_the_peak_is_that_of_the_tensors_made() -> None:
    plan = tiling.plan(conv(3, 8, 3, padding=1), (1, 3, 100, 100), tile=100)
    assert plan.taken.tensors == 4 * (3 + 8) * 100 * 100
    assert plan.peak_bytes == plan.whole_bytes == plan.taken.tensors + plan.taken.kept


def test_what_needs_every_pixel_is_named() -> None:
    model = Function(lambda x: x * x.flatten(2).softmax(2).reshape(x.shape))
    plan = tiling.plan(model, (1, 4, 1000, 1000), tile=100)
    assert plan.kept == ("softmax",)
    assert "every pixel" in str(plan)
    with pytest.raises(ShapeError, match=r"'memory' must hold one tile.*softmax needs every pixel"):
        tiling.plan(model, (1, 4, 1000, 1000), memory="1 MB")


#: Operators that look far or at everything, each beside layers where that is how it is met.
LOOKING: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (lambda: nn.Conv2d(3, 8, 3, padding=1), (1, 3, 300, 260)),
    "pooled": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)),
               (1, 3, 300, 260)),
    "adaptive_pool": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(5)), (1, 3, 300, 260)),
    "softmax": (lambda: Function(lambda x: x.softmax(1)), (1, 8, 300, 260)),
    "softmax_of_rows": (lambda: Function(lambda x: x.softmax(3)), (1, 8, 300, 260)),
    "shifted_windows": (lambda: nn.Sequential(nn.Conv2d(3, 8, 4, 4), ShiftedWindows(8, 8, 2, 4)),
                        (1, 3, 640, 640)),
    "instance_norm": (lambda: normed(nn.InstanceNorm2d(8)), (1, 3, 300, 260)),
    "group_norm": (lambda: normed(nn.GroupNorm(2, 8)), (1, 3, 300, 260)),
    "layer_norm_of_maps": (lambda: normed(nn.LayerNorm([300, 260])), (1, 3, 300, 260)),
    "layer_norm": (lambda: normed(nn.LayerNorm([8, 300, 260])), (1, 3, 300, 260)),
    "of_long_rows": (lambda: normed(nn.InstanceNorm2d(8)), (1, 3, 20, 9000)),
    "excite": (lambda: normed(SqueezeExcite(8)), (1, 3, 300, 260)),
    "variance": (lambda: Function(lambda x: x / x.var((2, 3), keepdim=True)), (1, 8, 300, 260)),
    "largest": (lambda: Function(lambda x: x / x.amax((2, 3), keepdim=True)), (1, 8, 300, 260)),
    "instance_norms_of_volumes": (lambda: twice_normed(nn.InstanceNorm3d), (1, 1, 40, 60, 70)),
    "group_norms_of_volumes": (lambda: twice_normed(lambda n: nn.GroupNorm(2, n)), (1, 1, 40, 60, 70)),
    "generator": (generator, (1, 3, 200, 180)),
}  # fmt: skip
#: Share of a budget that boxes take at least, where there are several: they are cut by halves.
_FILLED = 0.2


def normed(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm, nn.Conv2d(8, 3, 3, padding=1))


def twice_normed(norm: Callable[[int], nn.Module]) -> nn.Module:
    before = nn.Conv3d(1, 8, 3, padding=1), norm(8)
    return nn.Sequential(*before, nn.Conv3d(8, 8, 3, padding=1), norm(8))


@pytest.mark.parametrize("name", LOOKING)
def test_boxes_are_as_large_as_memory_allows(name: str) -> None:
    make, shape = LOOKING[name]
    model = seeded(make)
    for memory in (200_000, 1_000_000):
        try:
            plan = tiling.plan(model, shape, memory=memory)
        except ShapeError:
            continue
        several = [walk.peak_bytes for walk in plan.schedule.walks if len(walk) > 1]
        several += [plan.schedule.held_bytes + plan.taken.peak] if len(plan) > 1 else []
        assert all(_FILLED * memory <= peak <= memory for peak in several)


@pytest.mark.parametrize("name", LOOKING)
def test_too_little_memory_is_told_the_least(name: str) -> None:
    make, shape = LOOKING[name]
    model = seeded(make)
    with pytest.raises(
        ShapeError, match=r"'memory' must hold one tile: got 9 B.*; legal: .* or more"
    ) as told:
        tiling.plan(model, shape, memory=9)
    least = str(told.value).rpartition("legal: ")[2].partition(" or more")[0]
    assert tiling.plan(model, shape, memory=least).peak_bytes <= budget_of(least)


class ByNumPy(torch.autograd.Function):
    """What users write who know the formula and not torch's words for it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - torch's signature
        return torch.from_numpy(np.sin(x.numpy()))


@pytest.mark.parametrize(
    ("function", "place"),
    [(ByNumPy.apply, "forward"), (lambda x: torch.from_numpy(np.sin(x.numpy())), "<lambda>")],
)
def test_what_calls_numpy_is_refused_by_name(function: Any, place: str) -> None:
    for refused in (
        lambda model: tiling.plan(model, (1, 1, 9, 9)),
        lambda model: tiling.stream(model, (1, 1, 0)),
    ):
        with pytest.raises(UnsupportedError, match=f"calls NumPy in [^ ]*{place} .test_planning.py, line"):
            refused(Function(function))


def test_products_of_tiles_cover_the_result_once() -> None:
    plan = tiling.plan(conv(1, 1, 3), (2, 1, 20, 21), tile=(7, 8))
    covered = np.zeros(plan.output_shape, int)
    for box in plan.boxes():
        covered[tuple(slice(a, b) for a, b in box)] += 1
    assert (covered == 1).all()
    assert len(plan) == len(list(product(range(2), *map(range, plan.counts))))
