"""The entry point that every kernel with tasks has: each thread does its share of them, then others'.

It is called with what the threads share (`planner/team.py`). Of a share tasks are taken in runs, half of what
is left at a time and in the end single ones: neighbours lie side by side in memory, so what a task asks the
caches for in advance, and the lines that it shares with the next, are its own thread's alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.planner.team import BEGUN, COUNTER_PITCH, TAKEN, TEAM_INDEX


def entry() -> tuple[Function, Value]:
    """`run(team)` of a kernel that may be launched, and its argument block."""
    f = Function("run", [("team", PTR)])
    return f, f.load(PTR, f.at(f.parameters[0], TEAM_INDEX["block_at"], I64), 8)


def take_tasks(index: Mapping[str, int], before: str | None = None) -> Function:
    """`run(team)`: every thread of the pool runs it; `index` says where the argument block holds what.

    `before` is a function of the block and the thread's scratch that is called before its tasks.
    """
    f, block = entry()
    team = f.parameters[0]
    workers = f.load_i64(team, TEAM_INDEX["workers"])
    begun = _fetch(f, f.at(team, BEGUN, I64))
    scratch = f.load(PTR, f.at(block, index["scratch_at"], I64), 8)
    mine = f.at(scratch, f.mul(begun, f.load_i64(block, index["scratch_bytes"])), "i8")
    tasks = f.load_i64(block, index["tasks"])
    if before is not None:
        f.run(before, block, mine)
    own, run = _number(f, team, begun, workers), f.minimum(workers, 2)
    with f.loop(0, workers) as turn:
        share = f.rem(f.add(own, turn), workers)
        begin = f.div(f.mul(share, tasks), workers)
        size = f.sub(f.div(f.mul(f.add(share, 1), tasks), workers), begin)
        counter = f.at(team, f.add(TAKEN, f.mul(share, COUNTER_PITCH)), I64)
        with f.forever() as done:
            # Another thread may take tasks between this look and the fetch: then the run is a little longer.
            taken = f.emit(I64, f"load atomic i64, ptr {counter.name} monotonic, align 8")
            f.leave_when(f.compare("sge", taken, size), done)
            count = f.ceil_div(f.sub(size, taken), run)
            first = _fetch(f, counter, count)
            with f.loop(first, f.minimum(f.add(first, count), size)) as task:
                f.run("task", block, mine, f.add(begin, task))
    return f


def _fetch(f: Function, counter: Value, count: Operand = 1) -> Value:
    """Add to a counter, and what it was before."""
    return f.emit(I64, f"atomicrmw add ptr {counter.name}, i64 {f.ref(count)} monotonic")


def _number(f: Function, team: Value, begun: Value, workers: Value) -> Value:
    """Which share a thread begins with: the same in every launch, if the pool numbers its threads."""
    found = f.variable(I64, begun)
    function = f.load(PTR, f.at(team, TEAM_INDEX["thread_number_at"], I64), 8)
    known = f.emit("i1", f"icmp ne ptr {function.name}, null")
    with f.when(f.both(known, f.compare("sgt", workers, 1))):
        number = f.emit("i32", f"call i32 {function.name}()")
        f.set(found, f.emit(I64, f"sext i32 {number.name} to i64"))
    return f.get(found, I64)


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
