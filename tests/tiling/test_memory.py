"""The memory that a plan promises is what a run takes: measured, each model in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outstride import tiling
from outstride.tiling.arrays import numpy_dtype
from outstride.tiling.running import TileRun
from tests.tiling.models_to_tile import Function, seeded
from tests.tiling.passes.models import SqueezeExcite, generator
from tests.tiling.shifted_windows import ShiftedWindows

F, chain = nn.functional, nn.Sequential
_LAST = torch.channels_last
#: Forked off one that has torch loaded, which takes most of the time.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])
#: What the process grows by besides: Python's objects, code and tables of kernels for each size, threads.
_BESIDES = 24 * 10**6
#: A plan may take a view for a copy, but not promise anything.
_OVERSTATED = 3


def by_windows(x: Tensor) -> Tensor:
    """Attention of the pixels of a window to each other."""
    n, c, h, w = x.shape
    t = x.view(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
    t = (t @ t.mT).softmax(-1) @ t
    return t.view(n, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


def skipped(x: Tensor) -> Tensor:
    return torch.cat([x, F.interpolate(F.max_pool2d(x, 2), scale_factor=2, mode="nearest")], 1)


def unpooled(x: Tensor) -> Tensor:
    made, places = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(made, places, [2, 2])


class Case(NamedTuple):
    """A model and what it is run on, in about four tiles."""

    make: Callable[[], nn.Module]
    size: tuple[int, ...] = (1600, 1600)
    channels: int = 8


def of(function: Callable[[Tensor], Tensor]) -> Case:
    return Case(lambda: Function(function))


CASES: dict[str, Case] = {
    "conv": Case(lambda: nn.Conv2d(8, 8, 3, padding=1)),
    "instance_norm": Case(lambda: chain(nn.Conv2d(8, 8, 3, padding=1), nn.InstanceNorm2d(8))),
    "max_pool": Case(lambda: nn.MaxPool2d(3, 1, 1)),
    "unet": Case(lambda: chain(
        nn.Conv2d(8, 16, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(16, 8, 1), nn.Softmax(1),
    )),
    # Layers.
    "conv_of_lines": Case(lambda: nn.Conv1d(8, 8, 9, padding=4), (2_000_000,)),
    "conv_of_volumes": Case(lambda: nn.Conv3d(8, 8, 3, padding=1), (120, 200, 200)),
    "wide": Case(lambda: chain(nn.Conv2d(8, 64, 3, padding=1), nn.Conv2d(64, 8, 3, padding=1)), (1000, 1000)),
    "many_weights": Case(lambda: chain(nn.Conv2d(8, 1024, 3, padding=1), nn.Conv2d(1024, 1024, 3, padding=1)),
                         (128, 128)),
    "direct": Case(lambda: nn.Conv2d(8, 8, 5, 2, padding=4, dilation=2)),
    "depthwise": Case(lambda: nn.Conv2d(8, 8, 7, padding=3, groups=8)),
    "grouped": Case(lambda: nn.Conv2d(8, 8, 3, padding=1, groups=2)),
    "few_used": Case(lambda: nn.Conv2d(8, 8, 1, 4)),
    "transposed": Case(lambda: nn.ConvTranspose2d(8, 8, 2, 2)),
    "spread_out": Case(lambda: nn.ConvTranspose2d(8, 8, 1, 3, output_padding=1), (800, 800)),
    "channels_last_conv": Case(
        lambda: nn.Conv2d(8, 8, 3, padding=1).to(memory_format=_LAST)  # type: ignore[call-overload]
    ),
    "bfloat16": Case(
        lambda: chain(nn.Conv2d(8, 8, 1), nn.AvgPool2d(3, 1, 1)).bfloat16().append(Function(Tensor.float))
    ),
    "double": Case(lambda: chain(nn.Conv2d(8, 8, 1), nn.MaxPool2d(2)).double()),
    "linear": of(lambda x: F.linear(x.movedim(1, 3), torch.ones(8, 8)).movedim(3, 1)),
    # Pools, resizes, borders, shuffles.
    "avg_pool": Case(lambda: nn.AvgPool2d(3, 1, 1)),
    "halved": Case(lambda: nn.AvgPool2d(2)),
    "unpooled": of(unpooled),
    "adaptive_pool": of(lambda x: F.adaptive_avg_pool2d(x, 400)),
    "adaptive_max_pool": of(lambda x: F.adaptive_max_pool2d(x, 400)),
    "nearest": Case(lambda: nn.Upsample(scale_factor=2)),
    "bilinear": Case(lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    "bilinear_of_many": Case(lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (400, 400), 64),
    "trilinear": Case(lambda: nn.Upsample(scale_factor=2, mode="trilinear"), (60, 100, 100)),
    "channels_last_bilinear": of(
        lambda x: F.interpolate(x.contiguous(memory_format=_LAST), scale_factor=2, mode="bilinear")
    ),
    "zeros_around": Case(lambda: nn.ZeroPad2d(3)),
    "reflected": Case(lambda: nn.ReflectionPad2d(3)),
    "circular": Case(lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode="circular")),
    "shuffled": Case(lambda: nn.PixelShuffle(2)),
    "unshuffled": Case(lambda: nn.PixelUnshuffle(2)),
    "channels_shuffled": Case(lambda: nn.ChannelShuffle(2)),
    # Functions, norms over channels, views.
    "sigmoid": Case(nn.Sigmoid),
    "relu": Case(nn.ReLU),
    "glu": Case(lambda: nn.GLU(1)),
    "added": of(lambda x: x + x.relu() * 2),
    "joined": of(skipped),
    "repeated": of(lambda x: x.repeat(1, 2, 1, 1).rot90(1, (2, 3))),
    "parts": of(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "turned": of(lambda x: x.flip(3).roll((5, 7), (2, 3))),
    "softmax": Case(lambda: nn.Softmax(1)),
    "sums_of_channels": of(lambda x: x - x.mean(1, keepdim=True)),
    "largest_of_channels": of(lambda x: x.amax(1, keepdim=True)),
    "norm_of_channels": of(lambda x: F.normalize(x, dim=1)),
    "layer_norm": of(lambda x: F.layer_norm(x.movedim(1, 3), (8,)).movedim(3, 1)),
    "batch_norm": Case(lambda: nn.BatchNorm2d(8)),
    "channels_last": of(lambda x: F.gelu(x.contiguous(memory_format=_LAST))),
    # Windows.
    "window_attention": of(by_windows),
    "shifted_windows": Case(lambda: ShiftedWindows(8, 8, 2, 4), (800, 800)),
    "unfolded": of(lambda x: F.fold(F.unfold(x, 2, stride=2), x.shape[2:], 2, stride=2)),
    # What looks at the whole.
    "group_norm": Case(lambda: chain(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8))),
    "layer_norm_of_maps": Case(lambda: nn.LayerNorm([8, 1600, 1600])),
    "excite": Case(lambda: chain(nn.Conv2d(8, 8, 3, padding=1), SqueezeExcite(8))),
    "pyramid": of(lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, 3), x.shape[2:], mode="bilinear")),
    "largest": of(lambda x: x / x.amax((2, 3), keepdim=True)),
    "generator": Case(lambda: generator(width=8), (1000, 1000), 3),
}  # fmt: skip


class Numbers:
    """A source that takes no memory, and a place for results that keeps none."""

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.float32) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        return np.random.default_rng(0).random([k.stop - k.start for k in key], np.float32)

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        pass


def grown(name: str, threads: int = 1) -> tuple[int, int]:
    """Planned bytes of a run, and by how much this process grew in it."""
    torch.set_num_threads(threads)
    make, size, channels = CASES[name]
    model = seeded(make)
    small = tuple(min(n, 64) for n in size)
    if "layer_norm_of" not in name:
        TileRun(model, torch.rand(1, channels, *small), 32)(None)  # what is loaded at first
    tile = tuple(n // 2 for n in tiling.plan(model, (1, channels, *size)).output_shape[2:])
    planned = named = 0
    while not named or planned < named:  # what is kept between passes depends on it
        named = planned
        planned = tiling.plan(model, (1, channels, *size), tile, named or None).peak_bytes
    return _grown(lambda: TileRun(model, Numbers((1, channels, *size)), tile, named))


def _grown(make: Callable[[], TileRun]) -> tuple[int, int]:
    Path("/proc/self/clear_refs").write_text("5")
    before = _bytes("VmRSS")
    run = make()
    node = run.node
    run(Numbers(node.shape, numpy_dtype(node.dtype)))
    return run.plan.peak_bytes, _bytes("VmHWM") - before


def grown_by_a_run(memory: int) -> int:
    """By how much this process grew in a whole run of many passes."""
    model = seeded(lambda: generator(width=32))
    TileRun(model, torch.zeros(1, 3, 64, 64), 64)(None)
    planned, measured = _grown(lambda: TileRun(model, Numbers((1, 3, 512, 640)), None, memory))
    assert planned <= memory
    return measured


def _bytes(what: str) -> int:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(row.split()[1]) for row in rows if row.startswith(what))


measured = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say")


@measured
@pytest.mark.parametrize(
    "name", [name if i < 2 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(CASES)]
)
def test_a_run_takes_what_was_planned(name: str) -> None:
    with ProcessPoolExecutor(1, _PROCESSES) as pool:
        planned, measured = pool.submit(grown, name).result()
    assert measured <= planned + _BESIDES, f"planned {planned}, measured {measured}"
    assert planned <= _OVERSTATED * measured, f"planned {planned}, measured {measured}"


@measured
@pytest.mark.slow
def test_a_run_of_many_passes_stays_within_its_budget() -> None:
    """What the C library keeps of memory that is free would come to several times as much."""
    with ProcessPoolExecutor(1, _PROCESSES) as pool:
        measured = pool.submit(grown_by_a_run, 80 * 10**6).result()
    assert measured <= 80 * 10**6 + _BESIDES


def test_a_linear_layer_over_channels_is_cut() -> None:
    plan = tiling.plan(seeded(CASES["linear"].make), (1, 8, 2000, 2000), memory="80MB")
    assert not plan.kept
    assert plan.recomputed < 1.1
