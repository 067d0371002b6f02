"""The memory that a plan promises is what a tile takes: measured, each model in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outstride import tiling
from outstride.models.isolation import undisturbed
from outstride.tiling.box import Box, shape_of
from outstride.tiling.passes.walking import walked
from outstride.tiling.running import TileRun
from outstride.tiling.trimming import Room
from tests.tiling.models_to_tile import Function, seeded
from tests.tiling.passes.models import generator

F = nn.functional
_LAST = torch.channels_last
#: Forked off one that has torch loaded, which takes most of the time.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


def by_windows(x: Tensor) -> Tensor:
    """Attention of the pixels of a window to each other."""
    n, c, h, w = x.shape
    t = x.view(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
    t = (t @ t.mT).softmax(-1) @ t
    return t.view(n, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


#: Bytes by which a process may grow besides: code, stacks of threads, the allocator's rounding.
_BESIDES = 24 * 10**6

MODELS: dict[str, Callable[[], nn.Module]] = {
    "conv": lambda: nn.Conv2d(8, 8, 3, padding=1),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 2, 2),
    "sigmoid": nn.Sigmoid,
    "max_pool": lambda: nn.MaxPool2d(3, 1, 1),
    "avg_pool": lambda: nn.AvgPool2d(3, 1, 1),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "softmax": lambda: nn.Softmax(1),
    "layer_norm": lambda: Function(lambda x: F.layer_norm(x.movedim(1, 3), (8,)).movedim(3, 1)),
    "glu": lambda: nn.GLU(1),
    "bfloat16": lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.AvgPool2d(3, 1, 1)).bfloat16(),
    "channels_last": lambda: Function(lambda x: F.gelu(x.contiguous(memory_format=_LAST))),
    "channels_last_bilinear": lambda: Function(
        lambda x: F.interpolate(x.contiguous(memory_format=_LAST), scale_factor=2, mode="bilinear")
    ),
    "linear": lambda: Function(lambda x: F.linear(x.movedim(1, 3), torch.ones(8, 8)).movedim(3, 1)),
    "window_attention": lambda: Function(by_windows),
    "norm_of_channels": lambda: Function(lambda x: F.normalize(x, dim=1)),
    "repeated": lambda: Function(lambda x: x.repeat(1, 2, 1, 1).rot90(1, (2, 3))),
    "instance_norm": lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.InstanceNorm2d(8)),
    "group_norm": lambda: nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8)),
    "excite": lambda: Function(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    "pyramid": lambda: Function(
        lambda x: x + F.interpolate(F.adaptive_avg_pool2d(x, 3), x.shape[2:], mode="bilinear")
    ),
    "unet": lambda: nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1),
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(16, 8, 1), nn.Softmax(1),
    ),
}  # fmt: skip


def grown(name: str, size: int) -> tuple[int, int]:
    """Planned bytes of a tile, and by how much this process grew while it was made."""
    model = seeded(MODELS[name])
    _made(model, 64)  # what is loaded and compiled at the first call
    Path("/proc/self/clear_refs").write_text("5")
    before = _bytes("VmRSS")
    return _made(model, size), _bytes("VmHWM") - before


def _made(model: nn.Module, size: int) -> int:
    """Make a tile of numbers that take memory."""
    run = TileRun(model, torch.zeros(1, 1, 1, 1).expand(1, 8, size, size), size // 2)
    box = list(run.plan.boxes())[len(run.plan) // 2]

    def read(index: int, part: Box) -> Tensor:
        del index
        return torch.rand(shape_of(part)).to(run.dtype)

    room = Room(run.plan.peak_bytes)
    with undisturbed(), walked(run.program, run.schedule, read, run.scratch, room):
        run.program.run(run.program.need(run.output, box), read)
    return run.plan.peak_bytes


def grown_by_a_run(memory: int) -> int:
    """By how much this process grew in a whole run of many passes, whose results take nothing."""

    class Numbers:
        shape, dtype = (1, 3, 512, 640), np.dtype(np.float32)

        def __getitem__(self, key: tuple[slice, ...]) -> Any:
            return np.random.default_rng(0).random([k.stop - k.start for k in key], np.float32)

        def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
            pass

    model = seeded(lambda: generator(width=32))
    TileRun(model, torch.zeros(1, 3, 64, 64), 64, memory)(None, progress=False)
    Path("/proc/self/clear_refs").write_text("5")
    before = _bytes("VmRSS")
    run = TileRun(model, Numbers(), None, memory)
    assert run.schedule.in_file
    run(Numbers(), progress=False)
    return _bytes("VmHWM") - before


def _bytes(what: str) -> int:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(row.split()[1]) for row in rows if row.startswith(what))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say")
@pytest.mark.parametrize(
    "name",
    [name if i % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(MODELS)],
)
def test_a_tile_takes_what_was_planned(name: str) -> None:
    with ProcessPoolExecutor(1, _PROCESSES) as pool:
        planned, measured = pool.submit(grown, name, 2400).result()
    assert measured <= 1.1 * planned + _BESIDES, f"planned {planned}, measured {measured}"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say")
@pytest.mark.slow
def test_a_run_of_many_passes_stays_within_its_budget() -> None:
    """What the C library keeps of memory that is free would come to several times as much."""
    with ProcessPoolExecutor(1, _PROCESSES) as pool:
        measured = pool.submit(grown_by_a_run, 80 * 10**6).result()
    assert measured <= 80 * 10**6 + _BESIDES


def test_a_linear_layer_over_channels_is_cut() -> None:
    plan = tiling.plan(seeded(MODELS["linear"]), (1, 8, 2000, 2000), memory="80MB")
    assert not plan.kept
    assert plan.recomputed < 1.1
