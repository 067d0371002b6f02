"""``cluster_run``: a result made by the workers of a Dask scheduler, each writing its own blocks of an array.

No graph is made: a window of blocks is on its way, and each that is done is followed by the next. So a run of
a million blocks takes as much memory at the client and the scheduler as one of a thousand.
"""

from __future__ import annotations

import operator
import pickle
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from outstride.errors import ArgumentError, UnsupportedError
from outstride.tiling import arrays
from outstride.tiling.clusters import blocks
from outstride.tiling.clusters.jobs import Work, given_up
from outstride.tiling.clusters.lazy import job_of
from outstride.tiling.clusters.schedulers import checked, connected
from outstride.tiling.files import addresses
from outstride.tiling.files.readers import File
from outstride.tiling.inputs import Inputs, opened
from outstride.tiling.planning import TilePlan
from outstride.tiling.running import check_model
from outstride.tiling.showing import bar

#: Blocks on their way at a time, at least: enough for hundreds of threads, and a megabyte of a scheduler.
_WINDOW = 1024


@dataclass(frozen=True)
class Spread:
    """The plan of a run on a cluster: printable."""

    plan: TilePlan
    """What is computed at once."""
    block: tuple[int, ...]
    """Size of what a task makes, on the last axes of the result."""
    tasks: int
    workers: int
    threads: int
    """Tasks at a time, of all workers."""

    def to_dict(self) -> dict[str, object]:
        """The figures, for a program to read."""
        return {
            **self.plan.to_dict(), "block": list(self.block), "tasks": self.tasks, "workers": self.workers,
            "threads": self.threads,
        }  # fmt: skip

    def __str__(self) -> str:
        size = " x ".join(map(str, self.block))
        tasks = f"{self.tasks} tasks of {size}, {self.threads} at a time on {self.workers} workers"
        return f"{self.plan}\n  in tasks      {tasks}"


def cluster_run(
    model: torch.nn.Module,
    source: Any,
    out: str | Path,
    scheduler: str,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> str | Path:
    """Run a model on an input larger than memory by a Dask cluster's workers, with the bits of the whole.

    Args:
        model: any module in inference mode that returns one tensor; each worker is sent it once.
        source: what every worker can open: the path of a file in a folder that they share, an array of zarr
            or the address of one, such as "s3://bucket/x.zarr"; of a model with several inputs a tuple or a
            dict of such, as in ``tile_run``, in which small ones may be in memory.
        out: a .zarr in a shared folder or at an address, written by the workers themselves.
        scheduler: the address of a Dask scheduler, "tcp://host:8786".
        tile: size of what a task makes on the last axes of the result, computed at once; by default blocks
            of about a hundred megabytes, aligned to the source's chunks and computed in tiles.
        memory: bytes that a task's tensors may take.
        progress: show a bar while it runs, if the error stream is a terminal.
        overwrite: replace the array at ``out`` if there is one.

    Returns:
        ``out``. Until it is whole it cannot be opened as an array; of an interrupted run nothing is left.

    Raises:
        ArgumentError: an argument does not fit, the scheduler does not answer, or a place cannot be read or
            written by the workers.
        UnsupportedError: ``distributed`` is not installed here, workers lack this package or have other
            versions, or the model needs every pixel.

    Law: a tile is the whole (4), on however many workers, and whichever of them end meanwhile.

    Example:
        >>> cluster_run(torch.nn.ReLU(), "x.zarr", "y.zarr", "tcp://127.0.0.1:8786")  # doctest: +SKIP
        'y.zarr'
    """
    for note in cluster_run_noting(model, source, out, scheduler, tile, memory, progress, overwrite):
        warnings.warn(f"{out}: {note}", stacklevel=2)
    return out


def cluster_run_noting(
    model: torch.nn.Module, source: Any, out: str | Path, scheduler: str, tile: int | Sequence[int] | None,
    memory: int | str | None, progress: bool, overwrite: bool,
    begins: Callable[[Spread], object] | None = None,
) -> Sequence[str]:  # fmt: skip
    """``cluster_run``, and what is to be said of it. ``begins`` is told the plan before the first block."""
    check_model(model)
    inputs, place = Inputs.of(source), str(out if addresses.is_address(out) else Path(out).absolute())
    inputs = inputs.mapped(_for_all if inputs.alone else _for_all_or_small)
    for each in inputs.sources:
        addresses.check(place, overwrite, each)
    with connected(scheduler) as client, opened(inputs, None) as read:
        threads, notes = checked(client, scheduler)
        job, run = job_of(model, read, inputs, tile, memory)
        for index in run.boxed:
            _for_all(inputs.leaves[index])
        node, axes = run.node, len(run.plan.tile)
        dtype = arrays.numpy_dtype(node.dtype)
        stored, block = blocks.stored(job.chunks, axes), tuple(sizes[0] for sizes in job.chunks[-axes:])
        with addresses.created(place, node.shape, dtype, stored) as target:
            spread = Spread(run.plan, block, blocks.count(job.chunks), len(threads), sum(threads.values()))
            if begins is not None:
                begins(spread)
            work = Work(job, target, uuid4().hex)
            made = _made(client, work, max(_WINDOW, 4 * spread.threads), scheduler)
            with closing(made) as done, bar(spread.tasks, progress) as shown:
                for _ in shown(done, f"{spread.tasks} tasks", 1):
                    pass
    return notes


def _for_all_or_small(source: Any) -> Any:
    """The same of several: what is small and in memory is sent with the model."""
    in_memory = isinstance(source, torch.Tensor) or type(source).__module__ == "numpy"
    return source if in_memory else _for_all(source)


def _for_all(source: Any) -> Any:
    """A source as every worker can open it."""
    if addresses.is_address(source) or type(source).__module__.partition(".")[0] == "zarr":
        return source
    if isinstance(source, File) and source == File(source.path):
        source = source.path
    if isinstance(source, (str, Path)):
        return Path(source).absolute()
    raise ArgumentError(
        f"'source' must be what every worker can open: got {type(source).__name__}; legal: a path in a "
        "shared folder, an address, an array of zarr, or for what is in memory tiling.dask"
    )


def _made(client: Any, work: Work, window: int, scheduler: str) -> Generator[None, None, None]:
    """Have all blocks made, and say so for each; whatever ends it, nobody writes afterwards."""
    from dask import config
    from distributed import as_completed

    left, token = blocks.places(work.job.chunks), work.token
    with config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):  # weights travel once
        # What the scheduler is sent names nothing that it would have to import.
        sent = client.submit(pickle.loads, pickle.dumps(work), key=f"outstride-{token}")

    def begun(place: Sequence[int]) -> Any:
        return client.submit(operator.methodcaller("make", place), sent, key=(f"block-{token}", *place))

    pending = as_completed([begun(place) for place in islice(left, window)], loop=client.loop)
    try:
        for future in pending:
            if future.status != "finished":
                raise _refusal(future, scheduler)
            yield None
            if (place := next(left, None)) is not None:
                pending.add(begun(place))
    finally:
        _end(client, pending, sent, token)


def _refusal(future: Any, scheduler: str) -> BaseException:
    """What is said of a block that was not made."""
    from distributed.scheduler import KilledWorker

    if future.status != "error":
        return ArgumentError(
            f"'scheduler' must run until the result is whole: got {scheduler!r}, which went away; "
            "legal: one that stays"
        )
    error: BaseException = future.exception()
    if isinstance(error, KilledWorker):
        return ArgumentError(
            "'memory' must be what a worker has for a task: got a block with which "
            f"{error.allowed_failures + 1} workers ended; legal: less, or workers with more memory"
        )
    if isinstance(error, ImportError):
        return UnsupportedError(
            f"'model' must be made of code that workers have: got one of which they say {error}; "
            "legal: its packages installed there"
        )
    return error


def _end(client: Any, pending: Any, sent: Any, token: str) -> None:
    with suppress(Exception):  # of a scheduler that went away nothing can be taken back
        if client.status == "running" and not pending.is_empty():
            client.cancel([*pending.futures, sent], force=True)
            client.run(given_up, token, on_error="ignore")
    pending.clear()
