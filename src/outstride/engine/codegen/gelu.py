"""gelu as oneDNN computes it with AVX-512, which torch calls for contiguous float32.

The error function of |x| is one of 25 polynomials of degree five, chosen by the exponent and two bits of the
mantissa; the coefficients, a minimax fit, are oneDNN's (`jit_uni_eltwise_injector.cpp`, Apache-2.0). They are
looked up by a shuffle of two registers, so that this is written for 16 lanes alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import splat_constant
from outstride.engine.codegen.ir import Value
from outstride.engine.codegen.registers import fused

LANES = 16
#: The first lane's |x| as bits from which on the polynomials are counted, and the bits that do not count.
_BIAS, _UNCOUNTED = -0x3DE00001, 21
#: The polynomials of the smallest |x|, of those beyond `_ONE_FROM`, where it is 1, and of NaN.
_FIRST, _ONE, _LAST = 1, 23, 24
_ONE_FROM = 0x40B15CEE
#: The bits of the coefficients of each degree, from 0 to 5, polynomial by polynomial.
_COEFFICIENTS = tuple(tuple(int(word, 16) for word in words.split()) for words in (
    (
        "a6f2cb94 32827792 3381cc0c 34523d4a 351ac44d 35f36d88 36ee8229 37b8a3bb 3867a213 3940033b "
        "3a2a5a1d 3ae35863 3b7828f2 3c08b14b 3c515ed3 bb503236 bd8d8e5e be8abcd9 bf0c19a2 beccb328 "
        "3e176ced 3f470d99 3f7abb28 3f800000 00000000"
    ),
    (
        "3f4c422a 3f4c421f 3f4c4207 3f4c41cb 3f4c413b 3f4c3fad 3f4c3a2f 3f4c2d40 3f4c146a 3f4bc341 "
        "3f4ad08c 3f48f8cf 3f45fac7 3f404e07 3f3b980f 3f48dff3 3f78b21b 3fbb0704 40019c32 3fe536d6 "
        "3f81331e 3e6c8684 3c98f936 00000000 3f800000"
    ),
    (
        "b62173f4 3735e4cf 37f2ff89 388c23be 3917535c 39ab2ab0 3a60fadb 3af9b960 3b6e5491 3c0a4ec5 "
        "3ca5aa8c 3d2138d9 3d8737d4 3ddfb660 3e0f27ab 3d94004b be0efdeb bf1d96c3 bf89db58 bf6d9897 "
        "bef69fb8 bdc4f8a8 bbde6422 00000000 00000000"
    ),
    (
        "be081a19 be084570 be08639b be089837 be08f409 be09ab95 be0b66d0 be0e400a be124df8 be1bde02 "
        "be2f19c9 be4931bf be685fbc be89c95f be96cbca be8044aa be0550f2 3dcfd6a1 3e94c826 3e79345f "
        "3decec91 3ca46568 3aa1e00a 00000000 00000000"
    ),
    (
        "ba3d61db 39f097a3 3a5845dc 3ab1fa35 3b0cefb8 3b653ab6 3bcae527 3c221712 3c6c5840 3cc0a703 "
        "3d1dcc19 3d63656d 3d955907 3dbf9910 3dd53f69 3db7dcef 3d639ebe ba6ede48 bd22be69 bd041cf1 "
        "bc64f5ab bb097a32 b8ebf380 00000000 00000000"
    ),
    (
        "3cb7d80c 3c9b6050 3c978d11 3c92e850 3c8d058b 3c848454 3c6cd623 3c4c824b 3c2a7935 3be0b390 "
        "3b0651ac bb232f53 bbd42fa0 bc2c5366 bc492c9e bc2a7aa6 bbd55d04 ba823a76 3b102aa8 3ae25a7e "
        "3a31f792 38b84375 3689bb5a 00000000 00000000"
    ),
))  # fmt: skip


def gelu(k: Vectors, value: Value) -> Value:
    """x / 2 * (1 + erf(x / sqrt(2))), of 16 float32 or of one."""
    if k.lanes == 1:
        f, wide = k.f, Vectors(k.f, k.e, LANES)
        widened = f.emit(
            wide.vector, f"insertelement {wide.vector} zeroinitializer, float {value.name}, i32 0"
        )
        made = gelu(wide, widened)
        return f.emit("float", f"extractelement {wide.vector} {made.name}, i32 0")
    assert k.lanes == LANES, "the polynomials are looked up in two registers of 16"
    bits = k.f.emit(_BITS, f"bitcast {k.vector} {value.name} to {_BITS}")
    magnitude = _whole(k, "and", bits, 0x7FFFFFFF)
    size = k.f.emit(k.vector, f"bitcast {_BITS} {magnitude.name} to {k.vector}")
    number = _polynomial(k, magnitude, size)
    total = _coefficient(k, 5, number)
    for degree in range(4, -1, -1):
        total = fused(k, total, size, _coefficient(k, degree, number))
    sign = _whole(k, "and", bits, -0x80000000)
    signed = k.f.emit(_BITS, f"bitcast {k.vector} {total.name} to {_BITS}")
    signed = k.f.emit(_BITS, f"xor {_BITS} {signed.name}, {sign.name}")
    error = k.f.emit(k.vector, f"bitcast {_BITS} {signed.name} to {k.vector}")
    raised = k.f.emit(k.vector, f"fadd {k.vector} {error.name}, {_floats([0x3F800000] * LANES)}")
    twice = k.f.emit(k.vector, f"fmul {k.vector} {value.name}, {raised.name}")
    return k.f.emit(k.vector, f"fmul {k.vector} {twice.name}, {_floats([0x3F000000] * LANES)}")


_BITS = f"<{LANES} x i32>"


def _polynomial(k: Vectors, magnitude: Value, size: Value) -> Value:
    """Which polynomial each lane takes, by the bits of |x|, as numbers and as what they are."""
    number = _whole(k, "ashr", _whole(k, "add", magnitude, _BIAS), _UNCOUNTED)
    for name, end in (("smax", _FIRST), ("smin", _LAST)):
        bound = Value(splat_constant("i32", LANES, str(end)), _BITS)
        number = k.f.call(_BITS, f"llvm.{name}.v{LANES}i32", number, bound)
    beyond = k.f.emit(f"<{LANES} x i1>", f"fcmp olt {k.vector} {_floats([_ONE_FROM] * LANES)}, {size.name}")
    one = splat_constant("i32", LANES, str(_ONE))
    return k.f.emit(_BITS, f"select <{LANES} x i1> {beyond.name}, {_BITS} {one}, {_BITS} {number.name}")


def _coefficient(k: Vectors, degree: int, number: Value) -> Value:
    """The coefficients of a degree of the lanes' polynomials."""
    words = (*_COEFFICIENTS[degree], *[0] * (2 * LANES))[: 2 * LANES]
    low, high = (Value(_floats(part), k.vector) for part in (words[:LANES], words[LANES:]))
    return k.f.call(k.vector, "llvm.x86.avx512.vpermi2var.ps.512", low, number, high)


def _whole(k: Vectors, opcode: str, value: Value, number: int) -> Value:
    """An operation on whole numbers of 32 bits and a number."""
    return k.f.emit(_BITS, f"{opcode} {_BITS} {value.name}, {splat_constant('i32', LANES, str(number))}")


def _floats(words: Sequence[int]) -> str:
    """A vector of float32 by their bits; LLVM writes them as float64."""
    doubles = (struct.unpack("<f", struct.pack("<I", word))[0] for word in words)
    texts = (f"float 0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}" for number in doubles)
    return f"<{', '.join(texts)}>"
