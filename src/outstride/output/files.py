"""Write a file so that whoever looks finds the old one or the whole new one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from threading import get_ident


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place; nothing half-done is left behind.

    Raises:
        OSError: it cannot be written; the error names `path`, never the file beside it.
    """
    _beside(path, lambda beside: (write(beside), beside.replace(path)))


def check_writable(path: Path) -> None:
    """Find out before the work whether its result could be written; leaves everything as it is.

    Raises:
        OSError: it could not; the error names `path`.
    """
    _beside(path, lambda beside: beside.touch(exist_ok=False))


def _beside(path: Path, act: Callable[[Path], object]) -> None:
    beside = path.with_name(f".{os.getpid()}-{get_ident()}")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        try:
            act(beside)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
