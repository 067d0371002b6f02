"""Code of each instruction set, compiled, loaded, run and compared: what `probe` starts a process for.

It says on its standard output what it is about to do, so that whoever reads it knows what it died of. What is
tried is what kernels are made of: multiply-adds that round once, conversions of 16-bit floats, loads under
masks, shifts of words.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Sequence

from outstride.engine.planner.machine import INSTRUCTION_SETS, InstructionSet
from outstride.engine.runtime import compiler
from outstride.errors import CompileError

#: Changes with what is tried: what was found out with another is not believed.
EDITION = "1"
TRYING, RIGHT, WRONG = "trying", "right", "wrong"

#: Squared, 1 + 2**-12 has a last bit that is lost where products are rounded before they are added.
_FACTOR, _SUM = 1 + 2.0**-12, 2.0**-11 + 2.0**-24
_FACTOR_DOUBLE, _SUM_DOUBLE = 1 + 2.0**-27, 2.0**-26 + 2.0**-54
_HALF, _WORD, _SHIFT = 1.5, 0x0123456789ABCDEF, 12
#: Bytes from one part of the block to the next, a vector of the widest set; parts that are read, and written.
_PART, _READ, _WRITTEN = 64, 5, 6


def source(isa: InstructionSet) -> str:
    """The LLVM IR of `run(block)`, which fills parts behind those that it reads."""
    singles, doubles, shorts = isa.lanes(4), isa.lanes(8), isa.lanes(2)
    f, d, h, s = f"<{singles} x float>", f"<{doubles} x double>", f"<{singles} x half>", f"<{shorts} x i16>"
    places = [(f"x{n}", n) for n in range(_READ)] + [(f"y{n}", _READ + n) for n in range(_WRITTEN)]
    parts = "\n".join(f"  %{name} = getelementptr i8, ptr %block, i64 {n * _PART}" for name, n in places)
    bits = f"<{shorts} x i1>"
    load = f"llvm.masked.load.v{shorts}i16.p0"
    return f"""\
declare {f} @llvm.fma.v{singles}f32({f}, {f}, {f})
declare {d} @llvm.fma.v{doubles}f64({d}, {d}, {d})
declare {s} @{load}(ptr, i32, {bits}, {s})

define void @run(ptr %block) nounwind "min-legal-vector-width"="512" "prefer-vector-width"="512" {{
{parts}
  %a = load {f}, ptr %x0, align 64
  %single = call {f} @llvm.fma.v{singles}f32({f} %a, {f} %a, {f} <{", ".join(["float -1.0"] * singles)}>)
  store {f} %single, ptr %y0, align 64
  %b = load {d}, ptr %x1, align 64
  %double = call {d} @llvm.fma.v{doubles}f64({d} %b, {d} %b, {d} <{", ".join(["double -1.0"] * doubles)}>)
  store {d} %double, ptr %y1, align 64
  %c = load {h}, ptr %x2, align 32
  %wide = fpext {h} %c to {f}
  store {f} %wide, ptr %y2, align 64
  %narrow = fptrunc {f} %single to {h}
  store {h} %narrow, ptr %y3, align 64
  %lanes = load i{shorts}, ptr %x4, align 8
  %mask = bitcast i{shorts} %lanes to {bits}
  %masked = call {s} @{load}(ptr %x3, i32 2, {bits} %mask, {s} zeroinitializer)
  store {s} %masked, ptr %y4, align 64
  %word = load i64, ptr %x3, align 8
  %places = load i64, ptr %x4, align 8
  %shifted = shl i64 %word, %places
  store i64 %shifted, ptr %y5, align 8
  ret void
}}
"""


def is_right(isa: InstructionSet) -> bool:
    """Whether code for the set gives what it should, if this process survives it."""
    code = compiler.compile_object(source(isa), isa)
    (address,) = compiler.load_object(code, isa, ["run"])
    singles, doubles, shorts = isa.lanes(4), isa.lanes(8), isa.lanes(2)
    before = (
        struct.pack(f"<{singles}f", *[_FACTOR] * singles),
        struct.pack(f"<{doubles}d", *[_FACTOR_DOUBLE] * doubles),
        struct.pack(f"<{singles}e", *[_HALF] * singles),
        struct.pack("<Q", _WORD) * doubles,
        struct.pack("<Q", _SHIFT),
    )
    words = [_WORD >> 16 * (lane % 4) & 0xFFFF if _SHIFT >> lane & 1 else 0 for lane in range(shorts)]
    after = (
        struct.pack(f"<{singles}f", *[_SUM] * singles),
        struct.pack(f"<{doubles}d", *[_SUM_DOUBLE] * doubles),
        struct.pack(f"<{singles}f", *[_HALF] * singles),
        struct.pack(f"<{singles}e", *[_SUM] * singles),
        struct.pack(f"<{shorts}H", *words),
        struct.pack("<Q", _WORD << _SHIFT & (1 << 64) - 1),
    )
    room = ctypes.create_string_buffer((_READ + _WRITTEN + 1) * _PART)
    begin = -ctypes.addressof(room) % _PART
    for number, content in enumerate(before):
        ctypes.memmove(ctypes.addressof(room) + begin + number * _PART, content, len(content))
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)(ctypes.addressof(room) + begin)
    found = room.raw[begin + _READ * _PART :]
    return all(found[n * _PART :][: len(content)] == content for n, content in enumerate(after))


def _die_quietly() -> None:
    """Leave no core behind, and no window open, if it comes to that."""
    if sys.platform == "win32":
        ctypes.WinDLL("kernel32").SetErrorMode(0x8003)
    else:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(names: Sequence[str]) -> None:
    """Try the sets of these names, and say so: a line before each, and one after it."""
    _die_quietly()
    for name in names:
        print(TRYING, name, flush=True)  # noqa: T201  # read by the process that started this one
        try:
            right = is_right(INSTRUCTION_SETS[name])
        except CompileError as problem:
            print(problem, file=sys.stderr)  # noqa: T201
            right = False
        print(RIGHT if right else WRONG, name, flush=True)  # noqa: T201
