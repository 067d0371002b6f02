"""Inputs larger than memory: a model tile by tile, with exactly the result of the whole."""

from __future__ import annotations

from outstride.tiling.clusters.lazy import dask
from outstride.tiling.clusters.workers import cluster_run
from outstride.tiling.files.readers import File
from outstride.tiling.making import tile_run
from outstride.tiling.planning import TilePlan
from outstride.tiling.rechecking import recheck
from outstride.tiling.running import plan
from outstride.tiling.streams.streaming import Stream, stream
from outstride.tiling.verifying import Verdict, verify

__all__ = [
    "File", "Stream", "TilePlan", "Verdict", "cluster_run", "dask", "plan", "recheck", "stream", "tile_run",
    "verify",
]  # fmt: skip
