"""Tiles read zeros where packing writes nothing, not what other kernels left in scratch.

No result has such a lane, so no other test would see it: but what other kernels left may be numbers that are
so small that a processor takes a hundred cycles for each (here they are large, so that they can be seen).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.launch import call_cache, gather
from outstride.engine.launch.execute import gather_run
from outstride.engine.planner import plan
from outstride.engine.planner.arguments import KernelArguments, kernel_arguments
from outstride.engine.planner.dataflow import Candidate
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.plan import GatherPlan
from outstride.engine.planner.problem import Problem
from tests.environments import threads

_LEFT = 1e30
_LAYERS = {
    "short": ((1, 64, 12, 28), (64, 64, 3, 3), 1, (1, 1)),
    "short-3d": ((1, 32, 4, 6, 10), (32, 32, 3, 3, 3), 1, (1, 1, 1)),
    "short-1d": ((1, 64, 210), (64, 64, 3), 1, (1,)),
    "small": ((2, 24, 9, 11), (40, 24, 3, 3), 1, (1, 1)),
    "strided": ((1, 16, 23, 19), (24, 16, 3, 3), 2, (1, 1)),
    "line": ((1, 12, 333), (16, 12, 7), 1, (3,)),
    "rows": ((1, 1, 13, 21), (1, 1, 3, 3), 1, (1, 1)),
    "of-doubles": ((1, 16, 9, 9), (16, 16, 3, 3), 1, (1, 1)),
}


@pytest.fixture(autouse=True)
def _no_plan_is_kept() -> Iterator[None]:
    """Plans here are made of some tiles alone."""
    call_cache.clear()
    yield
    call_cache.clear()


@pytest.mark.parametrize("isa", runtime.available())
@pytest.mark.parametrize("name", _LAYERS)
def test_no_tile_reads_what_is_not_written(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, kernel, stride, padding = _LAYERS[name]
    dtype = torch.float64 if name == "of-doubles" else torch.float32
    x, w = torch.rand(shape, dtype=dtype), torch.rand(kernel, dtype=dtype)
    rooms: list[tuple[int, int]] = []
    made: list[KernelArguments] = []

    def scratch(size_bytes: int) -> int:
        address = runtime.scratch(size_bytes)
        rooms.append((address, size_bytes))
        room = (ctypes.c_byte * size_bytes).from_address(address)
        torch.frombuffer(room, dtype=dtype, count=size_bytes // dtype.itemsize).fill_(_LEFT)
        return address

    def arguments(planned: GatherPlan) -> KernelArguments:
        made.append(kernel_arguments(planned))
        return made[-1]

    def of_pixels(problem: Problem, machine: Machine, threads: int) -> Iterator[Candidate]:
        found = every(problem, machine, threads)
        return (candidate for candidate in found if not candidate.dataflow.lists_pixels)

    every = plan._candidates

    sizes = zip(shape[2:], padding, kernel[2:], strict=True)
    size = tuple((n + 2 * p - k) // stride + 1 for n, p, k in sizes)
    ones = (1,) * len(size)
    monkeypatch.setattr(gather, "kernel_arguments", arguments)
    monkeypatch.setattr(plan, "_candidates", of_pixels)
    with runtime.instruction_set(isa), threads(1):
        run = gather_run("conv", x, w, (stride,) * len(size), padding, size, ones, 1, "auto")
        run(x, w, None)
        monkeypatch.setattr(gather, "scratch", scratch)
        y = run(x, w, None)
    (numbers,) = made
    address, _ = rooms[-1]
    first, end = (numbers.scalars[f"{room}_bytes_offset"] for room in ("temp", "line"))
    results = (ctypes.c_byte * (end - first)).from_address(address + first)
    sums = torch.frombuffer(results, dtype=dtype).clone()
    assert not ((sums.abs() > 1e20) & (sums != torch.tensor(_LEFT, dtype=dtype))).any()
    assert y.abs().max() < 1e6
