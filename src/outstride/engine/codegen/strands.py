"""Strands: lists of launches that threads run beside each other, each its own."""

from __future__ import annotations

from outstride.engine.codegen.arguments import LIST_INDEX, STRAND_INDEX
from outstride.engine.codegen.ir import I64, PTR, Function, module
from outstride.engine.codegen.tasks import read_arguments, take_tasks


def strands_source() -> str:
    """The LLVM IR of the kernel: a task runs a list from its beginning, and says if that stopped early."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, _, task = f.parameters
    a = read_arguments(f, block, STRAND_INDEX)
    head = f.load(PTR, f.at(a["lists_at"], task, I64), 8)
    place = f.at(head, LIST_INDEX["next"], I64)
    f.store(f.i64(0), place, 8)
    f.run(a["run_at"], head)
    with f.when(f.compare("ne", f.load_i64(place, 0), f.load_i64(head, LIST_INDEX["count"]))):
        f.store(f.i64(1), f.at(block, STRAND_INDEX["found"], I64), 8)
    return module([f, take_tasks(STRAND_INDEX)], "outstride strands")
