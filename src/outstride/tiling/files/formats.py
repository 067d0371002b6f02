"""Files in and out: which formats there are, what they need, and what may not be replaced."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from outstride.errors import ArgumentError, OutstrideError, UnsupportedError
from outstride.tiling.files import addresses
from outstride.tiling.files.facts import Facts
from outstride.tiling.files.readers import OPENERS, PICTURES, SOUNDS, TIFFS, File
from outstride.tiling.files.writers import MAKERS
from outstride.tiling.files.writers.disk import same_place
from outstride.tiling.files.writers.plain import even_chunks

READABLE, WRITABLE = tuple(OPENERS), tuple(MAKERS)
#: What a format needs, and the extra that brings it.
_NEEDS: dict[str, tuple[tuple[str, ...], str]] = {
    ".zarr": (("zarr",), "tiling"), ".ome.zarr": (("zarr",), "tiling"), ".wav": (("scipy",), "tiling"),
    ".flac": (("soundfile",), "audio"),
    ".nii": (("nibabel",), "volumes"), ".nii.gz": (("nibabel",), "volumes"),
    ".h5": (("h5py",), "volumes"), ".hdf5": (("h5py",), "volumes"),
}  # fmt: skip
_NEEDS |= dict.fromkeys((*TIFFS, ".ome.tif", ".ome.tiff"), (("tifffile", "zarr"), "tiling"))
_NEEDS |= dict.fromkeys(PICTURES, (("PIL",), "tiling"))
_MOST_SAID = 200


def suffix_of(path: Path) -> str:
    """What the name of a file says of its format; of two endings the longer one."""
    name = path.name.lower()
    known = [suffix for suffix in (*WRITABLE, *READABLE) if name.endswith(suffix) and name != suffix]
    return max(known, key=len, default=path.suffix.lower())


class Guarded:
    """An array in a file: whatever its library raises where a part is read or written is one sentence."""

    def __init__(self, array: Any, role: str, path: Path | str, facts: Facts | None = None) -> None:
        self._array, self._role, self._path = array, role, path
        self.shape, self.dtype, self.facts = tuple(array.shape), array.dtype, facts or Facts()
        self.chunks = getattr(array, "shards", None) or getattr(array, "chunks", None)

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        with one_sentence(self._role, self._path):
            return np.asarray(self._array[key])

    def __setitem__(self, key: tuple[slice, ...], part: Any) -> None:
        with one_sentence(self._role, self._path):
            self._array[key] = part


@contextmanager
def one_sentence(role: str, path: Path | str) -> Iterator[None]:
    """Libraries refuse what they cannot read or write with any exception.

    ``role``: "source", "out" where a result is written, "made" where it is read again.
    """
    try:
        yield
    except OutstrideError:
        raise
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        said = " ".join(said.split())[:_MOST_SAID]
        readable = "a file that can be read", f"a whole {suffix_of(Path(path))} file that its library decodes"
        name, (what, legal) = {
            "source": ("source", readable),
            "out": ("out", ("a file that can be written", "a place with space and permission")),
            "made": ("out", readable),
        }[role]
        raise ArgumentError(f"'{name}' must be {what}: got {str(path)!r} ({said}); legal: {legal}") from error


def file_of(source: Any) -> Any:
    """A path as the file that it names; what is no path as it is."""
    is_path = isinstance(source, (str, Path)) and not addresses.is_address(source)
    return File(source) if is_path else source


@contextmanager
def opened(source: Any, nd: int | None = None) -> Iterator[Any]:
    """A file as an array of the shape that models take; what is no path is an array already.

    ``nd``: along how many axes the model's layers slide.

    Raises:
        ArgumentError: there is no such file, it is of another kind, or it cannot be read.
        UnsupportedError: the library for its format is not installed.
    """
    if addresses.is_address(source):
        yield Guarded(addresses.opened(str(source)), "source", source)
        return
    file = file_of(source)
    if not isinstance(file, File):
        yield source
        return
    path, suffix = file.place, _read_as(file.place)
    if suffix not in READABLE or not os.path.exists(path):  # noqa: PTH110 - Path's raises in closed folders
        raise ArgumentError(
            f"'source' must be a file that exists, of {', '.join(READABLE)}: got {str(path)!r}; "
            "legal: such a file, or an array"
        )
    _need(suffix)
    with ExitStack() as held:
        with one_sentence("source", path):
            found = held.enter_context(OPENERS[suffix](file, nd))
        yield Guarded(found.array, "source", path, found.facts)


def _read_as(path: Path) -> str:
    """The ending by which a file is read: OME's formats are told by what is in them."""
    return suffix_of(path).replace(".ome.", ".")


def _need(suffix: str) -> None:
    packages, extra = _NEEDS.get(suffix, ((), ""))
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        newer = ", and zarr Python 3.11 or newer" if "zarr" in missing and sys.version_info < (3, 11) else ""
        raise UnsupportedError(
            f"{suffix} files need {' and '.join(missing)}{newer}: pip install 'outstride[{extra}]'."
        )


def is_sound(source: Any) -> bool:
    """Whether a source or a result is the file of a sound."""
    file = file_of(source)
    return isinstance(file, File) and suffix_of(file.place) in SOUNDS


def check_path(path: Path) -> None:
    """Refuse a path at which no result can be made.

    Raises:
        ArgumentError: another kind of file, or no such folder, or one that is closed.
        UnsupportedError: the library for its format is not installed.
    """
    suffix = suffix_of(path)
    if suffix not in WRITABLE or not path.absolute().parent.is_dir():
        raise ArgumentError(
            f"'out' must be a file of {', '.join(WRITABLE)} in a folder that exists: got {str(path)!r}; "
            "legal: result.npy"
        )
    _need(suffix)
    if not os.access(same_place(path).parent, os.W_OK | os.X_OK):
        raise ArgumentError(
            f"'out' must be in a folder that can be written to: got {str(path)!r}; legal: another folder"
        )


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse a path at which something is that may not be replaced.

    Raises:
        ArgumentError: it is.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise ArgumentError(
            f"'out' must not exist yet: got {str(path)!r}; legal: another name, or "
            "overwrite=True (--overwrite)"
        )
    suffix = suffix_of(path)
    if not _is_result(path, suffix):
        raise ArgumentError(
            f"'out' must be a {suffix} file to be overwritten: got {str(path)!r}, which is something "
            "else; legal: another name"
        )


def _is_result(path: Path, suffix: str) -> bool:
    """Whether what is there is a file, or one array or image of zarr, and not a folder with more in it."""
    if not suffix.endswith(".zarr"):
        return path.is_file() or not path.exists()
    import zarr

    try:
        found = zarr.open(path, mode="r")
    except Exception:  # noqa: BLE001 - zarr refuses what is none of its own in many ways: that is the answer here
        return False
    if isinstance(found, zarr.Array):
        return path.is_dir() and suffix == ".zarr"
    words = dict(found.attrs).get("ome", dict(found.attrs))
    return suffix == ".ome.zarr" and isinstance(words, dict) and "multiscales" in words


@contextmanager
def created_at(address: str, shape: tuple[int, ...], dtype: Any) -> Iterator[Any]:
    """An array at an address, of the chunks that a .zarr has: whole, or none."""
    with addresses.created(address, shape, dtype, even_chunks(shape)) as made:
        yield Guarded(made.array, "out", address)
