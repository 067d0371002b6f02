"""What writes the code, as a digest: a kernel on disk is found by it before its text is written."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

#: What decides a kernel's text: packages, with all that lies in them, and what they import besides.
AUTHORS = ("engine/codegen", "engine/planner", "layer", "errors.py")


def authors() -> list[Path]:
    """The modules that decide a kernel's text."""
    package = Path(__file__).parents[2]
    rooms = [package / name for name in AUTHORS]
    return [file for room in rooms for file in (sorted(room.rglob("*.py")) if room.is_dir() else [room])]


@lru_cache(maxsize=1)
def authorship() -> str:
    """A digest of the modules that decide a kernel's text; empty where they are no files to be read."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    try:
        for file in authors():
            digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest()
