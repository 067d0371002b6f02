"""Where a law is played: whose plans run, those of which instruction set, and on how many threads.

Every instruction set has tiles and vectors of its own, and few threads take several groups or chunks in one
task where many take one each: none of it may be seen in a result. What this processor cannot run is planned
and compiled (`test_plans_of_every_set.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from outstride.engine import runtime

THREADS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Environment:
    """An instruction set and a number of threads; `name` tells both in a test's id."""

    instruction_set: str
    threads: int

    def __str__(self) -> str:
        return f"{self.instruction_set} on {self.threads} threads"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within the block calls of this thread run there."""
        with runtime.instruction_set(self.instruction_set), threads(self.threads):
            yield

    @classmethod
    def of(cls, instruction_set: str, *about: object) -> Environment:
        """The set on as many threads as what is played is given, the same in every run."""
        return cls(instruction_set, THREADS[zlib.crc32(repr(about).encode()) % len(THREADS)])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block torch computes on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
