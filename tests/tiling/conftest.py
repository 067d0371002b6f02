"""On Python 3.10 there is no zarr of today, so files that need it are refused, as tests of them find out."""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec

import pytest

from outstride.errors import UnsupportedError

_HAS_ZARR = find_spec("zarr") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    try:
        return (yield)
    except UnsupportedError as refusal:
        if _HAS_ZARR or "files need zarr" not in str(refusal):
            raise
        pytest.skip(str(refusal))
