"""A fingerprint of memory: whether a weight still holds what was packed, though no version counter says so.

Writes through `weight.data` leave the version as it is, and code that does so (soft updates,
clipping, pruning) expects to be obeyed. Two running sums, of the words and of the first sum, notice
every single change and every exchange.
"""

from __future__ import annotations

from outstride.codegen.arguments import FINGERPRINT_INDEX
from outstride.codegen.ir import I64, PTR, Function, Value, module
from outstride.codegen.tasks import read_arguments

#: Words of a line, and of the result: both sums of every word.
WORDS = 8
RESULT_WORDS = 2 * WORDS
LINE_BYTES = 8 * WORDS


def fingerprint_source() -> str:
    """The LLVM IR of the kernel: lines first_line, first_line + line_step, ... and the bytes behind them."""
    f = Function("run", [("block", PTR)])
    a = read_arguments(f, f.parameters[0], FINGERPRINT_INDEX)
    vector = f"<{WORDS} x i64>"
    zero = Value("zeroinitializer", vector)
    words, sums = f.variable(vector, zero), f.variable(vector, zero)

    def take(line: Value) -> None:
        total = f.emit(vector, f"add {vector} {f.get(words, vector).name}, {line.name}")
        f.set(words, total)
        f.set(sums, f.emit(vector, f"add {vector} {f.get(sums, vector).name}, {total.name}"))

    lines = f.div(a["size_bytes"], LINE_BYTES)
    with f.loop(a["first_line"], lines, a["line_step"]) as i:
        take(f.load(vector, f.at(a["data_at"], f.mul(i, LINE_BYTES), "i8"), 1))
    with f.loop(f.mul(lines, LINE_BYTES), a["size_bytes"]) as i:
        byte = f.emit(I64, f"zext i8 {f.load('i8', f.at(a['data_at'], i, 'i8'), 1).name} to i64")
        take(f.emit(vector, f"insertelement {vector} zeroinitializer, i64 {byte.name}, i32 0"))
    f.store(f.get(words, vector), a["result_at"], 8)
    f.store(f.get(sums, vector), f.at(a["result_at"], WORDS, I64), 8)
    return module([f], "outstride fingerprint")
