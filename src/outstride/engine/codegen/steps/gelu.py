"""gelu as oneDNN computes it, which torch calls for contiguous float32: with AVX-512, and with AVX2.

With AVX-512 the error function of |x| is one of 25 polynomials of degree five, chosen by the exponent and two
bits of the mantissa. They are looked up by a shuffle of two registers, so that this is written for 16 lanes
alone. With AVX2 it is a formula of Abramowitz and Stegun ("Handbook of Mathematical Functions", 7.1.26), over
an exponential of its own. All coefficients are oneDNN's (`jit_uni_eltwise_injector.cpp`, Apache-2.0).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import splat_constant
from outstride.engine.codegen.ir import Value, vector_type
from outstride.engine.codegen.registers import fused
from outstride.engine.codegen.steps.arithmetic import binary, constant, negated, on_whole, where

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
    """x / 2 * (1 + erf(x / sqrt(2))), of 16 float32 or of one, as with AVX-512."""
    if k.lanes == 1:
        f, wide = k.f, Vectors(k.f, k.e, LANES)
        widened = f.emit(
            wide.vector, f"insertelement {wide.vector} zeroinitializer, float {value.name}, i32 0"
        )
        made = gelu(wide, widened)
        return f.emit("float", f"extractelement {wide.vector} {made.name}, i32 0")
    assert k.lanes == LANES, "the polynomials are looked up in two registers of 16"
    bits = k.f.emit(_BITS, f"bitcast {k.vector} {value.name} to {_BITS}")
    magnitude = on_whole(k, "and", bits, 0x7FFFFFFF)
    size = k.f.emit(k.vector, f"bitcast {_BITS} {magnitude.name} to {k.vector}")
    number = _polynomial(k, magnitude, size)
    total = _coefficient(k, 5, number)
    for degree in range(4, -1, -1):
        total = fused(k, total, size, _coefficient(k, degree, number))
    sign = on_whole(k, "and", bits, -0x80000000)
    signed = k.f.emit(_BITS, f"bitcast {k.vector} {total.name} to {_BITS}")
    signed = binary(k, "xor", signed, sign)
    error = k.f.emit(k.vector, f"bitcast {_BITS} {signed.name} to {k.vector}")
    twice = binary(k, "fmul", value, binary(k, "fadd", error, constant(k, 1.0)))
    return binary(k, "fmul", twice, constant(k, 0.5))


_BITS = f"<{LANES} x i32>"


def _polynomial(k: Vectors, magnitude: Value, size: Value) -> Value:
    """Which polynomial each lane takes, by the bits of |x|, as numbers and as what they are."""
    number = on_whole(k, "ashr", on_whole(k, "add", magnitude, _BIAS), _UNCOUNTED)
    for name, end in (("smax", _FIRST), ("smin", _LAST)):
        bound = Value(splat_constant("i32", LANES, str(end)), _BITS)
        number = k.f.call(_BITS, f"llvm.{name}.v{LANES}i32", number, bound)
    one = Value(splat_constant("i32", LANES, str(_ONE)), _BITS)
    return where(k, "olt", _all(k, _ONE_FROM), size, one, number)


def _coefficient(k: Vectors, degree: int, number: Value) -> Value:
    """The coefficients of a degree of the lanes' polynomials."""
    words = (*_COEFFICIENTS[degree], *[0] * (2 * LANES))[: 2 * LANES]
    low, high = (Value(_floats(part), k.vector) for part in (words[:LANES], words[LANES:]))
    return k.f.call(k.vector, "llvm.x86.avx512.vpermi2var.ps.512", low, number, high)


def _floats(words: Sequence[int]) -> str:
    """A vector of float32 by their bits; LLVM writes them as float64."""
    doubles = (struct.unpack("<f", struct.pack("<I", word))[0] for word in words)
    texts = (f"float 0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}" for number in doubles)
    return f"<{', '.join(texts)}>"


#: The bits of 1 / sqrt(2), and of the formula's constant and coefficients, that of the highest power first.
_ROOT, _STEP = 0x3F3504F3, 0x3EA7BA05
_SERIES = (0x3F87DC22, 0xBFBA00E3, 0x3FB5F0E3, 0xBE91A98E, 0x3E827906)


def gelu_by_series(k: Vectors, value: Value) -> Value:
    """The same as with AVX2, in any number of lanes."""
    f, one, sign = k.f, _all(k, 0x3F800000), -0x80000000
    scaled = binary(k, "fmul", value, _all(k, _ROOT))
    size = _with_bits(k, "and", scaled, 0x7FFFFFFF)
    t = binary(k, "fdiv", one, fused(k, size, _all(k, _STEP), one))
    power = _exponential(k, _with_bits(k, "xor", binary(k, "fmul", scaled, scaled), sign))
    power = binary(k, "fmul", _with_bits(k, "xor", power, sign), t)
    total = _all(k, _SERIES[0])
    for word in _SERIES[1:]:
        total = fused(k, total, t, _all(k, word))
    error = fused(k, power, total, one)
    whole = vector_type(k.lanes, "i32")
    bits, own = (f.emit(whole, f"bitcast {k.vector} {v.name} to {whole}") for v in (error, value))
    signed = binary(k, "xor", bits, on_whole(k, "and", own, sign))
    error = f.emit(k.vector, f"bitcast {whole} {signed.name} to {k.vector}")
    half = binary(k, "fmul", value, _all(k, 0x3F000000))
    return fused(k, error, half, half)


#: The bits of the ends beyond which an exponential is 0 or as at the end, of log2(e) and of log(2), and of
#: the coefficients, that of the highest power first.
_LEAST, _MOST, _LOG2E, _LOG2 = 0xC2AEAC50, 0x42B17218, 0x3FB8AA3B, 0x3F317218
_EXPONENTIAL = (0x3C07CFCE, 0x3D2B9D0D, 0x3E2AAD40, 0x3EFFFEE3, 0x3F7FFFFB)


def _exponential(k: Vectors, value: Value) -> Value:
    """oneDNN's exp: 2 * 2**(n - 1) times a polynomial of what is left."""
    f, one, least, most = k.f, _all(k, 0x3F800000), _all(k, _LEAST), _all(k, _MOST)
    whole = vector_type(k.lanes, "i32")
    x = where(k, "olt", value, most, value, most)
    x = where(k, "ogt", x, least, x, least)
    raised = binary(k, "fadd", binary(k, "fmul", x, _all(k, _LOG2E)), _all(k, 0x3F000000))
    vector = f"v{k.lanes}" if k.lanes > 1 else ""
    n = f.call(k.vector, f"llvm.floor.{vector}f32", raised)
    rest = fused(k, negated(k, n), _all(k, _LOG2), x)
    before = binary(k, "fsub", n, one)
    exponent = f.emit(whole, f"fptosi {k.vector} {before.name} to {whole}")
    for opcode, number in (("add", 0x7F), ("shl", 23)):
        exponent = on_whole(k, opcode, exponent, number)
    power = f.emit(k.vector, f"bitcast {whole} {exponent.name} to {k.vector}")
    power = where(k, "olt", value, least, _all(k, 0), power)
    total = _all(k, _EXPONENTIAL[0])
    for word in (*_EXPONENTIAL[1:], 0x3F800000):
        total = fused(k, total, rest, _all(k, word))
    return binary(k, "fmul", binary(k, "fmul", total, power), _all(k, 0x40000000))


def _with_bits(k: Vectors, opcode: str, value: Value, number: int) -> Value:
    """An operation on the bits of floats and a number."""
    whole = vector_type(k.lanes, "i32")
    bits = k.f.emit(whole, f"bitcast {k.vector} {value.name} to {whole}")
    made = on_whole(k, opcode, bits, number)
    return k.f.emit(k.vector, f"bitcast {whole} {made.name} to {k.vector}")


def _all(k: Vectors, word: int) -> Value:
    """A float32 by its bits in every lane."""
    (number,) = struct.unpack("<f", struct.pack("<I", word))
    return constant(k, number)
