"""Kernels of a few lines for the tests of the runtime, and Python threads that run them at once."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TypeVar

from outstride.engine import runtime
from outstride.engine.codegen.ir import I64, PTR, Function, module
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.team import TEAM_INDEX

_T = TypeVar("_T")


_numbers = count()


def instruction_set() -> InstructionSet:
    return runtime.machine().instruction_set


def new_name() -> str:
    return f"test_runtime_{next(_numbers)}"


def adder(amount: int) -> str:
    """A kernel that adds `amount` to the first word of its block, in one step that no thread can divide."""
    f = Function("run", [("team", PTR)])
    block = f.load(PTR, f.at(f.parameters[0], TEAM_INDEX["block_at"], I64), 8)
    f.emit(I64, f"atomicrmw add ptr {block.name}, i64 {amount} monotonic")
    return module([f], "adder")


def run_kernel(kernel: runtime.Kernel, workers: int = 1) -> int:
    block = array("q", [0])
    kernel.launch(block.buffer_info()[0], workers)
    return block[0]


def in_threads(calls: int, do: Callable[[int], _T]) -> list[_T]:
    """`do(i)` in as many threads as calls, all at the same time."""
    gate = threading.Barrier(calls)

    def wait_and_do(i: int) -> _T:
        gate.wait(60)
        return do(i)

    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(wait_and_do, range(calls)))
