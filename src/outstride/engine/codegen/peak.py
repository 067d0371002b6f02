"""The fastest loop there is: fused multiply-adds on registers alone, to hold every kernel against."""

from __future__ import annotations

from outstride.engine.codegen.arguments import PEAK_INDEX
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import Function, module, vector_type
from outstride.engine.codegen.microkernel import fused, zero_accumulators
from outstride.engine.codegen.tasks import read_arguments
from outstride.engine.planner.machine import InstructionSet


def chains(isa: InstructionSet) -> int:
    """Independent sums: more than latency times rate of any processor, fewer than there are registers."""
    return isa.registers * 3 // 4


def peak_source(dtype: str, isa: InstructionSet) -> str:
    """The LLVM IR of `run(block)`: `turns` times one multiply-add of every chain; sums are stored last."""
    e = ELEMENTS[dtype]
    lanes = isa.lanes(e.accumulator_bytes)
    f = Function("run", [("block", "ptr")])
    a = read_arguments(f, f.parameters[0], PEAK_INDEX)
    vector = vector_type(lanes, e.accumulator)
    [sums] = zero_accumulators(f, e, 1, chains(isa), lanes)
    # Each chain starts from a number of its own: equal chains would be computed once.
    for i, value in enumerate(sums):
        start = f.at(a["result_at"], i * lanes, e.accumulator)
        f.set(value, f.load(vector, start, e.accumulator_bytes))
    factors = [
        f.load(vector, f.at(a["data_at"], i * lanes, e.accumulator), e.accumulator_bytes) for i in range(2)
    ]
    with f.loop(0, a["turns"]):
        for value in sums:
            f.set(value, fused(f, e, lanes, factors[0], factors[1], f.get(value, vector)))
    for i, value in enumerate(sums):
        f.store(f.get(value, vector), f.at(a["result_at"], i * lanes, e.accumulator), e.accumulator_bytes)
    return module([f], f"outstride peak_{dtype}_{isa.name}")
