"""A list of launches: kernels that run one behind the other without a way back to Python between them."""

from __future__ import annotations

from outstride.engine.codegen.arguments import ENTRY_FIELDS, ENTRY_INDEX, LIST_INDEX
from outstride.engine.codegen.ir import I64, PTR, Function, Value, module
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.planner.team import BEGUN, COUNTER_PITCH, TAKEN, TEAM_INDEX


def launch_list_source() -> str:
    """The LLVM IR of `run(block)`: entries from `next` on are launched, until one leaves a flag behind.

    Its number is then in `next`, or the count of all entries.
    """
    f = Function("run", [("block", PTR)])
    block = f.parameters[0]
    a = read_arguments(f, block, LIST_INDEX)
    place, team = f.at(block, LIST_INDEX["next"], I64), a["team_at"]
    with f.forever() as done:
        number = f.load_i64(place, 0)
        f.leave_when(f.compare("sge", number, a["count"]), done)
        entry = f.at(a["entries_at"], f.mul(number, len(ENTRY_FIELDS)), I64)
        e = read_arguments(f, entry, ENTRY_INDEX)
        with f.when(f.compare("ne", e["workers"], 0)):
            end = f.add(TAKEN, f.mul(e["workers"], COUNTER_PITCH))
            for name in ("block_at", "workers"):
                f.store(e[name], f.at(team, TEAM_INDEX[name], I64), 8)
            with f.loop(BEGUN, end, COUNTER_PITCH) as counter:
                f.store(f.i64(0), f.at(team, counter, I64), 8)
        with f.when(f.compare("eq", e["workers"], 1)):
            f.run(e["kernel_at"], team)
        with f.when(f.compare("sgt", e["workers"], 1)):
            threads, no_flags = f.i32(e["workers"]), Value("0", "i32")
            f.run(a["fork_at"], e["kernel_at"], team, threads, no_flags)
        f.leave_when(f.compare("ne", f.load_i64(e["flag_at"], 0), 0), done)
        f.store(f.i64(f.add(number, 1)), place, 8)
    return module([f], "outstride launch list")
