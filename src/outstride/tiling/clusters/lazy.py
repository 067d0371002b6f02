"""``dask``: a result as a lazy Dask array, a block of tiles for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from outstride.errors import ArgumentError, UnsupportedError
from outstride.models.node import listed
from outstride.tiling import arrays
from outstride.tiling.budget import budget_of
from outstride.tiling.clusters import blocks
from outstride.tiling.clusters.jobs import Job
from outstride.tiling.files.addresses import is_address
from outstride.tiling.inputs import Inputs, opened
from outstride.tiling.running import TileRun, check_model


def dask(
    model: torch.nn.Module,
    array: Any,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
) -> Any:
    """The result of a model as a lazy Dask array, a chunk for each task, with exactly the bits of the whole.

    Args:
        model: any module in inference mode that returns one tensor; it is sent to each worker once.
        array: the whole input as the model takes it, (N, C, *size): what workers open themselves, an array of
            zarr or the path or address of a file, of which each reads its parts and the graph has one layer;
            or a Dask array, an array or a tensor, whose chunks the tasks are given. Of a model with several
            inputs a tuple or a dict of such, as in ``tile_run``.
        tile: size of a chunk on the last axes of the result, computed at once. By default chunks have about a
            hundred megabytes, aligned to those of the source, computed in tiles that stay in the caches.
        memory: bytes that a task's tensors may take on a worker.

    Returns:
        A ``dask.array.Array``. A task computes by as many threads as are left to it by those beside it.

    Raises:
        ArgumentError: ``tile`` or ``memory`` does not fit, or a layer is in training mode.
        UnsupportedError: Dask is not installed, the model returns several tensors, or it needs every pixel.

    Example:
        >>> model = torch.nn.Conv2d(3, 8, 3, padding=1)
        >>> lazy = dask(model, np.zeros((1, 3, 512, 512), "float32"), tile=256)
        >>> lazy.shape, lazy.chunksize
        ((1, 8, 512, 512), (1, 8, 256, 256))
    """
    if find_spec("dask") is None or find_spec("dask.array") is None:
        raise UnsupportedError("lazy arrays need Dask: pip install 'outstride[tiling]'.")
    check_model(model)
    given = Inputs.of(array, "array").mapped(_given)
    with opened(given, None) as read:
        job, run = job_of(model, read, given, tile, memory)
        if job.sources:
            return _opening_parts(job, run)
        return _given_parts(job, run, [read.leaves[place] for place in run.boxed])


def _opening_parts(job: Job, run: TileRun) -> Any:
    """Tasks that read what they need themselves: one layer of a graph, however many they are."""
    import dask.array as da

    name, sent = _sent(job)
    dtype = arrays.numpy_dtype(run.node.dtype)
    empty = np.empty((0,) * len(job.chunks), dtype)
    return da.map_blocks(_block, job=sent, chunks=job.chunks, dtype=dtype, meta=empty, name=name)


def _given_parts(job: Job, run: TileRun, sources: Sequence[Any]) -> Any:
    """Tasks that are given the chunks of Dask arrays that they need."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    name, sent = _sent(job)
    tasks: dict[Any, Any] = {}
    for place in blocks.places(job.chunks):
        boxes = run.program.need(run.output, blocks.box_at(job.chunks, place)).boxes
        parts = [
            [(source.name, *part) for part in blocks.overlapping(source.chunks, boxes[index])]
            if index in boxes
            else []
            for index, source in enumerate(sources)
        ]
        key = (name, *place)
        tasks[key] = (_of_parts, sent.key, list(place), parts)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[sent, *sources])
    return da.Array(graph, name, job.chunks, dtype=arrays.numpy_dtype(run.node.dtype))


def _sent(job: Job) -> tuple[str, Any]:
    """A name for a result, and a job as one value of its graph."""
    from dask.delayed import delayed

    name = f"outstride-{uuid4().hex}"
    return name, delayed(job, name=f"job-of-{name}", traverse=False)


def _given(array: Any) -> Any:
    """A Dask array, or what each worker can open: an array of zarr, a path or an address."""
    import dask.array as da

    if isinstance(array, (str, Path)):
        return array if is_address(array) else Path(array).absolute()
    if not isinstance(array, da.Array):
        arrays.check_source(array, "array")
        if type(array).__module__.partition(".")[0] == "zarr":
            return array
        if isinstance(array, torch.Tensor):
            arrays.numpy_dtype(array.dtype, "array")
            array = array.detach().cpu().numpy()
        array = da.from_array(array)
    if any(np.isnan(n) for n in array.shape):
        raise ArgumentError(
            f"'array' must have a known shape: got {array.shape}; legal: array.compute_chunk_sizes()"
        )
    return array


def job_of(
    model: torch.nn.Module,
    read: Inputs,
    given: Inputs,
    tile: int | Sequence[int] | None,
    memory: int | str | None,
) -> tuple[Job, TileRun]:
    """What workers are sent, and the run that it was planned by.

    ``given``: what they open as ``read`` themselves, or Dask arrays of which tasks are given parts.

    Raises:
        ArgumentError: some of what is read by parts is opened by workers and some is not.
        UnsupportedError: the model needs every pixel.
    """
    run = TileRun(model, read, tile, memory)
    plan = run.plan
    run.program.graph.only_output("run on a cluster")
    if run.program.wholes:
        names = listed(run.program.graph.nodes[index] for index in run.program.wholes)
        raise UnsupportedError(
            f"'model' must not need every pixel to be run on a cluster: got {names}; "
            "legal: tile_run, which goes over the whole in passes first"
        )
    block = plan.tile
    if tile is None:
        sizes = np.dtype(run.source.dtype).itemsize, run.node.dtype.itemsize
        most = min(blocks.BLOCK_BYTES, max(budget_of(memory) - plan.peak_bytes, 0))
        block = blocks.block_of(plan, _chunks_of(run.source, len(block)), sizes, most)
    chunks = blocks.grid(replace(plan, tile=block))
    even = blocks.even(plan.tile, block) if tile is None else block
    job = Job(model, run.call, run.dtypes, chunks, even)
    job.program = run.program
    sources = [given.leaves[place] for place in run.boxed]
    in_parts = [type(source).__module__.partition(".")[0] == "dask" for source in sources]
    if all(in_parts):
        job.parts = tuple(source.chunks for source in sources)
    elif any(in_parts):
        name = given.names[run.boxed[in_parts.index(True)]]
        raise ArgumentError(
            f"'{name}' must be what every worker can open, as another input is: got an array in memory or "
            "of Dask; legal: all of them files, arrays of zarr and addresses, or all arrays"
        )
    else:
        job.sources = tuple(sources)
    return job, run


def _chunks_of(array: Any, axes: int) -> tuple[int, ...] | None:
    """Sizes in which a source is stored, the largest where they differ."""
    chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)
    if not isinstance(chunks, tuple):
        return None
    return tuple(max(sizes) if isinstance(sizes, tuple) else sizes for sizes in chunks[-axes:])


# What tasks call. A graph names these functions and holds the job once.
def _block(job: Job, block_id: Sequence[int]) -> Any:
    return job.block(block_id)


def _of_parts(job: Job, place: Sequence[int], parts: Sequence[Sequence[Any]]) -> Any:
    return job.of_parts(place, parts)
