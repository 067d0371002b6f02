"""Sums that go on: chains over elements that arrive in parts, each from what the part before has left.

`squares` is s = s + x * x, rounded twice, which is how torch takes norms; `moments` are Welford's in float64,
whatever x is: d = x - mean, mean = mean + d / n, s = s + d * (x - mean), which is how it takes variances.
Chains that lie side by side are the lanes of vectors.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS, Element
from outstride.engine.codegen.ir import PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.tasks import read_arguments

#: The argument block: `groups` of `lanes` chains, `pitch` elements apart; an element of a chain lies `step`
#: behind the one before, `count` of them have come and `before` have been before. What chains are at lies in
#: `sums_at`, of moments the means in `means_at`.
RUNNING_ARGUMENTS = (
    "data_at", "sums_at", "means_at", "groups", "pitch", "lanes", "step", "count", "before",
)  # fmt: skip
RUNNING_INDEX = {name: i for i, name in enumerate(RUNNING_ARGUMENTS)}
KINDS = ("squares", "moments")
#: Chains of a vector.
_LANES = 8


def running_source(kind: str, dtype: str) -> str:
    """The LLVM IR of `run(block)` for a kind of sum of elements of a dtype."""
    e = ELEMENTS[dtype]
    f = Function("run", [("block", PTR)])
    a = read_arguments(f, f.parameters[0], RUNNING_INDEX)
    whole = f.mul(f.div(a["lanes"], _LANES), _LANES)
    with f.loop(0, a["groups"]) as group:
        data = f.at(a["data_at"], f.mul(group, a["pitch"]), e.storage)
        first = f.mul(group, a["lanes"])
        for lanes, begin, end in ((_LANES, 0, whole), (1, whole, a["lanes"])):
            with f.loop(begin, end, lanes) as lane:
                start = f.at(data, lane, e.storage)
                (_squares if kind == "squares" else _moments)(f, e, a, lanes, start, f.add(first, lane))
    return module([f], f"outstride running {kind} of {dtype}")


def _squares(f: Function, e: Element, a: dict[str, Value], lanes: int, start: Value, chain: Operand) -> None:
    k = Vectors(f, e, lanes)
    place, total = f.at(a["sums_at"], chain, e.accumulator), f.variable(k.vector)
    f.set(total, f.load(k.vector, place, e.accumulator_bytes))
    with f.loop(0, a["count"]) as i:
        x = elements.load(f, e, f.at(start, f.mul(i, a["step"]), e.storage), lanes)
        square = f.emit(k.vector, f"fmul {k.vector} {x.name}, {x.name}")
        f.set(total, elements.plus(f, f.get(total, k.vector), square))
    f.store(f.get(total, k.vector), place, e.accumulator_bytes)


def _moments(f: Function, e: Element, a: dict[str, Value], lanes: int, start: Value, chain: Operand) -> None:
    k = Vectors(f, ELEMENTS["float64"], lanes)
    places = [f.at(a[name], chain, "double") for name in ("means_at", "sums_at")]
    mean, total = (f.variable(k.vector, f.load(k.vector, place, 8)) for place in places)

    def combined(opcode: str, left: Value, right: Value) -> Value:
        return f.emit(k.vector, f"{opcode} {k.vector} {left.name}, {right.name}")

    with f.loop(0, a["count"]) as i:
        x = elements.load(f, e, f.at(start, f.mul(i, a["step"]), e.storage), lanes)
        if e.accumulator != "double":
            x = f.emit(k.vector, f"fpext {vector_type(lanes, e.accumulator)} {x.name} to {k.vector}")
        number = f.i64(f.add(f.add(i, a["before"]), 1))
        n = elements.broadcast(f, f.emit("double", f"sitofp i64 {number.name} to double"), lanes)
        before = f.get(mean, k.vector)
        apart = combined("fsub", x, before)
        after = combined("fadd", before, combined("fdiv", apart, n))
        f.set(mean, after)
        square = combined("fmul", apart, combined("fsub", x, after))
        f.set(total, combined("fadd", f.get(total, k.vector), square))
    for place, variable in zip(places, (mean, total), strict=True):
        f.store(f.get(variable, k.vector), place, 8)
