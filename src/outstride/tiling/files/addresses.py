"""Arrays of zarr at addresses as fsspec writes them: s3://bucket/x.zarr, http://host/x.zarr, memory://x.zarr.

What is written becomes an array when it is full. A store of objects renames nothing at once, but an array of
zarr is one only with its metadata, so those come last: whatever ends a run, nothing half-done can be opened.
Folders of this machine are made in the same way where several processes write them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from outstride.errors import ArgumentError, OutstrideError, UnsupportedError

#: The file that makes a folder an array, and how its name ends until then.
_METADATA, _UNFINISHED = "zarr.json", ".unfinished"
_OLDER = ".zarray"
_MOST_SAID = 200


def is_address(place: object) -> bool:
    """Whether a text says a place by its protocol."""
    return isinstance(place, str) and "://" in place


@contextmanager
def reached(role: str, place: str) -> Iterator[None]:
    """Let whatever a file system's library raises be one sentence about the address."""
    try:
        yield
    except OutstrideError:
        raise
    except Exception as error:
        said = " ".join((str(error) or type(error).__name__).split())[:_MOST_SAID]
        done = "read" if role == "source" else "written"
        raise ArgumentError(
            f"'{role}' must be an array of zarr that can be {done}: got {place!r} ({said}); legal: an "
            "address ending in .zarr that answers and for whose protocol fsspec has the library"
        ) from error


def opened(address: str) -> Any:
    """The array at an address; nothing of it is read yet.

    Raises:
        ArgumentError: there is none.
        UnsupportedError: zarr is not installed.
    """
    _need_zarr()
    import zarr

    with reached("source", address):
        _check_kind("source", address)
        return zarr.open_array(address, mode="r")


def check(place: str, overwrite: bool, source: Any = None) -> None:
    """Refuse a place where no array can be made.

    Raises:
        ArgumentError: it has another suffix, or something is there that may not be replaced.
        UnsupportedError: zarr is not installed.
    """
    from fsspec.core import url_to_fs

    _need_zarr()
    with reached("out", place):
        _check_kind("out", place)
        files, root = url_to_fs(place)
        if _meet((files, root), _location(source)):
            raise ArgumentError(
                f"'out' must be another place than 'source': got {place!r} for {source!s}; "
                "legal: another name"
            )
        files.invalidate_cache()
        if not files.exists(root):
            return
        names = [PurePosixPath(path).name for path in files.ls(root, detail=False)]
        left = any(name.endswith(_UNFINISHED) for name in names)
        if not left and not {_METADATA, _OLDER} & {*names}:
            raise ArgumentError(
                f"'out' must be an array of zarr to be overwritten: got {place!r}, which is something "
                "else; legal: another name"
            )
        if not overwrite:
            what = ", where a run goes on or has ended before its end" if left else ""
            raise ArgumentError(
                f"'out' must not exist yet: got {place!r}{what}; legal: another name, or "
                "overwrite=True (--overwrite)"
            )


def _location(source: Any) -> tuple[Any, str] | None:
    """The file system and the path in it of an address, a path or an array of zarr."""
    from fsspec.core import url_to_fs

    if isinstance(source, (str, Path)):
        return url_to_fs(str(source))  # type: ignore[no-any-return]
    store = getattr(source, "store", None)
    files = getattr(store, "fs", None)
    if files is None:
        return None
    return getattr(files, "sync_fs", files), f"{getattr(store, 'path', '')}/{getattr(source, 'path', '')}"


def _meet(a: tuple[Any, str], b: tuple[Any, str] | None) -> bool:
    if b is None or type(a[0]) is not type(b[0]):
        return False
    first, second = PurePosixPath(a[1]), PurePosixPath(b[1])
    return first.is_relative_to(second) or second.is_relative_to(first)


def _check_kind(role: str, place: str) -> None:
    if PurePosixPath(place).suffix.lower() != ".zarr":
        raise ArgumentError(
            f"'{role}' must be an array of zarr where it is at an address or written by workers: got "
            f"{place!r}; legal: a place ending in .zarr"
        )


def _need_zarr() -> None:
    if find_spec("zarr") is None:
        raise UnsupportedError(".zarr files need zarr: pip install 'outstride[tiling]'.")


class Unfinished:
    """An array that is being filled, by this process and by others that are sent it."""

    def __init__(self, place: str, array: Any, mark: str) -> None:
        self.place, self.array, self._mark = place, array, mark

    def check(self) -> None:
        """Refuse to write where this run's array is not any more.

        Raises:
            ArgumentError: it was removed, or another run has begun there.
        """
        from fsspec.core import url_to_fs

        with reached("out", self.place):
            if not url_to_fs(self.place)[0].exists(self._mark):
                raise ArgumentError(
                    f"'out' must be left alone while it is made: got {self.place!r}, where another run has "
                    "begun or all was removed; legal: a place for each run"
                )


@contextmanager
def created(place: str, shape: Sequence[int], dtype: Any, chunks: Sequence[int]) -> Iterator[Unfinished]:
    """An array of zarr to fill that is one when the block ends; if that fails nothing is left.

    What is there already stays until the new one is whole if it is in a folder of this machine; elsewhere it
    is removed before.
    """
    import zarr
    from fsspec.core import url_to_fs

    with reached("out", place):
        files, root = url_to_fs(place)
        mark = f"{root}/{_METADATA}.{uuid4().hex[:8]}{_UNFINISHED}"
        aside = _put_aside(root) if "file" in _protocols(files) else None
        try:
            if files.exists(root):
                files.rm(root, recursive=True)
            array = zarr.create_array(place, shape=tuple(shape), dtype=dtype, chunks=tuple(chunks))
            files.mv(f"{root}/{_METADATA}", mark)
        except BaseException:
            _undo(files, root, aside)
            raise
    made = Unfinished(place, array, mark)
    try:
        yield made
        made.check()
        with reached("out", place):
            files.mv(mark, f"{root}/{_METADATA}")
    except BaseException:
        files.invalidate_cache()
        if files.exists(mark):  # else it is another's
            _undo(files, root, aside)
        raise
    if aside is not None:
        files.rm(str(aside), recursive=True)


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _put_aside(root: str) -> Path | None:
    """Where what is there already is kept meanwhile."""
    if not (Path(root) / _METADATA).exists():
        return None
    aside = Path(root).with_name(f".{Path(root).name}.{uuid4().hex[:8]}")
    return Path(root).rename(aside)


def _undo(files: Any, root: str, aside: Path | None) -> None:
    files.invalidate_cache()
    with suppress(FileNotFoundError):
        files.rm(root, recursive=True)
    if aside is not None:
        aside.rename(root)
