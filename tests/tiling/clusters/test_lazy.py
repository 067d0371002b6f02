"""Few tasks of Dask make the whole, from the chunks of an array or from what they open themselves."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import accelerate, tiling
from outstride.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from outstride.tiling.clusters import blocks, jobs
from tests.environments import threads
from tests.tiling.models_to_tile import Function, UNet, image, seeded, whole_of
from tests.tolerance import assert_same_bits

da = pytest.importorskip("dask.array")


@pytest.mark.parametrize("tile", [(16, 24), (40, 50)])
def test_dask_is_the_whole(tile: tuple[int, int]) -> None:
    model, x = seeded(UNet), image(2, 3, 32, 48)
    lazy = tiling.dask(model, da.from_array(x.numpy(), chunks=(1, 3, 20, 20)), tile=tile)
    assert lazy.shape == (2, 2, 32, 48)
    for scheduler in ("synchronous", "threads"):
        assert_same_bits(
            torch.from_numpy(lazy.compute(scheduler=scheduler, num_workers=2)), whole_of(model, x)
        )
    assert_same_bits(torch.from_numpy(tiling.dask(model, x, tile=tile).compute()), whole_of(model, x))


def test_what_is_no_lazy_result_is_one_sentence() -> None:
    model, x = seeded(UNet), image(2, 3, 32, 48)
    with pytest.raises(UnsupportedError, match="must not need every pixel"):
        tiling.dask(Function(lambda x: x - x.mean()), x.numpy(), tile=16)
    for arguments, error, text in (
        ((5, x), ArgumentError, "'model' must be a torch.nn.Module: got int"),
        ((model, 5), ArgumentError, "'array' must be an array, a tensor or a path, or a nest of such"),
        ((model, x.bfloat16()), DTypeError, "'array' must have a type that NumPy has"),
        ((model, "missing.npy"), ArgumentError, "'source' must be a file that exists"),
    ):
        with pytest.raises(error, match=text):
            tiling.dask(*arguments)


@pytest.mark.parametrize("chunks", [(2, 3, 20, 20), (1, 2, (7, 25), (40, 3, 5))])
def test_tiles_within_a_task_are_the_whole(chunks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of several tiles, given parts of which some hold little that it needs."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 12_000)
    monkeypatch.setattr("outstride.tiling.sizing.NEAR_BYTES", 60_000)
    monkeypatch.setattr("outstride.tiling.sizing.MOST_RECOMPUTED", 10)
    model, x = seeded(UNet), image(2, 3, 32, 48)
    lazy = tiling.dask(model, da.from_array(x.numpy(), chunks=chunks))
    kept = next(layer for key, layer in lazy.dask.to_dict().items() if str(key).startswith("job-of-"))
    job = getattr(kept, "value", kept)  # older graphs hold what they are given as it is
    assert lazy.npartitions > 2
    assert any(n < m for n, m in zip(job.tile, lazy.chunksize[-2:], strict=True))
    assert_same_bits(torch.from_numpy(lazy.compute(scheduler="synchronous")), whole_of(model, x))


def test_workers_open_what_is_in_a_file(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    model, x = seeded(UNet), image(1, 3, 40, 48)
    np.save(tmp_path / "x.npy", x.numpy())
    stored = zarr.create_array(tmp_path / "x.zarr", shape=x.shape, dtype="float32", chunks=(1, 3, 16, 16))
    stored[:] = x.numpy()
    for source in (stored, tmp_path / "x.zarr", str(tmp_path / "x.npy")):
        lazy = pickle.loads(pickle.dumps(tiling.dask(model, source, tile=16)))
        assert lazy.npartitions == 9
        assert_same_bits(torch.from_numpy(lazy.compute(scheduler="threads")), whole_of(model, x))


def test_a_graph_is_as_small_for_any_size() -> None:
    zarr = pytest.importorskip("zarr")
    sizes = []
    for size in (6_000, 60_000):
        array = zarr.create_array({}, shape=(1, 3, size, size), dtype="uint8", chunks=(1, 3, 1024, 1024))
        lazy = tiling.dask(nn.Conv2d(3, 4, 3, padding=1), array, memory="1GB")
        assert len(lazy.dask.layers) == 2
        layer = lazy.dask.layers[lazy.name]
        assert all(size == 1 or size % 1024 == 0 for size in lazy.chunksize[2:])
        sizes.append((lazy.npartitions, len(pickle.dumps(layer))))
    (few, small), (many, large) = sizes
    assert (few < 20, 500 < many < 2000) == (True, True)
    assert large < small + 1000


def test_a_block_is_made_of_whole_chunks_of_the_source() -> None:
    shape = (1, 3, 60_000, 60_000)
    lazy = tiling.dask(nn.Conv2d(3, 4, 3, padding=1), da.zeros(shape, "uint8", chunks=(1, 3, 3000, 500)))
    assert (lazy.chunksize[2] % 3000, lazy.chunksize[3] % 500) == (0, 0)
    assert 500 < lazy.npartitions < 2000
    assert len(lazy.dask.layers[lazy.name]) == lazy.npartitions
    halved = tiling.dask(nn.Conv2d(3, 4, 2, 2), da.zeros(shape, "uint8", chunks=(1, 3, 3000, 500)))
    assert (halved.chunksize[2] % 1500, halved.chunksize[3] % 250) == (0, 0)


def test_what_a_task_takes_is_within_memory() -> None:
    array = da.zeros((1, 3, 9_000, 9_000), "float32", chunks=(1, 3, 1024, 1024))
    model = seeded(UNet)
    for memory, least in (("60MB", 1), ("200MB", 4), ("2GB", 30)):
        lazy = tiling.dask(model, array, memory=memory)
        peak = tiling.plan(model, array.shape, memory=memory).peak_bytes
        height, width = lazy.chunksize[2:]
        assert height * width * (3 + 2) * 4 + peak <= {"60MB": 6e7, "200MB": 2e8, "2GB": 2e9}[memory]
        assert height * width >= least * 240 * 240
    with pytest.raises(ShapeError, match="'memory' must hold one tile: got 1 KB"):
        tiling.dask(model, array, memory="1KB")


def test_threads_of_tasks_at_once_are_no_more_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    with threads(4):
        assert jobs.threads_of_task() == 4  # alone, in the main thread
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(jobs.threads_of_task).result() == 1  # Dask's own threads: one for each core
            distributed = pytest.importorskip("distributed")
            for at_once, share in ((1, 4), (2, 4), (4, 2), (16, 1)):
                state = SimpleNamespace(state=SimpleNamespace(nthreads=at_once))
                monkeypatch.setattr(distributed, "get_worker", lambda state=state: state)
                assert pool.submit(jobs.threads_of_task).result() == share


class Masked(nn.Module):
    """A picture, a mask as large and a small vector."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.style = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = torch.where(mask, self.layer(x), self.style(style)[..., None, None])
        return made


def test_several_inputs_are_the_whole(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    model, x, style = seeded(Masked), image(1, 3, 60, 70), image(1, 8)
    mask = image(1, 1, 60, 70) > 0
    with torch.inference_mode():
        expected = accelerate(model)(x, mask, style)
    given = (
        da.from_array(x.numpy(), chunks=(1, 3, 20, 20)),
        da.from_array(mask.numpy(), chunks=(1, 1, 33, 70)),
    )
    assert_same_bits(torch.from_numpy(tiling.dask(model, (*given, style), tile=16).compute()), expected)
    assert_same_bits(torch.from_numpy(tiling.dask(model, (x, mask, style), tile=16).compute()), expected)
    paths = {name: tmp_path / f"{name}.zarr" for name in ("x", "mask", "style")}
    for path, values in zip(paths.values(), (x, mask, style), strict=True):
        zarr.create_array(path, data=values.numpy())
    assert_same_bits(torch.from_numpy(tiling.dask(model, paths, tile=16).compute()), expected)
    with pytest.raises(ArgumentError, match=r"'array\['mask'\]' must be what every worker can open"):
        tiling.dask(model, {**paths, "mask": mask}, tile=16)


def test_a_block_at_the_end_of_a_ring_reads_no_more_than_both_ends(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    model = seeded(lambda: nn.Conv2d(1, 2, 5, padding=2, padding_mode="circular"))
    x = image(1, 1, 120, 90)
    zarr.create_array(tmp_path / "x.zarr", data=x.numpy())
    read = list[int]()

    class Watched(jobs.Job):
        def _fetch(self, index: int, box: Any) -> Any:
            read.append(int(np.prod([b - a for a, b in box])))
            return super()._fetch(index, box)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("outstride.tiling.clusters.lazy.Job", Watched)
        lazy = tiling.dask(model, tmp_path / "x.zarr", tile=30)
        made = lazy.compute(scheduler="synchronous")
    assert_same_bits(torch.from_numpy(made), whole_of(model, x))
    assert max(read) <= 34 * 34
