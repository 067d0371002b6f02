"""Inputs larger than memory: a model tile by tile, with exactly the result of the whole."""

from __future__ import annotations

from outstride.tiling.clusters import cluster_run
from outstride.tiling.dasking import dask
from outstride.tiling.planning import TilePlan
from outstride.tiling.running import plan, tile_run
from outstride.tiling.streaming import Stream, stream
from outstride.tiling.verifying import Verdict, verify

__all__ = ["Stream", "TilePlan", "Verdict", "cluster_run", "dask", "plan", "stream", "tile_run", "verify"]
