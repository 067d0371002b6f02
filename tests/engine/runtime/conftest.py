"""What the tests of the runtime share: a cache with nothing in it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory of the test's own, which does not exist yet."""
    directory = tmp_path / "deep" / "kernels"
    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", str(directory))
    return directory
