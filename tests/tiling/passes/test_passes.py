"""What looks at whole maps is done in passes: every bit is the whole's, and memory is kept to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from outstride.tiling.box import Box
from outstride.tiling.maps import MapInFile
from outstride.tiling.running import TileRun
from tests.engine.launch.agreed import is_another_torch
from tests.tiling.models_to_tile import Function, image, seeded, whole_of
from tests.tiling.passes.models import MODELS, NNUNet
from tests.tolerance import assert_same_bits


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_a_tile_is_the_whole_after_passes(name: str, threads: int) -> None:
    make, shape = MODELS[name]
    model, x = seeded(make), image(*shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = whole_of(model, x)
        for memory in ("1GB", "150KB"):
            try:
                run = TileRun(model, x, 13, memory)
            except ShapeError:
                continue
            assert run.schedule.walks
            assert_same_bits(run(None), expected)
    finally:
        torch.set_num_threads(before)


def test_norms_of_maps_without_their_channels_are_passes_too() -> None:
    make, shape = MODELS["layer_norms"]
    if is_another_torch() and tiling.plan(seeded(make), shape).kept:
        pytest.skip("this torch takes the moments of layers in another order: they are made of the whole")
    run = TileRun(seeded(make), image(*shape), None, "150KB")
    assert len(run.program.barriers) == 3
    assert run.plan.peak_bytes <= 150_000
    assert max(map(len, run.schedule.walks)) <= 32, "boxes of one pixel would be thousands"


def test_maps_lie_in_memory_or_in_files() -> None:
    model, x = seeded(lambda: NNUNet((4, 6, 8), (1, 2, 2))), image(1, 1, 24, 16, 20)
    large, small = (TileRun(model, x, None, memory).schedule for memory in ("1GB", "500KB"))
    assert large.in_memory
    assert not large.in_file
    assert small.in_file
    assert small.peak_bytes <= 500_000
    assert large.peak_bytes > small.peak_bytes
    assert small.file_bytes < sum(small.sizes.values()), "maps that nothing reads any more are let go"


@pytest.mark.parametrize("norm", [nn.InstanceNorm3d(4), nn.GroupNorm(2, 4)], ids=["slabs", "channels"])
def test_rows_that_do_not_fit_are_kept_in_smaller_boxes_first(norm: nn.Module) -> None:
    model, x = seeded(lambda: nn.Sequential(nn.Conv3d(16, 4, 5), norm)), image(1, 16, 7, 40, 50)
    run = TileRun(model, x, (2, 5, 7), "300KB")
    if run.plan.kept and is_another_torch():
        pytest.skip("this torch takes the moments of groups in another order: they are made of the whole")
    assert run.plan.peak_bytes < 300_000
    assert any(walk.size[3] < walk.shape[3] for walk in run.schedule.walks)
    assert_same_bits(run(None), whole_of(model, x))


def test_a_chain_of_norms_is_not_made_again_from_its_beginning() -> None:
    layers = [layer for _ in range(8) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.InstanceNorm2d(4))]
    plan = tiling.plan(seeded(lambda: nn.Sequential(*layers)), (1, 4, 2000, 2000), memory="200MB")
    assert plan.recomputed < 2
    assert len(plan.schedule.walks) == 16


def test_a_plan_says_what_passes_there_are() -> None:
    plan = tiling.plan(seeded(NNUNet), (1, 1, 256, 256, 200), memory="1GB")
    assert plan.peak_bytes < 10**9
    said = str(plan)
    assert f"{len(plan.schedule.walks)} first" in said
    assert "as every pixel is needed by layer " in said
    assert "1 x 32 x 256 x 256 x 200 by 1 x 32 x" in said
    assert "kept in a file" in said
    passes = plan.to_dict()["passes"]
    assert isinstance(passes, list)
    assert len(passes) == len(plan.schedule.walks) >= 44


def test_memory_that_does_not_hold_a_slab_is_refused() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 64, 3), nn.InstanceNorm2d(64)))
    with pytest.raises(
        ShapeError, match=r"'memory' must hold one tile.*passes take more.*needs every pixel; legal: .* KB or"
    ):
        tiling.plan(model, (1, 1, 100, 10**6), memory="9KB")


def test_nothing_is_left_of_what_was_kept(tmp_path: Path) -> None:
    class Broken:
        shape, dtype = (1, 1, 24, 16, 20), np.dtype(np.float32)
        reads = 0

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            self.reads += 1
            if self.reads > 1:
                raise KeyboardInterrupt
            return np.ones(self.shape, np.float32)[key]

    model = seeded(lambda: NNUNet((4, 6, 8), (1, 2, 2)))
    with pytest.raises(KeyboardInterrupt):
        tiling.tile_run(model, Broken(), memory="300KB", progress=False, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scratch", ["missing", "file"])
def test_a_scratch_folder_has_to_be_one(scratch: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match="'scratch' must be a folder"):
        tiling.tile_run(seeded(lambda: nn.Conv2d(1, 1, 1)), image(1, 1, 4, 4), scratch=tmp_path / scratch)


def test_streams_and_clusters_refuse_by_name() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv1d(1, 2, 3), nn.InstanceNorm1d(2)))
    with pytest.raises(UnsupportedError, match=r"to be streamed: got layer '1' .InstanceNorm1d"):
        tiling.stream(model)
    pytest.importorskip("dask")
    with pytest.raises(UnsupportedError, match=r"run on a cluster: got mean.*passes"):
        tiling.dask(
            Function(lambda x: x - x.mean((2, 3), keepdim=True)), np.zeros((1, 1, 99, 99), np.float32)
        )


def test_a_disk_that_fills_up_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: MapInFile, box: Box, part: torch.Tensor) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MapInFile, "write", full)
    model = seeded(lambda: NNUNet((4, 6, 8), (1, 2, 2)))
    with pytest.raises(ArgumentError, match=r"'scratch' must be a folder with room.*No space left"):
        tiling.tile_run(model, image(1, 1, 24, 16, 20), memory="300KB", progress=False)
