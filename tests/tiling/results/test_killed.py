"""Runs that are killed: the same call makes the file of a run that was not, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


def killed(folder: Path, kills: int, places: str, *suffixes: str) -> None:
    """Runs in processes that are killed make what one makes that is not."""
    command = [sys.executable, "-m", "tests.tiling.ended", str(folder), "0", str(kills), places, *suffixes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {line["suffix"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(found) == list(suffixes)
    for suffix, line in found.items():
        assert line["left"] == [], suffix
        rows = line["rows"]
        assert 0 < len(rows["random"]["tiles"]) <= kills  # a quick run is done before all of them
        assert rows["random"]["tiles"] == sorted(rows["random"]["tiles"])
        for place, row in rows.items():
            assert row["code"] == 0, (suffix, place)
            assert row.get("same", True), (suffix, place)
            if place != "between two names" or suffix.endswith("zarr"):  # files have no moment without a name
                assert row.get("first", -9) == -9, (suffix, place)


def test_a_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    pytest.importorskip("zarr")
    killed(tmp_path, 2, "some", ".zarr")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_of_several_results_that_are_killed_make_the_same_files(tmp_path: Path) -> None:
    for package in ("tifffile", "zarr"):
        pytest.importorskip(package)
    killed(tmp_path, 8, "all", ".{}.npy", ".{}.zarr")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_that_are_killed_make_the_same_file_of_every_format(tmp_path: Path) -> None:
    for package in ("tifffile", "zarr", "nibabel", "soundfile", "PIL", "scipy"):
        pytest.importorskip(package)
    flat = (".npy", ".tif", ".nii", ".wav")
    killed(tmp_path, 8, "all", *flat, ".zarr", ".ome.zarr", ".ome.tif", ".png", ".jpg", ".flac", ".nii.gz")
