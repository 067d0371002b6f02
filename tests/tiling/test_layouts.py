"""Tiles lie in memory as the whole does, and take the routines that it takes: on any layout and thread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from outstride import tiling
from outstride.engine.launch.steps.agreement import same_bits
from outstride.tiling.rules import resizing
from tests.environments import threads
from tests.tiling.models_to_tile import Function, image, seeded
from tests.tolerance import assert_same_bits

F = nn.functional
_LAST = torch.channels_last


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "in_order": lambda x: x,
    "channels_last": lambda x: x.contiguous(memory_format=_LAST),
    "turned": lambda x: x.transpose(2, 3),
    "cropped": lambda x: x[:, :, 1:, :-1],
    "channels_last_cropped": lambda x: x.contiguous(memory_format=_LAST)[:, :, 1:, :-1],
    "part_of_channels": lambda x: torch.cat([x, x], 1)[:, 2:8],
    "every_second": lambda x: torch.cat([x, x], 3)[..., ::2],
}


def centred(x: Tensor) -> Tensor:
    difference = x - x.mean(1, keepdim=True)
    return difference / (difference.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()


def gated(x: Tensor) -> Tensor:
    values, gates = x.chunk(2, 1)
    return values * torch.sigmoid(gates)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_of_channels": lambda x: x.mean(1), "mean_of_map": lambda x: x * x.mean((2, 3), keepdim=True),
    "sum_of_rows": lambda x: x.sum(3, keepdim=True) + x,
    "sum_of_columns": lambda x: x.sum(2, keepdim=True) + x,
    "mean_of_all": lambda x: x - x.mean((1, 2, 3), keepdim=True), "largest": lambda x: x.amax(1),
    "mean_of_two": lambda x: x - x.mean((1, 3), keepdim=True), "argmax": lambda x: x.argmax(1),
    "variance": lambda x: x * torch.var_mean(x, (2, 3), keepdim=True)[0],
    "norm": lambda x: F.normalize(x, dim=1),
    "logsumexp": lambda x: x.logsumexp(1), "centred": centred,
    "excited": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "adaptive": lambda x: x * F.adaptive_avg_pool2d(x, 1), "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(1), "gelu": F.gelu, "silu": F.silu, "mish": F.mish,
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "small": lambda x: F.interpolate(x, (60, 50), mode="bilinear", align_corners=True),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1), "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "glu": lambda x: F.glu(x, 1), "gated": gated,
    "power": lambda x: x.abs().pow(x.sin() + 1.5), "angle": lambda x: torch.atan2(x, x.cos()),
    "snake": lambda x: x + torch.sin(x * torch.linspace(0.5, 2, 6)[:, None, None]) ** 2,
    "shuffle": lambda x: F.pixel_shuffle(x[:, :4], 2), "cumsum": lambda x: x.cumsum(1),
    "batch_norm": lambda x: F.batch_norm(x, torch.zeros(6), torch.full((6,), 1.7)),
    "group_norm": lambda x: F.group_norm(x, 2), "layer_norm": lambda x: F.layer_norm(x.movedim(1, 3), (6,)),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_wholes_on_any_layout(name: str, layout: str) -> None:
    model = Function(lambda x: FUNCTIONS[name](LAYOUTS[layout](x)))
    for count, batch in ((1, 1), (2, 2)):
        x = 2 * image(batch, 6, 53, 47)
        with threads(count):
            assert_same_bits(tiling.tile_run(model, x, tile=(17, 19), progress=False), model(x))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_input_lies_as_it_is_given(layout: str) -> None:
    for function in (F.silu, centred, FUNCTIONS["mean_of_map"]):
        x = LAYOUTS[layout](2 * image(2, 6, 53, 47))
        expected = function(x)
        assert_same_bits(tiling.tile_run(Function(function), x, tile=(17, 19), progress=False), expected)
        got = tiling.tile_run(Function(function), x.numpy(), tile=(17, 19), progress=False)
        assert_same_bits(torch.from_numpy(got), expected)


@pytest.mark.parametrize("layout", ["in_order", "channels_last", "cropped"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8, 19])
def test_interpolation_takes_torchs_routine(channels: int, count: int, layout: str) -> None:
    for size in ((91, 65), (40, 51)):
        for aligned in (False, True):
            model = Function(
                lambda x, size=size, aligned=aligned: F.interpolate(  # type: ignore[misc]
                    LAYOUTS[layout](x), size, mode="bilinear", align_corners=aligned
                )
            )
            x = image(1, channels, 30, 41)
            with threads(count):
                assert not tiling.plan(model, x, tile=(33, 41)).kept
                assert_same_bits(tiling.tile_run(model, x, tile=(33, 41), progress=False), model(x))


@pytest.mark.parametrize("layout", ["in_order", "channels_last", "cropped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_neighbours_are_found_in_the_maps_own_arithmetic(mode: str, dtype: torch.dtype, layout: str) -> None:
    """Of 182 and 154 places seven are rounded up to whole numbers, in float32 others than in float64."""
    for channels in (1, 5):
        model = Function(lambda x: F.interpolate(LAYOUTS[layout](x), (154, 147), mode=mode))
        x = image(1, channels, 182, 196, dtype=dtype)
        assert_same_bits(tiling.tile_run(model, x, tile=(90, 147), progress=False), model(x))


@pytest.mark.parametrize(("nd", "small"), [(1, False), (2, False), (2, True), (3, False)])
def test_interpolation_that_is_tried_shows_what_is_rounded(nd: int, small: bool) -> None:
    """Where positions are exact either way, nothing would be seen."""
    (*_, inputs), (*_, outputs) = resizing._sizes(nd, small)
    fused, rounded = (
        resizing._weights(inputs, outputs, None, False, torch.float32, way) for way in (True, False)
    )
    assert not same_bits(fused.of_low, rounded.of_low)


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize(("asked", "there"), [(2, 1), (1, 2)])
def test_workers_compute_with_the_threads_of_the_one_who_asked(
    asked: int, there: int, scheduler: str
) -> None:
    pytest.importorskip("dask.array")
    layers = nn.Sigmoid(), nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Softmax(1)
    model, x = seeded(lambda: nn.Sequential(*layers)), 3 * image(1, 3, 131, 97)
    with threads(asked):
        with torch.inference_mode():
            expected = model(x)
        lazy = tiling.dask(model, x.numpy(), tile=64)
    with threads(there):
        got = lazy.compute(scheduler=scheduler)
        assert torch.get_num_threads() == there
    assert_same_bits(torch.from_numpy(got), expected)
