"""Silence of libraries that log what is said here in one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

#: Where torch logs that an operator refuses the shapes of a model that is tried out.
TRIALS = "torch._subclasses.fake_tensor"


@contextmanager
def silent(*loggers: str) -> Iterator[None]:
    """Without what these loggers say meanwhile."""
    found = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(found, levels, strict=True):
            logger.setLevel(level)
