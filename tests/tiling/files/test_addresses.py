"""Arrays of zarr at addresses: read over HTTP, read and written in fsspec's memory, whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.errors import ArgumentError
from outstride.tiling.files import addresses
from tests.tiling.models_to_tile import image, seeded, whole_of
from tests.tolerance import assert_equal_values, assert_same_bits

fsspec = pytest.importorskip("fsspec")
zarr = pytest.importorskip("zarr")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address at which the files of ``tmp_path`` are."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tmp_path)) as serving:
        thread = Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join()


@pytest.fixture
def memory() -> str:
    """A place in fsspec's memory that nobody else has."""
    return f"memory://{uuid4().hex}"


def model() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()))


def stored(place: Any) -> torch.Tensor:
    x = image(1, 3, 40, 48)
    zarr.create_array(place, shape=x.shape, dtype="float32", chunks=(1, 3, 16, 16))[:] = x.numpy()
    return x


def test_a_source_is_read_over_http(server: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    expected = whole_of(model(), stored(tmp_path / "x.zarr"))
    got = tiling.tile_run(model(), f"{server}/x.zarr", tile=20, progress=False)
    assert_same_bits(torch.from_numpy(got), expected)
    lazy = tiling.dask(model(), f"{server}/x.zarr", tile=16)
    assert_same_bits(torch.from_numpy(lazy.compute(scheduler="threads")), expected)
    for address in (f"{server}/y.zarr", "http://127.0.0.1:9/x.zarr"):
        with pytest.raises(ArgumentError, match="'source' must be an array of zarr that can be read"):
            tiling.tile_run(model(), address, progress=False)
    with pytest.raises(ArgumentError, match="'out' must be an array of zarr that can be written"):
        tiling.tile_run(model(), tmp_path / "x.zarr", f"{server}/z.zarr", progress=False)


def test_results_are_written_where_an_address_says(memory: str) -> None:
    source, out = f"{memory}/x.zarr", f"{memory}/y.zarr"
    expected = whole_of(model(), stored(source))
    tiling.tile_run(model(), source, out, tile=20, progress=False)
    assert_same_bits(torch.from_numpy(zarr.open_array(out, mode="r")[:]), expected)
    for place, overwrite, text in (
        (out, False, "'out' must not exist yet"),
        (source, True, "'out' must be another place than 'source'"),
        (f"{memory}/y.npy", False, "'out' must be an array of zarr where it is at an address"),
        (memory + "/other.zarr", True, "which is something else"),
        ("nothing://x.zarr", False, "Protocol not known: nothing"),
    ):
        fsspec.filesystem("memory").pipe(f"{memory}/other.zarr/kept.txt", b"kept")
        with pytest.raises(ArgumentError, match=text):
            tiling.tile_run(model(), source, place, progress=False, overwrite=overwrite)
    with pytest.raises(ArgumentError, match="'out' must be another place"):
        tiling.tile_run(model(), zarr.open_array(source), source, overwrite=True, progress=False)
    tiling.tile_run(nn.ReLU(), source, out, overwrite=True, progress=False)
    assert zarr.open_array(out, mode="r").shape == (1, 3, 40, 48)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_what_is_not_whole_is_no_array(kind: str, memory: str, tmp_path: Path) -> None:
    """Other processes fill it meanwhile; nobody can open it; of a failure nothing is left, or what was."""
    place = f"{memory}/y.zarr" if kind == "memory" else str(tmp_path / "y.zarr")
    with addresses.created(place, (4, 4), "float32", (2, 2)) as made:
        made.array[:2] = 1
        with pytest.raises(FileNotFoundError):
            zarr.open_array(place, mode="r")
        with pytest.raises(ArgumentError, match="that can be read"):
            addresses.opened(place)
    before = zarr.open_array(place, mode="r")[:]
    assert_equal_values(before, np.repeat([[1.0], [0.0]], 2, 0).repeat(4, 1).astype(np.float32))

    def fails() -> None:
        with addresses.created(place, (8,), "float32", (2,)) as made:
            made.array[:3] = 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    if kind == "folder":  # a store of objects has no folder that could be put aside
        assert_equal_values(zarr.open_array(place, mode="r")[:], before)
        assert [path.name for path in tmp_path.iterdir()] == ["y.zarr"]
    else:
        assert not fsspec.filesystem("memory").exists(place)


def test_runs_do_not_mix(memory: str) -> None:
    """What a run that ended, or still goes on, has left is replaced where that is asked; then it is over."""
    place = f"{memory}/y.zarr"
    with pytest.raises(ArgumentError, match="'out' must be left alone while it is made"):  # noqa: SIM117, PT012
        with addresses.created(place, (4,), "float32", (2,)) as first:
            first.array[:] = 1
            with pytest.raises(ArgumentError, match="where a run goes on or has ended before its end"):
                addresses.check(place, overwrite=False)
            addresses.check(place, overwrite=True)
            with addresses.created(place, (3,), "float32", (2,)) as second:
                second.array[:1] = 2
                with pytest.raises(ArgumentError, match="'out' must be left alone"):
                    first.check()
                second.check()
    assert zarr.open_array(place, mode="r")[:].tolist() == [2, 0, 0]
