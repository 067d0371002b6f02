"""Kernels run on as many workers as asked, from several Python threads at once."""

from __future__ import annotations

from array import array

import pytest

from outstride.engine import runtime
from outstride.engine.codegen.ir import I64, PTR, Function, module
from outstride.engine.codegen.tasks import take_tasks
from outstride.engine.runtime import threads
from outstride.engine.runtime.scratch import scratch
from tests.engine.runtime.small_kernels import adder, in_threads, instruction_set, new_name, run_kernel


def test_launch_runs_on_as_many_workers_as_asked() -> None:
    kernel = runtime.kernel(new_name(), lambda: adder(1), instruction_set())
    assert threads.fork_address(), "torch is loaded, so its OpenMP library is"
    for workers in (1, 2, 3, 5):
        assert run_kernel(kernel, workers) == workers


def _tasks_kernel() -> runtime.Kernel:
    """A kernel whose task n writes n * n + 1 to place n of the block's results."""
    names = ("scratch_at", "scratch_bytes", "tasks", "results_at")
    index = {name: i for i, name in enumerate(names)}
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, mine, number = f.parameters
    f.store(f.i64(f.mul(number, number)), mine, 8)
    results = f.load(PTR, f.at(block, index["results_at"], I64), 8)
    f.store(f.i64(f.add(f.load_i64(mine, 0), 1)), f.at(results, number, I64), 8)
    return runtime.kernel("test_tasks", lambda: module([f, take_tasks(index)], "tasks"), instruction_set())


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_python_threads_launch_one_kernel_at_once(workers: int) -> None:
    """Every task runs once, in scratch of its own, whatever threads of Python and of the pool there are."""
    kernel = _tasks_kernel()

    def call(i: int) -> list[list[int]]:
        found = []
        for tasks in (0, 1, 7, 100 + i):
            results = array("q", [0] * (tasks + 1))
            block = array("q", [scratch(64 * workers), 64, tasks, results.buffer_info()[0]])
            kernel.launch(block.buffer_info()[0], workers)
            found.append(list(results))
        return found

    for i, found in enumerate(in_threads(4, call)):
        assert found == [[n * n + 1 for n in range(tasks)] + [0] for tasks in (0, 1, 7, 100 + i)]


def test_without_a_pool_one_thread_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = runtime.kernel(new_name(), lambda: adder(1), instruction_set())
    monkeypatch.setattr(threads, "_parallel", lambda: None)
    assert run_kernel(kernel, 4) == 1
