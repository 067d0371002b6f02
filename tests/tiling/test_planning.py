"""Plans of tiles: what they take, what needs every pixel, and that they cover the result once."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from outstride import tiling
from outstride.errors import ShapeError, UnsupportedError
from tests.tiling.models_to_tile import Function, UNet, conv, seeded


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
