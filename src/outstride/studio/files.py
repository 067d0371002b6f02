"""Where the page's files lie in the package."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path


def page_folder() -> Path:
    """The folder of the page."""
    with as_file(files("outstride.studio") / "page") as folder:
        return folder
