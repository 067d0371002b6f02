"""Tiles of a finished file, made once more."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from outstride import tiling
from outstride.errors import ArgumentError
from tests.tiling.results.test_resuming import TILE, model, names, run, source

__all__ = ["source"]


@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".ome.zarr", ".tif", ".ome.tif"])
def test_some_tiles_of_a_finished_file_are_made_once_more(tmp_path: Path, source: Path, suffix: str) -> None:
    pytest.importorskip("tifffile")
    pytest.importorskip("zarr")
    out = run(source, tmp_path / f"y{suffix}")
    verdict = tiling.recheck(model(), source, out, 20, TILE)
    assert verdict
    assert verdict.elements == 2 * 40 * 64
    verdict = tiling.recheck(model(1), source, out, 3, TILE)
    assert not verdict
    assert not verdict.rounding
    assert names(tmp_path) == sorted(["x.npy", out.name])


def test_a_file_that_is_not_the_result_is_said(tmp_path: Path, source: Path) -> None:
    pytest.importorskip("PIL")
    with pytest.raises(ArgumentError, match="'out' must hold the result of the model"):
        tiling.recheck(model(), source, source, 3)
    with pytest.raises(ArgumentError, match="'out' must be a file that can be read"):
        tiling.recheck(model(), source, tmp_path / "none.npy", 3)
    with pytest.raises(ArgumentError, match="'out' must be a file that keeps the numbers"):
        tiling.recheck(nn.Conv2d(1, 1, 1), source, tmp_path / "none.png", 3)
