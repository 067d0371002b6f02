"""What writes the code, as a digest: a kernel on disk is found by it before its text is written."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def authorship() -> str:
    """A digest of the modules that decide a kernel's text; empty where they are no files to be read."""
    here = Path(__file__).parent
    files = [file for room in (here, here.parent / "planner") for file in sorted(room.glob("*.py"))]
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(f"{file.parent.name}/{file.name}\0".encode() + file.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest() if files else ""
