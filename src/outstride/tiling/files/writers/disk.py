"""What is written is on the disk only once it is asked there: files, and the folders that name them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def sync_file(path: Path) -> None:
    """Have a file's content on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk, where the system can be asked for that."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(paths: Iterable[Path], root: Path) -> None:
    """Have files on the disk that exist below a folder, and all folders on the way to them."""
    folders = {root}
    for path in paths:
        if path.exists():
            sync_file(path)
            folders |= {folder for folder in path.parents if folder.is_relative_to(root)}
    for folder in folders:
        sync_folder(folder)


def sync_whole(path: Path) -> None:
    """Have a file on the disk, or all of a folder."""
    if path.is_dir():
        sync_files((found for found in path.rglob("*") if found.is_file()), path)
    else:
        sync_file(path)


def same_place(path: Path) -> Path:
    """Where a link leads: it stays one."""
    return Path(os.path.realpath(path))
