"""Whether memory holds a number that is infinite or NaN: 0 * v is 0 for every finite v, else NaN."""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import NONFINITE_INDEX
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.tasks import read_arguments


def nonfinite_source(dtype: str) -> str:
    """The LLVM IR of `run(block)`: `found` becomes 1 where one of `count` elements is not finite."""
    e = ELEMENTS[dtype]
    f = Function("run", [("block", PTR)])
    block = f.parameters[0]
    a = read_arguments(f, block, NONFINITE_INDEX)
    with f.when(holds_nonfinite(f, e, a["data_at"], a["count"])):
        f.store(Value("1", I64), f.at(block, NONFINITE_INDEX["found"], I64), 8)
    return module([f], f"outstride nonfinite_{dtype}")


def holds_nonfinite(f: Function, e: Element, data: Value, count: Operand) -> Value:
    """A condition: whether some of `count` neighbouring elements is infinite or NaN."""
    lanes = 64 // e.accumulator_bytes
    k = Vectors(f, e, lanes)
    vector = k.vector
    sums = f.variable(vector, elements.zero(e, lanes))
    f.set(sums, elements.zero(e, lanes))
    whole = f.mul(f.div(count, lanes), lanes)

    def add(value: Value) -> None:
        f.set(sums, fused(k, value, elements.zero(e, lanes), f.get(sums, vector)))

    with f.loop(0, whole, lanes) as i:
        add(elements.load(f, e, f.at(data, i, e.storage), lanes))
    with f.loop(whole, count) as i:
        add(elements.broadcast(f, elements.load(f, e, f.at(data, i, e.storage), 1), lanes))
    return has_nan(k, f.get(sums, vector))


def has_nan(k: Vectors, value: Value) -> Value:
    """A condition: whether a lane of a vector is NaN."""
    f, lanes = k.f, k.lanes
    condition = f.emit(vector_type(lanes, "i1"), f"fcmp uno {value.type} {value.name}, {value.name}")
    bits = f.emit(f"i{lanes}", f"bitcast {condition.type} {condition.name} to i{lanes}")
    return f.emit("i1", f"icmp ne i{lanes} {bits.name}, 0")
