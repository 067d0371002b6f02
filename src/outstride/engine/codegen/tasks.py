"""The entry point that every kernel shares: threads take task numbers from a counter until none is left.

Where the block says how many threads there are, each takes a run of neighbouring tasks: half its share of
what is left, in the end single ones. Neighbours lie side by side in memory, so what a task asks the caches
for in advance, and the lines that it shares with the next, are its own thread's alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value


def take_tasks(index: Mapping[str, int], before: str | None = None) -> Function:
    """`run(block)`: every thread of the pool runs it; `index` says where the argument block holds what.

    `before` is a function of the block and the thread's scratch that is called before its tasks.
    """
    f = Function("run", [("block", PTR)])
    block = f.parameters[0]

    def fetch(name: str, count: Operand = 1) -> Value:
        pointer = f.at(block, index[name], I64)
        return f.emit(I64, f"atomicrmw add ptr {pointer.name}, i64 {f.ref(count)} monotonic")

    worker = fetch("next_worker")
    scratch = f.load(PTR, f.at(block, index["scratch_at"], I64), 8)
    mine = f.at(scratch, f.mul(worker, f.load_i64(block, index["scratch_bytes"])), "i8")
    tasks = f.load_i64(block, index["tasks"])
    if before is not None:
        f.run(before, block, mine)
    with f.forever() as done:
        count: Operand = 1
        if "threads" in index:
            # Another thread may take tasks between this look and the fetch: then the run is a little longer.
            place = f.at(block, index["next_task"], I64)
            taken = f.emit(I64, f"load atomic i64, ptr {place.name} monotonic, align 8")
            left = f.maximum(0, f.sub(tasks, taken))
            count = f.maximum(1, f.ceil_div(left, f.mul(2, f.load_i64(block, index["threads"]))))
        first = fetch("next_task", count)
        f.leave_when(f.compare("sge", first, tasks), done)
        with f.loop(first, f.minimum(f.add(first, count), tasks)) as task:
            f.run("task", block, mine, task)
    return f


def read_arguments(f: Function, block: Value, index: Mapping[str, int]) -> dict[str, Value]:
    """The entries of an argument block; of one that is a parameter of the function, those that are used."""
    if block in f.parameters:
        return _Arguments(f, block, index)
    return {
        name: f.load(PTR if name.endswith("_at") else I64, f.at(block, i, I64), 8)
        for name, i in index.items()
    }


class _Arguments(dict[str, Value]):
    """Loads an entry, at the function's beginning, when the text first uses it: most functions need few."""

    def __init__(self, f: Function, block: Value, index: Mapping[str, int]) -> None:
        super().__init__()
        self._f, self._block, self._index = f, block, index

    def __missing__(self, name: str) -> Value:
        type_ = PTR if name.endswith("_at") else I64
        self[name] = self._f.load_first(type_, self._block, self._index[name])
        return self[name]
