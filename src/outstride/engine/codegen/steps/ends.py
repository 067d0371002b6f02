"""A step that torch computes by two routines, on neighbouring elements that do not fill its vectors."""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import module
from outstride.engine.codegen.steps import operations as steps
from outstride.engine.codegen.tasks import entry, read_arguments
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.steps import Step, steps_name

#: The argument block: `count` elements of x to y, of which the first `whole` fill vectors; what torch calls
#: of the C library.
ENDS_ARGUMENTS = ("x_at", "y_at", "function_at", "whole", "count")
ENDS_INDEX = {name: i for i, name in enumerate(ENDS_ARGUMENTS)}


def ends_source(step: Step, isa: InstructionSet) -> str:
    """The LLVM IR of `run(team)` for float32: vectors as torch's vectors are, then one after the other."""
    e = ELEMENTS["float32"]
    f, block = entry()
    a = read_arguments(f, block, ENDS_INDEX)
    wide, single = Vectors(f, e, isa.lanes(e.accumulator_bytes)), Vectors(f, e, 1)
    for k, begin, end in ((wide, 0, a["whole"]), (single, a["whole"], a["count"])):
        with f.loop(begin, end, k.lanes) as i:
            value = elements.load(f, e, f.at(a["x_at"], i, e.storage), k.lanes)
            if k is wide:
                made = steps.apply(k, (step,), value, ((),))
            else:
                made = steps.of_single(k, step, value, a["function_at"])
            elements.store(f, e, made, f.at(a["y_at"], i, e.storage), k.lanes)
    return module([f], f"outstride ends{steps_name((step,))}")
