"""Fingerprints of memory: whether a weight still holds what was packed, whoever wrote to it and however.

No version counter tells: writes through `weight.data` or NumPy and fused optimisers leave it as it is. So all
of a weight is read, 4 KB at a time, and each such block gives sixteen words that are compared with those of
the memory as it was. A word is the hash NH (Black et al., UMAC: Fast and secure message authentication, 1999,
section 4): with m of 32-bit halves and random keys k, the sum of (m[0] + k[0]) * (m[1] + k[1]) over a lane's
64 words. For any change that does not know the keys, two blocks agree in a lane with probability 2**-32 at
most, and in both words of a lane, whose keys are shifted by one line, with 2**-64.
"""

from __future__ import annotations

from outstride.engine.codegen.arguments import FINGERPRINT_INDEX
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module
from outstride.engine.codegen.tasks import read_arguments, take_tasks

#: Words of a line, lines of a block, and blocks that a thread takes at a time.
WORDS = 8
LINE_BYTES = 8 * WORDS
LINES = 64
BLOCK_BYTES = LINES * LINE_BYTES
BLOCKS_OF_TASK = 64
#: Keys of all lines, and one line more for the second word; marks of a block.
KEY_BYTES = (LINES + 1) * LINE_BYTES
MARK_BYTES = 2 * LINE_BYTES
_UNROLLED = 8
_VECTOR = f"<{WORDS} x i64>"
_HALVES = f"<{2 * WORDS} x i32>"
_ZERO = Value("zeroinitializer", _VECTOR)


def fingerprint_source() -> str:
    """The LLVM IR of the kernel: marks of blocks are written (`renew` is 1) or compared with those there.

    Where one differs, the argument block's `changed` becomes 1.
    """
    return module([_task(), take_tasks(FINGERPRINT_INDEX)], "outstride fingerprint")


def _task() -> Function:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    arguments, _, number = f.parameters
    a = read_arguments(f, arguments, FINGERPRINT_INDEX)
    differences = f.variable(_VECTOR, _ZERO)
    words = f.variable(_VECTOR), f.variable(_VECTOR)
    rest = f.variable(_VECTOR)
    renewing = f.compare("ne", a["renew"], 0)
    blocks = f.ceil_div(a["size_bytes"], BLOCK_BYTES)
    begin = f.mul(number, BLOCKS_OF_TASK)
    with f.loop(begin, f.minimum(f.add(begin, BLOCKS_OF_TASK), blocks)) as block:
        start = f.mul(block, BLOCK_BYTES)
        size = f.minimum(BLOCK_BYTES, f.sub(a["size_bytes"], start))
        _hash(f, f.at(a["data_at"], start, "i8"), size, a["keys_at"], words, rest)
        marks = f.at(a["marks_at"], f.mul(block, MARK_BYTES), "i8")
        for i, sums in enumerate(words):
            mark, found = f.at(marks, i * LINE_BYTES, "i8"), f.get(sums, _VECTOR)
            with f.when(renewing):
                f.store(found, mark, 8)
            kept = f.load(_VECTOR, mark, 8)
            difference = f.emit(_VECTOR, f"xor {_VECTOR} {found.name}, {kept.name}")
            earlier = f.get(differences, _VECTOR)
            f.set(differences, f.emit(_VECTOR, f"or {_VECTOR} {earlier.name}, {difference.name}"))
    bits = f"i{8 * LINE_BYTES}"
    all_bits = f.emit(bits, f"bitcast {_VECTOR} {f.get(differences, _VECTOR).name} to {bits}")
    with f.when(f.emit("i1", f"icmp ne {bits} {all_bits.name}, 0")):
        f.store(Value("1", I64), f.at(arguments, FINGERPRINT_INDEX["changed"], I64), 8)
    return f


def _hash(
    f: Function, data: Value, size: Operand, keys: Value, words: tuple[Value, Value], rest: Value
) -> None:
    """Set both words of every lane to those of a block; `rest` is room for a line."""
    for sums in words:
        f.set(sums, _ZERO)
    lines = f.div(size, LINE_BYTES)
    whole = f.mul(f.div(lines, _UNROLLED), _UNROLLED)
    with f.loop(0, whole, _UNROLLED) as i:
        line, own = (f.at(base, f.mul(i, LINE_BYTES), "i8") for base in (data, keys))
        for offset in range(0, _UNROLLED * LINE_BYTES, LINE_BYTES):
            _add(f, f.at(line, offset, "i8"), f.at(own, offset, "i8"), words)
    with f.loop(whole, lines) as i:
        line, own = (f.at(base, f.mul(i, LINE_BYTES), "i8") for base in (data, keys))
        _add(f, line, own, words)
    before = f.mul(lines, LINE_BYTES)
    with f.when(f.compare("slt", before, size)):  # the bytes behind the last line, as a line with zeros
        f.set(rest, _ZERO)
        with f.loop(before, size) as i:
            f.store(f.load("i8", f.at(data, i, "i8"), 1), f.at(rest, f.sub(i, before), "i8"), 1)
        _add(f, rest, f.at(keys, before, "i8"), words)


def _add(f: Function, line: Value, keys: Value, words: tuple[Value, Value]) -> None:
    """Add a line to both words of every lane, with its keys and with those of the line behind it."""
    halves = f.load(_HALVES, line, 1)
    for sums, own in zip(words, (keys, f.at(keys, LINE_BYTES, "i8")), strict=True):
        key = f.load(_HALVES, own, 8)
        mixed = f.emit(_HALVES, f"add {_HALVES} {halves.name}, {key.name}")
        word = f.emit(_VECTOR, f"bitcast {_HALVES} {mixed.name} to {_VECTOR}")
        low = f.emit(_VECTOR, f"and {_VECTOR} {word.name}, {_each(0xFFFFFFFF)}")
        high = f.emit(_VECTOR, f"lshr {_VECTOR} {word.name}, {_each(32)}")
        product = f.emit(_VECTOR, f"mul {_VECTOR} {low.name}, {high.name}")
        f.set(sums, f.emit(_VECTOR, f"add {_VECTOR} {f.get(sums, _VECTOR).name}, {product.name}"))


def _each(number: int) -> str:
    return f"<{', '.join([f'i64 {number}'] * WORDS)}>"
