"""The fastest loop there is: fused multiply-adds on registers alone, to hold every kernel against."""

from __future__ import annotations

from outstride.engine.codegen.arguments import PEAK_INDEX
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import module
from outstride.engine.codegen.registers import fused, vectors_at, zero_sums
from outstride.engine.codegen.tasks import entry, read_arguments
from outstride.engine.planner.machine import InstructionSet


def chains(isa: InstructionSet) -> int:
    """Independent sums: more than latency times rate of any processor, fewer than there are registers."""
    return isa.registers * 3 // 4


def peak_source(dtype: str, isa: InstructionSet) -> str:
    """The LLVM IR of `run(team)`: `turns` times one multiply-add of every chain; sums are stored last."""
    e = ELEMENTS[dtype]
    lanes = isa.lanes(e.accumulator_bytes)
    f, block = entry()
    a = read_arguments(f, block, PEAK_INDEX)
    k = Vectors(f, e, lanes)
    vector = k.vector
    [sums] = zero_sums(k, 1, chains(isa))
    # Each chain starts from a number of its own: equal chains would be computed once.
    for i, value in enumerate(sums):
        start = f.at(a["result_at"], i * lanes, e.accumulator)
        f.set(value, f.load(vector, start, e.accumulator_bytes))
    first, second = vectors_at(k, 2, a["data_at"])
    with f.loop(0, a["turns"]):
        for value in sums:
            f.set(value, fused(k, first, second, f.get(value, vector)))
    for i, value in enumerate(sums):
        f.store(f.get(value, vector), f.at(a["result_at"], i * lanes, e.accumulator), e.accumulator_bytes)
    return module([f], f"outstride peak_{dtype}_{isa.name}")
