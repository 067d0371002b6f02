"""Which algorithms the engine is asked for: every look-up of what runs, derivatives included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from outstride.engine.launch import call_cache, execute
from outstride.engine.runtime import resolved
from outstride.layer.shortening import AlgorithmName


@contextmanager
def asked() -> Iterator[list[AlgorithmName]]:
    """The names that are asked for within the block, which begins with nothing cached."""
    names: list[AlgorithmName] = []

    def noted(algorithm: AlgorithmName) -> AlgorithmName:
        names.append(algorithm)
        return resolved(algorithm)

    call_cache.clear()
    with patch.object(execute, "resolved", noted):
        yield names
