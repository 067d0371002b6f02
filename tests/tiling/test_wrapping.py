"""Borders that go round: a tile at one end reads a little of the other, and nothing between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from outstride import tiling
from outstride.tiling.box import apart, elements, holds, hull
from outstride.tiling.running import TileRun
from tests.tiling.models_to_tile import Function, image, seeded, whole_of
from tests.tiling.shifted_windows import ShiftedWindows
from tests.tolerance import assert_same_bits

F, chain = nn.functional, nn.Sequential


def rings(layers: int) -> nn.Module:
    return chain(
        *(nn.Conv2d(3, 3, 5, padding=2, padding_mode="circular") for _ in range(layers)), nn.MaxPool2d(2)
    )


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "layers": (lambda: rings(3), (1, 3, 256, 300)),
    "a layer of padding": (
        lambda: chain(nn.CircularPad2d((3, 1, 0, 2)), nn.Conv2d(3, 4, 3)),
        (2, 3, 256, 300),
    ),
    "a function": (
        lambda: Function(lambda x: F.pad(x, (0, 5, 7, 0), mode="circular").sin()),
        (1, 3, 256, 300),
    ),
    "rolled": (lambda: Function(lambda x: x.roll((130, -2), (2, 3)).sigmoid() + x), (1, 3, 256, 300)),
    "a line": (lambda: nn.Conv1d(2, 3, 7, padding=3, padding_mode="circular"), (1, 2, 4000)),
    "a volume": (lambda: nn.Conv3d(1, 2, 3, padding=1, padding_mode="circular"), (1, 1, 40, 41, 42)),
    "windows": (lambda: ShiftedWindows(8, 4, 2, 2), (1, 8, 64, 80)),
    "a norm behind": (lambda: chain(rings(1), nn.InstanceNorm2d(3)), (1, 3, 256, 300)),
}


def most_read(model: nn.Module, shape: tuple[int, ...], tile: int) -> tuple[int, int]:
    """The most elements of the input that a tile reads at once, and of all of them."""
    run = TileRun(model, torch.zeros(1).expand(shape), tile)
    needs = [run.program.needs(run.outputs.boxes(box)) for box in run.plan.boxes()]
    read = [sum(map(elements, need.pieces.get(0, ()))) for need in needs]
    return max(read), elements(tuple((0, n) for n in shape))


@pytest.mark.parametrize("name", MODELS)
def test_no_tile_reads_what_lies_between_the_ends(name: str) -> None:
    make, shape = MODELS[name]
    model, x, tile = seeded(make), image(*shape), 32 if len(shape) > 3 else 500
    if name != "a norm behind":
        most, everything = most_read(model, shape, tile if len(shape) < 5 else 16)
        assert most < 0.3 * everything
    got = tiling.tile_run(model, x, tile=tile, progress=False)
    if name == "windows":  # torch's products round by the number of rows
        assert_same_bits(got, tiling.tile_run(model, x, tile=1000, progress=False))
    else:
        assert_same_bits(got, whole_of(model, x))


def test_a_large_picture_that_goes_round_fits_into_memory() -> None:
    plan = tiling.plan(seeded(lambda: rings(8)), (1, 3, 20000, 20000), memory="200MB")
    assert not plan.kept
    assert plan.recomputed < 1.5


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([((0, 4), (0, 4))], [((0, 4), (0, 4))]),
        ([((0, 4), (0, 4)), ((2, 6), (0, 4))], [((0, 6), (0, 4))]),
        ([((0, 4), (0, 4)), ((90, 94), (0, 4))], [((0, 4), (0, 4)), ((90, 94), (0, 4))]),
        ([((0, 4), (0, 4)), ((90, 94), (0, 4)), ((3, 8), (0, 4))], [((90, 94), (0, 4)), ((0, 8), (0, 4))]),
        ([((0, 4), (0, 4)), ((5, 5), (90, 99))], [((0, 4), (0, 4))]),
        ([((3, 3), (0, 4))], [((3, 3), (0, 4))]),
        ([((0, 9), (0, 4)), ((9, 18), (0, 4)), ((18, 20), (0, 4))], [((0, 20), (0, 4))]),
    ],
)
def test_boxes_far_apart_stay_apart(boxes: Any, expected: Any) -> None:
    found = apart(boxes)
    assert list(found) == expected
    assert all(any(holds(piece, box) for piece in found) for box in boxes if elements(box))
    assert sum(map(elements, found)) <= max(elements(hull(boxes)), 1)


def test_ends_that_meet_are_one_box() -> None:
    """Of a small map both ends together are nearly all of it."""
    model = seeded(lambda: rings(2))
    x: Tensor = image(1, 3, 12, 14)
    for tile in (1, 3, 5, 14):
        assert_same_bits(tiling.tile_run(model, x, tile=tile, progress=False), whole_of(model, x))
