"""Where a law is played: whose plans run, by which algorithm, on how many threads.

Every instruction set has tiles and vectors of its own, and few threads take several groups or chunks in one
task where many take one each: none of it may be seen in a result. What this processor cannot run is planned
and compiled (`test_plans_of_every_set.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.launch import call_cache
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.layer import shortening

THREADS = (1, 2, 3, 4)
#: All instruction sets, as parameters of tests that compile. Those that run here the laws compile, and run.
COMPILED_SETS = [
    pytest.param(name, marks=[pytest.mark.slow] if name in runtime.available() else [])
    for name in INSTRUCTION_SETS
]
#: What laws are played by: the chain of all multiply-adds, and short algorithms wherever there are any.
ALGORITHMS = ("direct", "short")
#: What short algorithms must save to be taken. Where these numbers ask for nothing, every layer that can be
#: short is. A group of one channel and one output may be computed depthwise, which cannot.
_DEMANDS: dict[str, Any] = {
    "FEWEST": 2, "FEWEST_OF_MUCH": 2, "FEWEST_DILATED": 2, "FEWEST_DILATED_OF_MUCH": 2, "LEAST_PAIRS": 1,
    "LEAST_SAVING": 1.001, "LEAST_SAVING_OF_ONE_AXIS": 1.001, "LEAST_SAVING_OF_STEPS": 1.001,
    "MOST_ERROR": float("inf"),
    "MOST_REACH": (128,) * 3, "MOST_DILATION_OF_STEPS": 16, "MOST_PRODUCTS": 128,
}  # fmt: skip
_Item = TypeVar("_Item")


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
        return cls(instruction_set, one_of(THREADS, *about))


def one_of(choices: Sequence[_Item], *about: object) -> _Item:
    """One of several, the same in every run for what it is about."""
    return choices[zlib.crc32(repr(about).encode()) % len(choices)]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block torch computes on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def computed_by(algorithm: str) -> Any:
    """Where a case of that algorithm is played."""
    return everything_short() if algorithm == "short" else nullcontext()


@contextmanager
def everything_short() -> Iterator[None]:
    """Within the block "auto" takes a short algorithm wherever there is one, however little it saves.

    What was planned before is forgotten, and what was planned within; a block within another changes nothing.
    """
    if all(getattr(shortening, name) == value for name, value in _DEMANDS.items()):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _DEMANDS.items():
            patch.setattr(shortening, name, value)
        _forget_choices()
        yield
    _forget_choices()


def _forget_choices() -> None:
    shortening.choose.cache_clear()
    call_cache.clear()
