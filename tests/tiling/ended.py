"""Runs that are ended by kill -9 and begun again, each a process of its own, forked from one that is ready.

    python -m tests.tiling.ended FOLDER SEED KILLS some|all SUFFIX...

For every suffix a run that nobody disturbs; one that is killed at random until it has had so many kills; and
one for some or all of the places in the work at which a process may end. What they make must be the same.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from outstride import tiling
from outstride.tiling import arrays
from outstride.tiling.files.writers import plain
from outstride.tiling.results import journal, partial

TILES = {1: 40, 2: 48, 3: 8}
#: In the suffix of several results.
SEVERAL = "{}"


class Heads(nn.Module):
    """Results of three sizes, of which one is no picture."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, 2, padding=1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        fine = self.first(x)
        coarse = self.second(nn.functional.gelu(fine))
        return {"fine": fine, "coarse": coarse, "mean": coarse.mean((2, 3))}


def model_of(suffix: str) -> tuple[nn.Module, int]:
    """A model whose result fits the format, and along how many axes it slides."""
    torch.manual_seed(0)
    if SEVERAL in suffix:
        return Heads().eval(), 2
    if suffix in (".wav", ".flac"):
        return nn.Conv1d(1, 2, 5, padding=2).eval(), 1
    if suffix in (".nii", ".nii.gz"):
        return nn.Conv3d(1, 2, 3, padding=1).eval(), 3
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 2, 3, padding=1)).eval(), 2


def source_of(nd: int, folder: Path) -> Path:
    shape = {1: (1, 1, 2000), 2: (1, 3, 300, 200), 3: (1, 1, 20, 30, 30)}[nd]
    path = folder / f"source{nd}.npy"
    if not path.exists():
        np.save(path, np.random.default_rng(nd).random(shape, np.float32))
    return path


def work(suffix: str, folder: Path, out: Path) -> None:
    model, nd = model_of(suffix)
    scale = (-0.5, 0.5) if suffix in (".png", ".jpg", ".ome.tif") else None
    if suffix in (".png", ".jpg"):
        model = nn.Sequential(model, nn.Conv2d(2, 1, 1)).eval()
    tiling.tile_run(
        model, source_of(nd, folder), out, TILES[nd], progress=False, overwrite=True, output_range=scale
    )


def begun(suffix: str, folder: Path, out: Path, prepare: Callable[[], object] = lambda: None) -> int:
    """A process that makes the file."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            work(suffix, folder, out)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent shall see it
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Its exit code, below 0 where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_running(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies(owner: Any, name: str, call: int, after: bool) -> Callable[[], None]:
    """Has a process end before or after a call of a function."""

    def prepare() -> None:
        real, calls = getattr(owner, name), [0]

        def patched(*args: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == call and not after:
                die()
            result = real(*args, **options)
            if calls[0] == call:
                die()
            return result

        setattr(owner, name, patched)

    return prepare


def torn() -> None:
    """Has a process end in the middle of a line of its journal."""
    real, lines = os.fsync, [0]

    def patched(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").readlink()
        lines[0] += place.name == "journal"
        if lines[0] == 4:
            os.ftruncate(descriptor, place.stat().st_size - 3)
            die()
        real(descriptor)

    os.fsync = patched  # type: ignore[assignment]


PLACES: dict[str, Callable[[], None]] = {
    "at the first tile": dies(arrays, "write", 1, False),
    "after a tile that is not written down": dies(arrays, "write", 4, True),
    "before a line of the journal": dies(journal.Journal, "note", 3, False),
    "after a line of the journal": dies(journal.Journal, "note", 3, True),
    "in a line of the journal": torn,
    "before the result has its name": dies(partial.Partial, "seal", 1, False),
    "as the result is whole": dies(journal.Journal, "whole", 1, True),
    "between two names": dies(Path, "rename", 3, False),
    "as the result has its name": dies(partial.Partial, "remove", 1, False),
    "after all": dies(partial.Partial, "remove", 1, True),
}
#: Of several results.
PLACES_OF_SEVERAL: dict[str, Callable[[], None]] = {
    "between two lines of two journals": dies(journal.Journal, "note", 4, False),
    "as one of several is whole": dies(journal.Journal, "whole", 2, False),
    "as one of several has its name": dies(partial.Partial, "name", 2, False),
    "as two of several have their names": dies(partial.Partial, "name", 2, True),
    "as one of several is done": dies(partial.Partial, "remove", 2, False),
}
PLACES |= PLACES_OF_SEVERAL


SOME = ["in a line of the journal", "between two names", "as the result has its name"]


def content(path: Path) -> dict[str, bytes]:
    """All bytes of a file or a folder, or of all that several results make."""
    if SEVERAL in path.name:
        places = sorted(path.parent.glob(path.name.replace(SEVERAL, "*")))
        return {f"{place.name} {name}": part for place in places for name, part in content(place).items()}
    if not path.is_dir():
        return {"": path.read_bytes()} if path.exists() else {}
    return {str(part.relative_to(path)): part.read_bytes() for part in path.rglob("*") if part.is_file()}


def removed(path: Path) -> None:
    """A result is no more, or several."""
    for place in path.parent.glob(path.name.replace(SEVERAL, "*")):
        plain.removed(place)


def killed_at_random(
    suffix: str, folder: Path, out: Path, chance: random.Random, kills: int
) -> dict[str, Any]:
    """Kill runs a few tiles after what was there, so many times; then let one be."""
    found: list[int] = []
    while len(found) < kills:
        done = partial.progress_of(out)
        wanted = done + chance.randint(0, 5)
        child = begun(suffix, folder, out)
        while partial.progress_of(out) < wanted and is_running(child):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        if ended(child) == 0:
            return {"tiles": found, "code": 0}
        found.append(partial.progress_of(out))
    return {"tiles": found, "code": ended(begun(suffix, folder, out))}


def main(folder: Path, seed: int, kills: int, places: list[str], suffixes: list[str]) -> None:
    import tifffile  # noqa: F401 - what is loaded here is loaded in every process
    import zarr  # noqa: F401

    torch.set_num_threads(1)
    journal.SECONDS_BETWEEN_NOTES = 0.0
    chance = random.Random(seed)
    for suffix in suffixes:
        place = folder / suffix[1:].replace(SEVERAL, "several")
        place.mkdir()
        out = place / f"result{suffix}"
        warm = suffix if SEVERAL in suffix or model_of(suffix)[1] != 2 else ".npy"
        work(suffix, folder, place / f"warm{warm}")
        removed(place / f"warm{warm}")
        code = ended(begun(suffix, folder, out))
        expected = content(out) if code == 0 else {}
        rows: dict[str, Any] = {"undisturbed": {"code": code}}
        removed(out)
        rows["random"] = killed_at_random(suffix, folder, out, chance, kills)
        rows["random"]["same"] = content(out) == expected
        for name, prepare in ((name, PLACES[name]) for name in places):
            # over the result before, which is replaced
            if name in PLACES_OF_SEVERAL and SEVERAL not in suffix:
                continue
            first = ended(begun(suffix, folder, out, prepare))
            second = ended(begun(suffix, folder, out))
            same = content(out) == expected
            rows[name] = {"first": first, "code": second, "same": same}
        removed(out)
        left = sorted(path.name for path in place.iterdir())
        print(json.dumps({"suffix": suffix, "left": left, "rows": rows}), flush=True)


if __name__ == "__main__":
    folder, seed, kills, places = sys.argv[1:5]
    main(Path(folder), int(seed), int(kills), list(PLACES) if places == "all" else SOME, sys.argv[5:])
