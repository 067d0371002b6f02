"""Files as arrays: sources are opened, not loaded, where they can be; results are renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError, OutstrideError, UnsupportedError
from outstride.tiling import addresses
from outstride.tiling.budget import spelled
from outstride.tiling.reading import OPENERS, PICTURES, TIFFS, has_16_bits, wave
from outstride.tiling.writing import CHUNK, MAKERS, Facts, zarr_chunks

__all__ = [
    "CHUNK", "HIGHEST_RATE", "READABLE", "WRITABLE", "Facts", "check_path", "created", "created_at",
    "facts_of", "is_sound", "opened",
]  # fmt: skip

READABLE = (".npy", ".zarr", *TIFFS, *PICTURES, ".wav")
WRITABLE = (".npy", ".zarr", *TIFFS, ".png", ".wav")
#: Formats whose file is as large as the array from the beginning.
_FULL = (".npy", *TIFFS)
_MOST_SAID = 200
#: Samples a second that a sound's file can say.
HIGHEST_RATE = 2**32 - 1


class _Guarded:
    """An array in a file: whatever its library raises where a part is read or written is one sentence."""

    def __init__(self, array: Any, role: str, path: Path | str) -> None:
        self._array, self._role, self._path = array, role, path
        self.shape, self.dtype = tuple(array.shape), array.dtype
        self.chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        with _one_sentence(self._role, self._path):
            return np.asarray(self._array[key])

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        with _one_sentence(self._role, self._path):
            self._array[key] = part


@contextmanager
def _one_sentence(role: str, path: Path | str) -> Iterator[None]:
    """Libraries refuse what they cannot read or write with any exception."""
    try:
        yield
    except OutstrideError:
        raise
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        said = " ".join(said.split())[:_MOST_SAID]
        what, legal = {
            "source": (
                "a file that can be read",
                f"a whole {Path(path).suffix} file that its library decodes",
            ),
            "out": ("a file that can be written", "a place with space and permission"),
        }[role]
        raise ArgumentError(f"'{role}' must be {what}: got {str(path)!r} ({said}); legal: {legal}") from error


@contextmanager
def opened(source: Any) -> Iterator[Any]:
    """A file as an array of the shape that models take; what is no path is an array already.

    Raises:
        ArgumentError: there is no such file, it is of another kind, or it cannot be read.
        UnsupportedError: the library for its format is not installed.
    """
    if not isinstance(source, (str, Path)):
        yield source
        return
    if addresses.is_address(source):
        yield _Guarded(addresses.opened(str(source)), "source", source)
        return
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in READABLE or not os.path.exists(path):  # noqa: PTH110 - Path's raises in closed folders
        raise ArgumentError(
            f"'source' must be a file that exists, of {', '.join(READABLE)}: got {str(path)!r}; "
            "legal: such a file, or an array"
        )
    _need(suffix)
    with ExitStack() as held:
        with _one_sentence("source", path):
            array = held.enter_context(OPENERS[suffix](path))
        yield _Guarded(array, "source", path)


def _need(suffix: str) -> None:
    packages: dict[str, tuple[str, ...]] = {".zarr": ("zarr",), ".wav": ("scipy",)}
    packages |= dict.fromkeys(TIFFS, ("tifffile", "zarr")) | dict.fromkeys(PICTURES, ("PIL",))
    missing = [package for package in packages.get(suffix, ()) if find_spec(package) is None]
    if missing:
        raise UnsupportedError(
            f"{suffix} files need {' and '.join(missing)}: pip install 'outstride[tiling]'."
        )


def is_sound(source: Any) -> bool:
    """Whether a source is the path of a sound."""
    return isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".wav"


def facts_of(source: Any) -> Facts:
    """What a result takes over from the file that it is made of: the rate of a sound, a picture's depth."""
    facts = Facts()
    if isinstance(source, (str, Path)):
        path = Path(source)
        if is_sound(path):
            facts.rate = wave(path)[0]
        facts.deep = has_16_bits(path)
    return facts


def check_path(path: Path, overwrite: bool) -> None:
    """Refuse a path at which no result can be made.

    Raises:
        ArgumentError: another kind of file, no such folder, or something is there that may not be replaced.
        UnsupportedError: the library for its format is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITABLE or not path.absolute().parent.is_dir():
        raise ArgumentError(
            f"'out' must be a file of {', '.join(WRITABLE)} in a folder that exists: got {str(path)!r}; "
            "legal: result.npy"
        )
    _need(suffix)
    if os.path.lexists(path):
        if not overwrite:
            raise ArgumentError(
                f"'out' must not exist yet: got {str(path)!r}; legal: another name, or "
                "overwrite=True (--overwrite)"
            )
        if not _is_result(path, suffix):
            raise ArgumentError(
                f"'out' must be a {suffix} file to be overwritten: got {str(path)!r}, which is something "
                "else; legal: another name"
            )
    if not os.access(_real(path).parent, os.W_OK | os.X_OK):
        raise ArgumentError(
            f"'out' must be in a folder that can be written to: got {str(path)!r}; legal: another folder"
        )


def _is_result(path: Path, suffix: str) -> bool:
    """Whether what is there is a file, or one array of zarr, and not a folder with more in it."""
    if suffix != ".zarr":
        return path.is_file() or not path.exists()
    import zarr

    try:
        zarr.open_array(path, mode="r")
    except Exception:  # noqa: BLE001 - zarr refuses what is no array in many ways: that is the answer here
        return False
    return path.is_dir()


def _real(path: Path) -> Path:
    """Where a link leads: it stays one."""
    return Path(os.path.realpath(path))


@contextmanager
def created_at(address: str, shape: tuple[int, ...], dtype: Any) -> Iterator[Any]:
    """The same at an address, of the chunks that a .zarr has."""
    with addresses.created(address, shape, dtype, zarr_chunks(shape)) as made:
        yield _Guarded(made.array, "out", address)


@contextmanager
def created(path: Path, shape: tuple[int, ...], dtype: Any, facts: Facts) -> Iterator[Any]:
    """An array that is the file's content; written beside and renamed, so nothing half-done is left.

    Raises:
        ArgumentError: the format cannot hold the result, or there is no space for it.
    """
    place = _real(path)
    beside = place.with_name(f".{place.stem}.{os.getpid()}{path.suffix}")
    suffix = path.suffix.lower()
    try:
        with _one_sentence("out", path):
            if suffix in _FULL:
                _check_space(path, prod(shape) * np.dtype(dtype).itemsize)
            array, finish = MAKERS[suffix](beside, shape, dtype, facts)
        yield _Guarded(array, "out", path)
        with _one_sentence("out", path):
            finish()
            _put(beside, place)
    finally:
        _remove(beside)


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(_real(path).parent).free
    if size > free:
        raise OSError(f"it takes {spelled(size)}, and {spelled(free)} are free")


def _put(made: Path, place: Path) -> None:
    """Rename; a folder cannot take another's place, so that one is moved aside for a moment."""
    if not place.is_dir():
        made.replace(place)
        return
    aside = made.with_name(f"{made.name}.old")
    place.rename(aside)
    try:
        made.rename(place)
    except OSError:
        aside.rename(place)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
