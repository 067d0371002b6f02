"""A result that is being made: a hidden folder beside its place, with a journal of what is done.

    .mask.zarr.part/journal     what is made, and which tiles are on the disk
    .mask.zarr.part/result      what takes the result's name when it is whole
    .mask.zarr.part/replaced    what had the name before, for the moment in which a folder takes its place

Whatever ends the process, the same command finds the folder and goes on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from outstride.errors import ArgumentError
from outstride.tiling.files.formats import one_sentence
from outstride.tiling.files.writers.disk import same_place, sync_folder
from outstride.tiling.files.writers.interface import RESULT
from outstride.tiling.files.writers.plain import removed
from outstride.tiling.outputs import HERE
from outstride.tiling.results.identity import difference
from outstride.tiling.results.journal import Journal

_JOURNAL, _REPLACED = "journal", "replaced"
_SUFFIX = ".part"
#: What stands for the name of any result where paths are looked for.
_ANY = "*"


def folder_of(out: Path) -> Path:
    """Where a result is while it is made."""
    place = same_place(out)
    return place.with_name(f".{place.name}{_SUFFIX}")


class Partial:
    """The folder of a result, held by this process alone."""

    def __init__(self, out: Path, folder: Path, journal: Journal) -> None:
        self.out, self.folder, self.journal = out, folder, journal

    @property
    def is_finished(self) -> bool:
        """Whether the result has its name already, and the process ended before it could clean up."""
        return self._is_gone and os.path.lexists(self.out)

    @property
    def is_removed(self) -> bool:
        """Whether it had its name, and somebody has removed it since."""
        return self._is_gone and not os.path.lexists(self.out)

    @property
    def _is_gone(self) -> bool:
        """Whether the result was about to get its name, and is here no more."""
        return self.journal.is_whole and not (self.folder / RESULT).exists()

    def check(self, belongs: dict[str, Any] | None) -> None:
        """Refuse to go on with what belongs to something else; where nothing is done, begin anew.

        Raises:
            ArgumentError: it does.
        """
        was = self.journal.belongs
        if was is None or not self.journal.done:
            self.restart()
            return
        word = "a source that cannot be known again" if belongs is None else difference(dict(was), belongs)
        if word is not None:
            raise ArgumentError(
                f"'out' must be gone on with by what began it: got {word} for {self.folder.name!r}, in "
                f"which {self.journal.done} tiles are done; legal: the same as then, or resume=False "
                "(--no-resume), which begins anew"
            )

    def seal(self) -> None:
        """Write down that the result is whole and gets its name now."""
        sync_folder(self.folder)
        self.journal.whole()

    def name(self) -> None:
        """Give the result its name; a folder that has it is moved aside for a moment."""
        place, made = same_place(self.out), self.folder / RESULT
        if place.is_dir():
            place.rename(self.folder / _REPLACED)
            try:
                made.rename(place)
            except OSError:
                (self.folder / _REPLACED).rename(place)
                raise
        else:
            made.replace(place)
        sync_folder(place.parent)

    def restart(self) -> None:
        """Forget what is done; what was moved aside for a result that did not come gets its name back."""
        aside, place = self.folder / _REPLACED, same_place(self.out)
        if aside.exists() and not os.path.lexists(place):
            aside.rename(place)
        self.journal.clear()  # first: what it says must be there
        self.empty()
        self.journal = Journal(self.folder / _JOURNAL)

    def empty(self) -> None:
        """Leave the journal."""
        for path in self.folder.iterdir():
            if path.name != _JOURNAL:
                removed(path)

    def remove(self) -> None:
        """Leave nothing; the journal goes last, so that what is left is known for what it is."""
        self.empty()
        removed(self.folder)


def put(partials: Sequence[Partial]) -> None:
    """Give results their names, all of which are whole: whatever ends this, the next run does the rest."""
    for step in (Partial.seal, Partial.name):
        for partial in partials:
            with one_sentence("out", partial.out):
                step(partial)


@contextmanager
def held(out: Path) -> Iterator[Partial]:
    """The folder of a result, made if there is none; removed afterwards where nothing in it is worth a thing.

    Raises:
        ArgumentError: another process is making the result, or something else has the folder's name.
    """
    folder = folder_of(out)
    if folder.is_dir() and not (folder / _JOURNAL).exists() and any(folder.iterdir()):
        raise ArgumentError(
            f"'out' must have room for {folder.name!r} beside it: got {str(out)!r}, where that is something "
            "else; legal: another name"
        )
    with ExitStack() as opened:
        with one_sentence("out", out):
            folder.mkdir(exist_ok=True)
            file = opened.enter_context((folder / _JOURNAL).open("ab"))
        if not _locked(file):
            raise ArgumentError(
                f"'out' must be made by one process at a time: got {str(out)!r}, which another is making; "
                "legal: another name, or the same when that one has ended"
            )
        partial = Partial(out, folder, Journal(folder / _JOURNAL))
        if partial.is_removed:
            partial.restart()
        try:
            yield partial
        finally:
            if folder.exists() and not partial.journal.done:
                partial.restart()
                partial.remove()


def _locked(file: Any) -> bool:
    """Whether this process has a file alone; true where the system cannot say."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True


@dataclass(frozen=True)
class Leftover:
    """What a run left that was ended before its result was whole."""

    folder: Path
    done: int
    tiles: int
    bytes: int

    @property
    def name(self) -> str:
        """Of the result that it was to be."""
        return _place_of(self.folder).name


def leftovers(folder: Path) -> list[Leftover]:
    """Results in a folder whose runs have ended before they were whole."""
    found = []
    for path in sorted(folder.glob(f".*{_SUFFIX}")):
        if not (path / _JOURNAL).is_file():
            continue
        with (path / _JOURNAL).open("ab") as file:
            if _locked(file):
                journal = Journal(path / _JOURNAL)
                size = sum(_taken(part) for part in path.rglob("*") if part.is_file())
                tiles = len(journal.grids[-1]) if journal.grids else 0
                found.append(Leftover(path, journal.done, tiles, size))
    return found


def _taken(path: Path) -> int:
    """What a file takes of the disk; one that is not full takes less than its size."""
    status = path.stat()
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else int(blocks) * 512


def cleaned(found: Sequence[Leftover]) -> list[Leftover]:
    """Remove leftovers."""
    for left in found:
        with held(_place_of(left.folder)) as partial:
            partial.restart()
    return list(found)


def named(out: Path | str) -> list[Path]:
    """What is at a path, or at those that several results of it may have."""
    place = same_place(Path(out))
    pattern = _ANY.join(escape(part) for part in str(place.relative_to(place.anchor)).split(HERE))
    return sorted(Path(place.anchor).glob(pattern))


def folders_of(out: Path | str) -> list[Path]:
    """Where a result is while it is made, or several of one path, as far as they have been begun."""
    return [folder for folder in named(folder_of(Path(out))) if (folder / _JOURNAL).is_file()]


def is_over(out: Path | str) -> bool:
    """Whether results of a path are whole, and all that was to be made with them."""
    return any(Journal(folder / _JOURNAL).is_over for folder in folders_of(out))


def end(outs: Sequence[Path | str]) -> None:
    """Remove what is left of results that have their names: once one journal says it is over, all have."""
    found = [folder for out in outs for folder in folders_of(out)]
    folders = [folder for folder in found if Journal(folder / _JOURNAL).is_whole]  # others are no part of it
    for folder in folders:
        Journal(folder / _JOURNAL).over()
    for folder in folders:
        with held(_place_of(folder)) as partial:
            partial.remove()


def _place_of(folder: Path) -> Path:
    """Where what is made in a folder goes."""
    return folder.with_name(folder.name[1 : -len(_SUFFIX)])


def progress_of(out: Path | str) -> int:
    """How many tiles of a result are on the disk; of several the fewest."""
    return min((Journal(folder / _JOURNAL).done for folder in folders_of(out)), default=0)
