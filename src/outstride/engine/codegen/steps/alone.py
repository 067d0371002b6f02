"""Steps on neighbouring elements of one channel: what they compute, to be compared with torch's operators."""

from __future__ import annotations

from collections.abc import Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import STEPS_INDEX
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import PTR, Function, Operand, Value, module
from outstride.engine.codegen.steps import operations as steps
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.steps import Step


def steps_source(chain: Sequence[Step], dtype: str, isa: InstructionSet) -> str:
    """The LLVM IR of `run(block)`: `count` elements of y from those of x, in vectors, the last ones alone.

    `operands_at` has the address of each operand that is given: of the number for the channel, or of an
    element for each of x.
    """
    e = ELEMENTS[dtype]
    f = Function("run", [("block", PTR)])
    a = read_arguments(f, f.parameters[0], STEPS_INDEX)
    wide = Vectors(f, e, isa.lanes(e.accumulator_bytes))
    count = a["count"]
    whole = f.mul(f.div(count, wide.lanes), wide.lanes)
    for k, begin, end in ((wide, 0, whole), (Vectors(f, e, 1), whole, count)):
        prepared = _prepared(k, chain, a["operands_at"])
        with f.loop(begin, end, k.lanes) as i:
            own = [
                [elements.load(f, e, f.at(base, i, e.storage), k.lanes) for base in bases]
                if bases
                else list(of)
                for bases, of in prepared
            ]
            value = elements.load(f, e, f.at(a["x_at"], i, e.storage), k.lanes)
            made = steps.apply(k, chain, value, own)
            elements.store(f, e, made, f.at(a["y_at"], i, e.storage), k.lanes)
    return module([f], f"outstride steps_{dtype}")


def _prepared(
    k: Vectors, chain: Sequence[Step], table: Value
) -> list[tuple[list[Value], tuple[Value, ...]]]:  # fmt: skip
    """Of each step the addresses of its tensors, or else what it needs of its numbers for the channel."""
    f, e = k.f, k.e
    found: list[tuple[list[Value], tuple[Value, ...]]] = []
    number: Operand = 0
    for step in chain:
        bases: list[Value] = []
        vectors: list[Value | None] = []
        for form in step.operands:
            if form is None:
                vectors.append(None)
                continue
            base = f.load(PTR, f.at(table, number, PTR), 8)
            number = f.add(number, 1)
            if form == "tensor":
                bases.append(base)
            else:
                vectors.append(elements.broadcast(f, elements.load(f, e, base, 1), k.lanes))
        found.append((bases, () if bases else steps.prepare(k, step, vectors)))
    return found
