"""What travels to workers: a model, made ready once in each process, and any block of its result.

A job is one value of a graph to which all its tasks refer. Dask sends such a value once to each worker, keeps
it there while tasks need it, and makes it anew where all copies are lost. The first task in a process has the
model captured; what that made is forgotten with the job.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch

from outstride.models.isolation import undisturbed
from outstride.tiling import arrays
from outstride.tiling.box import Box, elements, holds, hull, shape_of, whole, within
from outstride.tiling.capturing import served_call
from outstride.tiling.clusters.blocks import Chunks, box_at, cut, overlapping
from outstride.tiling.clusters.parcels import Parcel
from outstride.tiling.evaluation import Program
from outstride.tiling.files import addresses, formats
from outstride.tiling.surroundings import Surroundings

Fetch = Callable[[int, Box], Any]
"""What hands over a box of an input as an array."""
Call = tuple[Sequence[Any], Mapping[str, Any]]

_making_ready = threading.RLock()


class Job:
    """A model on its sources, in blocks, as the process that asked would compute it."""

    def __init__(
        self, model: torch.nn.Module, call: Call, dtypes: Sequence[torch.dtype], chunks: Chunks,
        tile: Sequence[int],
    ) -> None:  # fmt: skip
        """A job.

        Args:
            model, call: what is called with what, its inputs known by their sizes alone.
            dtypes: in which inputs are handed over.
            chunks: of the result.
            tile: size of what is computed at once of a block.
        """
        self.model, self.call, self.dtypes = Parcel(model), call, tuple(dtypes)
        self.chunks, self.tile = chunks, tuple(tile)
        self.surroundings = Surroundings.now()
        self.sources: tuple[Any, ...] = ()
        """What workers open themselves, for each input."""
        self.parts: tuple[Chunks, ...] = ()
        """Of inputs whose chunks tasks are given."""
        self.program: Program | None = None
        self._opened: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "program": None, "_opened": None}

    def block(
        self, place: Sequence[int], fetch: Fetch | None = None, goes_on: Callable[[], object] = bool
    ) -> Any:
        """The numbers of one chunk of the result.

        ``goes_on`` is called before each tile and may raise.
        """
        with self.surroundings.entered(threads_of_task()), undisturbed():
            program, box = self._ready(), box_at(self.chunks, place)
            output, graph = program.graph.outputs[0], program.graph
            need = program.need(output, box)
            held: dict[int, list[tuple[Box, Any]]] = {}
            for index in graph.inputs:
                pieces = need.pieces.get(index, [_nothing(graph.nodes[index].shape)])
                pieces = pieces if fetch is None else [hull(pieces)]  # tasks are given all between the ends
                held[index] = [(piece, np.asarray((fetch or self._fetch)(index, piece))) for piece in pieces]

            def read(index: int, asked: Box) -> torch.Tensor:
                found = [part for part in held[index] if not elements(asked) or holds(part[0], asked)]
                assert found or fetch is None, "a block reads what its tiles read"
                piece, part = found[0] if found else (asked, np.asarray(self._fetch(index, asked)))
                values = part[within(asked, piece)]
                return arrays.read(values, whole(shape_of(asked)), self.dtypes[index])

            result = np.empty(shape_of(box), arrays.numpy_dtype(program.graph.nodes[output].dtype))
            for tile in cut(box, self.tile):
                goes_on()
                result[within(tile, box)] = program.run(program.need(output, tile), read).numpy()
        return result

    def of_parts(self, place: Sequence[int], parts: Sequence[Sequence[Any]]) -> Any:
        """The same from the chunks of each source that hold what it needs, in their order."""

        def fetch(number: int, box: Box) -> Any:
            found, given = overlapping(self.parts[number], box), parts[number]
            assert len(found) == len(given), "tasks are given the parts that the program asks for"
            made = np.empty(shape_of(box), given[0].dtype if given else np.float32)
            for index, part in zip(found, given, strict=True):
                held = box_at(self.parts[number], index)
                shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(held, box, strict=True))
                made[within(shared, box)] = part[within(shared, held)]
            return made

        return self.block(place, fetch)

    def _ready(self) -> Program:
        """The model's program, captured by as many threads as the whole would have."""
        with _making_ready:  # torch's tracer is one for all threads
            if self.program is None:
                with self.surroundings.entered():
                    self.program = Program(served_call(self.model.opened(), *self.call))
            return self.program

    def _fetch(self, index: int, box: Box) -> Any:
        with _making_ready:
            if self._opened is None:
                stack = ExitStack()
                self._opened = [stack.enter_context(formats.opened(source)) for source in self.sources]
                weakref.finalize(self, stack.close)
        return self._opened[index][tuple(slice(a, b) for a, b in box)]


def _nothing(shape: Sequence[int]) -> Box:
    return tuple((0, 0) for _ in shape)


def threads_of_task() -> int:
    """Threads for one of the tasks that a worker runs at once: together no more than there are cores.

    And no more than torch has where the worker was started: Dask's nannies set ``OMP_NUM_THREADS=1``.
    """
    from dask.system import CPU_COUNT

    # Dask's own threads are as many as there are cores; who computes in the main thread is alone.
    at_once = 1 if threading.current_thread() is threading.main_thread() else CPU_COUNT
    if distributed := sys.modules.get("distributed"):
        with suppress(ValueError):  # on no worker
            at_once = distributed.get_worker().state.nthreads
    return max(min(torch.get_num_threads(), CPU_COUNT // at_once), 1)


class Work:
    """A job and the array that its blocks are written to: what a worker is sent once."""

    def __init__(self, job: Job, target: addresses.Unfinished, token: str) -> None:
        self.job, self.target, self.token = job, target, token

    def make(self, place: Sequence[int]) -> None:
        """One block, from the source to the target."""
        with _counted(self.token):
            numbers = self.job.block(place, goes_on=lambda: _check_wanted(self.token))
            box = box_at(self.job.chunks, place)
            self.target.check()
            with addresses.reached("out", self.target.place):
                self.target.array[tuple(slice(a, b) for a, b in box)] = numbers


# What a worker process knows of runs: their tasks now, and those that are given up.
_counting = threading.Lock()
_now: Counter[str] = Counter()
_given_up: set[str] = set()


@contextmanager
def _counted(token: str) -> Iterator[None]:
    with _counting:
        _now[token] += 1
    try:
        _check_wanted(token)
        yield
    finally:
        with _counting:
            _now[token] -= 1


class GivenUpError(Exception):
    """The run that a block belongs to was interrupted; nobody waits for its numbers."""


def _check_wanted(token: str) -> None:
    if token in _given_up:
        raise GivenUpError


async def given_up(token: str) -> None:
    """On a worker: begin no more blocks of a run, and wait until those that have begun are over."""
    _given_up.add(token)
    while _now[token]:
        await asyncio.sleep(0.02)
