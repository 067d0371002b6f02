"""Pointwise operators on a whole tensor: a chain of steps in one pass over memory.

Torch's own operators write a tensor each. Here an element is read once and written once, by the same task, so
the result may lie where x or an operand lies.
"""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.maps.row_map import map_row
from outstride.engine.codegen.steps.chains import Chain, Ready
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.steps import Step, steps_name

#: The argument block: `elements` of x to y, in tasks of `part`. Rows of `positions` neighbours are of one
#: channel each, `channels` of them one after the other; or neighbours are the channels of a position, and
#: scratch keeps rows of `kept_pitch` numbers.
POINTWISE_ARGUMENTS = (
    "x_at", "y_at", "operands_at", "scratch_at", "scratch_bytes", "tasks",
    "elements", "part", "positions", "channels", "kept_pitch",
)  # fmt: skip
POINTWISE_INDEX = {name: i for i, name in enumerate(POINTWISE_ARGUMENTS)}


def pointwise_source(chain: Sequence[Step], dtype: str, isa: InstructionSet, together: bool) -> str:
    """The LLVM IR of the kernel of a chain; `together`: the channels of a position are neighbours."""
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, scratch, task = f.parameters
    e = ELEMENTS[dtype]
    k = Vectors(f, e, isa.lanes(e.accumulator_bytes))
    a = read_arguments(f, block, POINTWISE_INDEX)
    ready = Chain.of(k, chain, a["operands_at"])
    if together:
        _channels_task(k, a, ready, task, scratch)
    else:
        _rows_task(k, a, ready, task)
    heading = f"outstride pointwise_{dtype}{steps_name(chain)}{'_together' if together else ''}"
    return module([f, take_tasks(POINTWISE_INDEX)], heading)


def _rows_task(k: Vectors, a: dict[str, Value], chain: Chain, task: Value) -> None:
    """So many neighbours, parts of rows at the ends."""
    f, e = k.f, k.e
    begin = f.mul(task, a["part"])
    end = f.minimum(f.add(begin, a["part"]), a["elements"])
    first, stop = f.div(begin, a["positions"]), f.ceil_div(end, a["positions"])
    with f.loop(first, stop) as row:
        start = f.mul(row, a["positions"])
        low = f.maximum(begin, start)
        count = f.sub(f.minimum(end, f.add(start, a["positions"])), low)
        ready = chain.of_channel(k, f.rem(row, a["channels"]))

        def apply(
            value: Value, place: Operand, inside: Value | None, low: Operand = low, ready: Ready = ready
        ) -> Value:
            return ready.apply(k, value, f.add(low, place), inside)

        source, target = (f.at(a[name], low, e.storage) for name in ("x_at", "y_at"))
        map_row(k, source, target, count, apply)


def _channels_task(k: Vectors, a: dict[str, Value], chain: Chain, task: Value, room: Value) -> None:
    """All channels of some positions, one position after the other."""
    f, e = k.f, k.e
    begin = f.mul(task, a["part"])
    end = f.minimum(f.add(begin, a["part"]), a["elements"])
    chain.keep(k, room, a["kept_pitch"], a["channels"])
    with f.loop(begin, end, a["channels"]) as start:

        def apply(value: Value, place: Operand, inside: Value | None, start: Operand = start) -> Value:
            ready = chain.kept(k, room, a["kept_pitch"], place)
            return ready.apply(k, value, f.add(start, place), inside)

        source, target = (f.at(a[name], start, e.storage) for name in ("x_at", "y_at"))
        map_row(k, source, target, a["channels"], apply)
