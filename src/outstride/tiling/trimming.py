"""Memory that is free goes back to the system where a budget needs it.

The C library keeps what is freed for the next call, in pieces between others that are in use: a tensor often
does not fit into what one of its own size has left. To give it back costs time, so that is done only where
what comes next would not fit. Where that is not enough, packed weights go, too, which are made anew: boxes at
the border may be served by other kernels than those in the middle, in other packings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from contextlib import suppress
from types import TracebackType

from outstride.engine.launch.weights.packing import PACKED
from outstride.engine.runtime import heap_trimmer
from outstride.tiling.box import shape_of
from outstride.tiling.costs.memory import NOTHING, Bytes, steps_of
from outstride.tiling.evaluation import Need, Program

_STATUS = "/proc/self/statm"
#: Share of a budget that may come on top of what could not be given back, before that is tried again.
_SLACK = 0.125


class Room:
    """A budget for all that the process takes from now on, as long as it is entered."""

    def __init__(self, budget: int) -> None:
        self._budget, self._status = budget, -1
        self._seen = set[Hashable]()
        self._steps = dict[Hashable, dict[int, Bytes]]()

    def __enter__(self) -> Room:
        with suppress(OSError):
            self._status = os.open(_STATUS, os.O_RDONLY)
        self._before = self._resident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def box(self, program: Program, need: Need) -> Callable[[int], None]:
        """What sees to it, before each tensor of a box is made, that it fits.

        Boxes of the same sizes are served by the same kernels, so what those keep is there after the first.
        """
        if heap_trimmer() is None or self._status < 0:
            return lambda _: None
        sizes: Hashable = tuple((index, shape_of(need.boxes[index])) for index in need.parts)
        steps = self._steps.get(sizes)
        if steps is None:
            steps = self._steps[sizes] = steps_of(program, need)

        def make(index: int) -> None:
            tensors, kept = steps.get(index, NOTHING)
            self._make(tensors, kept, (sizes, index))

        return make

    def _make(self, tensors: int, kept: int, layer: Hashable) -> None:
        trim = heap_trimmer()
        assert trim is not None
        if self._lacking(tensors + (0 if layer in self._seen else kept)) > 0:
            trim(0)
            if self._lacking(tensors + (0 if layer in self._seen else kept)) > 0 and self._seen:
                self._seen.clear()
                PACKED.clear()
                trim(0)
            lacking = self._lacking(tensors + (0 if layer in self._seen else kept))
            if lacking > 0:  # in use, and not only by tiles
                self._before += lacking + int(_SLACK * self._budget)
        if kept:
            self._seen.add(layer)

    def _lacking(self, needed: int) -> int:
        return self._resident() - self._before + needed - self._budget

    def _resident(self) -> int:
        """Bytes of the process that are in memory; 0 where the system does not say."""
        try:
            return int(os.pread(self._status, 64, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0
