"""Whether memory holds what a copy of it holds: a line at a time, and the bytes behind the last line."""

from __future__ import annotations

from outstride.engine.codegen.arguments import COMPARISON_INDEX
from outstride.engine.codegen.fingerprint import LINE_BYTES, WORDS
from outstride.engine.codegen.ir import I64, Operand, Value, module
from outstride.engine.codegen.tasks import entry, read_arguments

_LINE = f"<{WORDS} x i64>"


def comparison_source() -> str:
    """The LLVM IR of `run(team)`: `changed` becomes 1 where one of `size_bytes` bytes differs."""
    f, block = entry()
    a = read_arguments(f, block, COMPARISON_INDEX)
    whole = f.mul(f.div(a["size_bytes"], LINE_BYTES), LINE_BYTES)
    differences = f.variable(_LINE, Value("zeroinitializer", _LINE))
    rest = f.variable("i8", Value("0", "i8"))

    def gather(into: Value, type_: str, place: Operand) -> None:
        """Set the bits of a variable that differ at a place of both."""
        there, kept = (f.load(type_, f.at(a[name], place, "i8"), 1) for name in ("data_at", "copy_at"))
        difference = f.emit(type_, f"xor {type_} {there.name}, {kept.name}")
        earlier = f.get(into, type_)
        f.set(into, f.emit(type_, f"or {type_} {earlier.name}, {difference.name}"))

    with f.loop(0, whole, LINE_BYTES) as place:
        gather(differences, _LINE, place)
    with f.loop(whole, a["size_bytes"]) as place:
        gather(rest, "i8", place)
    for type_, bits, found in ((_LINE, f"i{8 * LINE_BYTES}", differences), ("i8", "i8", rest)):
        value = f.emit(bits, f"bitcast {type_} {f.get(found, type_).name} to {bits}")
        with f.when(f.emit("i1", f"icmp ne {bits} {value.name}, 0")):
            f.store(Value("1", I64), f.at(block, COMPARISON_INDEX["changed"], I64), 8)
    return module([f], "outstride comparison")
