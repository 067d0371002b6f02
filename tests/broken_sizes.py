"""Sizes of the engine's memory broken on purpose, each in a process of its own: does the guard see it?

``python -m tests.broken_sizes`` prints a line of JSON, how the process of each ended: by a signal, less than
0, or an exit code, 0 if nothing was seen.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn

from outstride.engine import runtime
from outstride.engine.launch import call_cache, gather
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.gradients import dots, gradient
from outstride.engine.launch.maps import pooling
from outstride.engine.planner import arguments
from outstride.engine.planner.dataflows.lanes import Lanes
from outstride.engine.planner.dataflows.packed import Packed
from outstride.engine.planner.gradients import gradient as gradients
from tests.cases import BY_ID
from tests.environments import computed_by, threads
from tests.fuzz.graphs.tracing import traced
from tests.guard import GuardedPages, check_bounds

#: A set that has every dataflow but those under masks.
SET = "avx2"
_Function = Callable[..., Any]
_Rooms = dict[str, int]
#: A room ends with a line of the caches, many with a vector or two more than is used.
_LINE, _MUCH = 64, 1024


def _case(name: str, algorithm: str) -> None:
    check_bounds(replace(BY_ID[name], algorithm=algorithm), torch.float32, "end")


_DEEP, _SHORT = (partial(_case, "conv2d-channels-70-17", name) for name in ("direct", "short"))
_FEW = partial(_case, "conv2d-width-33", "direct")


def _pooled() -> None:
    with GuardedPages():
        pooling.max_pool(torch.randn(1, 2, 9, 70), (3, 3), (2, 2), (1, 1))


def _in_an_arena() -> None:
    """An element too many of a value that has a page of its own there."""
    block_of = ArgumentBlock.of

    def wrong(index: Any, scalars: _Rooms, tables: Any) -> ArgumentBlock:
        more = {"elements": scalars["elements"] + 1} if "elements" in scalars else {}
        return block_of(index, scalars | more, tables)

    x, model = torch.randn(1, 3, 12, 12), nn.Sequential(nn.Softplus(), nn.ReLU(), nn.Softplus())
    with torch.no_grad(), GuardedPages():
        run = traced(model, [x])
        run(x)
        call_cache.clear()
        with mock.patch.object(ArgumentBlock, "of", wrong):
            run(x)


@dataclass(frozen=True)
class _Broken:
    """Something is played while a function has another result."""

    play: Callable[[], object]
    owner: Any
    name: str
    change: Callable[[Any], Any]

    def run(self) -> None:
        function = getattr(self.owner, self.name)

        def wrong(*given: Any, **options: Any) -> Any:
            return self.change(function(*given, **options))

        with mock.patch.object(self.owner, self.name, wrong):
            self.play()


def _sooner(rooms: _Rooms, name: str, size_bytes: int) -> _Rooms:
    """What begins at a room, or ends the scratch, does so too early."""
    moved = {n for n, v in rooms.items() if "bytes" in n and v >= rooms[name]}
    return {n: v - size_bytes * (n in moved) for n, v in rooms.items()}


def _scratch(play: Callable[[], object], ends_before: str, size_bytes: int = _MUCH) -> _Broken:
    return _Broken(play, Packed, "scratch", lambda rooms: _sooner(rooms, ends_before, size_bytes))


def _of_gradient(play: Callable[[], object], owner: Any, name: str, ends_before: str) -> _Broken:
    def change(found: tuple[_Rooms, int]) -> tuple[_Rooms, int]:
        rooms = _sooner(found[0] | {"scratch_bytes": found[1]}, ends_before, _MUCH)
        return rooms, rooms["scratch_bytes"]

    return _Broken(play, owner, name, change)


BROKEN = {
    "a strip": _scratch(_DEEP, "temp_bytes_offset"),
    "results of a chunk": _scratch(_DEEP, "line_bytes_offset"),
    "an output row": _scratch(
        partial(_case, "transpose2d-kernel-is-stride-4", "direct"), "runs_bytes_offset", 512
    ),
    "planes": _scratch(_SHORT, "temp_bytes_offset"),
    "products": _scratch(_SHORT, "line_bytes_offset"),
    "zeros": _Broken(
        partial(_case, "conv2d-depthwise-17", "direct"), Lanes, "scratch",
        lambda rooms: _sooner(rooms, "scratch_bytes", _LINE),
    ),
    "what workers ask for": _Broken(
        _DEEP, gather, "SizeClass", lambda made: replace(made, scratch_bytes=made.scratch_bytes - _LINE)
    ),
    "packed weights": _Broken(
        _FEW, arguments, "_groups", lambda found: (found[0], found[1] - 1, found[2])
    ),
    "a table": _Broken(_FEW, arguments, "term_offsets", lambda found: found[:-1]),
    "a panel of a gradient": _of_gradient(_DEEP, gradients, "_rooms", "terms_bytes_offset"),
    "sums of a gradient": _of_gradient(_SHORT, gradients, "_short_rooms", "terms_bytes_offset"),
    "partial sums": _Broken(
        _DEEP, gradient._PartialSums, "empty",
        lambda made: torch.empty(made.numel() - 1, dtype=made.dtype),
    ),
    "a strip of dot products": _Broken(
        _FEW, dots, "dot_scalars", lambda found: (_sooner(found[0], "sums_bytes_offset", _MUCH), *found[1:])
    ),
    "a pooled strip": _Broken(
        _pooled, pooling, "strip_of",
        lambda strip: replace(strip, scratch_bytes=strip.scratch_bytes - _LINE),
    ),
    "a value in an arena": _Broken(_in_an_arena, arguments, "term_offsets", lambda found: found),
}  # fmt: skip


def _end_of(broken: _Broken) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        broken.run()
        code = 0
    finally:
        os._exit(code)


def main() -> None:
    """Play all."""
    with runtime.instruction_set(SET), threads(1), computed_by("short"):
        print(json.dumps({name: _end_of(broken) for name, broken in BROKEN.items()}))


if __name__ == "__main__":
    main()
