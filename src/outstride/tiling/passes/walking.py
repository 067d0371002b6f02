"""The passes before the tiles as they run: slab by slab, folded and kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from outstride.errors import ArgumentError
from outstride.tiling.box import Box, whole
from outstride.tiling.budget import spelled
from outstride.tiling.evaluation import Program, Read
from outstride.tiling.folds.interface import Fold
from outstride.tiling.maps import Map, MapInFile, MapInMemory, Maps
from outstride.tiling.passes.walk import Schedule, Walk, outputs_of
from outstride.tiling.trimming import Room


def scratch_folder(scratch: str | Path | None) -> Path:
    """Where maps lie that memory does not hold.

    Raises:
        ArgumentError: there is no such folder that can be written to.
    """
    folder = Path(tempfile.gettempdir() if scratch is None else scratch)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ArgumentError(
            f"'scratch' must be a folder that can be written to: got {str(folder)!r}; legal: one that exists"
        )
    return folder


def check_room(schedule: Schedule, folder: Path) -> None:
    """Refuse to begin what would not find the space that it needs.

    Raises:
        ArgumentError: there is less space than the passes keep in files.
    """
    needed = schedule.file_bytes
    free = shutil.disk_usage(folder).free if needed else 0
    if needed > free:
        raise ArgumentError(
            f"'scratch' must be a folder with room for {spelled(needed)}: got {str(folder)!r}, where "
            f"{spelled(free)} are free; legal: another folder, or more 'memory'"
        )


Shown = Callable[[Walk], Iterable[Box]]
"""The slabs of a walk, while somebody looks."""


@contextmanager
def walked(
    program: Program, schedule: Schedule, read: Read, folder: Path, room: Room, shown: Shown = Walk.boxes
) -> Iterator[None]:
    """Play all walks; what the tiles need of them is there until the end."""
    folds = dict[int, Fold]()
    with Maps() as maps:
        program.forget()
        program.maps = maps
        try:
            with torch.inference_mode():
                for walk in schedule.walks:
                    _play(program, schedule, walk, maps, folds, read, folder, room, shown)
            yield
        finally:
            program.maps = {}


def _play(
    program: Program, schedule: Schedule, walk: Walk, maps: Maps, folds: dict[int, Fold], read: Read,
    folder: Path, room: Room, shown: Shown,
) -> None:  # fmt: skip
    """One walk."""
    given = frozenset(maps)
    if walk.whole:
        need = program.need(walk.target, whole(walk.shape))
        program.kept[walk.target] = program.run(need, read, room.box(program, need))
    else:
        for index in walk.writes:
            maps.open(index, _made_for(program, schedule, index, folder))
        for index, number in walk.folds:
            if not number:
                folds[index] = program.barriers[index].fold(program.graph.nodes[index])
        for box in shown(walk):
            made = dict[int, Tensor]()  # those before go
            need = program.needs(outputs_of(program, walk, box), given=given)
            made = program.run_all(need, read, room.box(program, need))
            for index in walk.writes:
                _write(maps[index], need.outputs[index], made[index], folder)
            for index, number in walk.folds:
                folds[index].take(number, box, made[walk.target])
        for index, number in walk.folds:
            if number == folds[index].walks - 1:
                _finish(program, index, folds.pop(index))
    for index in walk.closes:
        maps.close(index)


def _write(kept: Map, box: Box, part: Tensor, folder: Path) -> None:
    try:
        kept.write(box, part)
    except OSError as error:  # somebody else has filled the disk meanwhile
        raise ArgumentError(
            f"'scratch' must be a folder with room: got {str(folder)!r} ({error.strerror or error}); "
            "legal: another folder, or more 'memory'"
        ) from error


def _made_for(program: Program, schedule: Schedule, index: int, folder: Path) -> Map:
    node = program.graph.nodes[index]
    if index in schedule.in_memory:
        return MapInMemory(node.shape, node.dtype)
    return MapInFile(node.shape, node.dtype, folder)


def _finish(program: Program, index: int, fold: Fold) -> None:
    """Hand over what a map was folded to."""
    if program.barriers[index].apply is None:
        program.kept[index] = fold.result()
    else:
        program.folded[index] = fold.result()
