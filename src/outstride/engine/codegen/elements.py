"""Element types: how values of a dtype are loaded into, and rounded once out of, the type that sums them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outstride.engine.codegen.ir import Function, Operand, Value, vector_type


@dataclass(frozen=True)
class Element:
    """A dtype as kernels see it: its storage type, its accumulation type and their sizes."""

    dtype: str
    storage: str
    storage_bytes: int
    accumulator: str
    accumulator_bytes: int

    @property
    def mangled(self) -> str:
        """The accumulator's name in the names of LLVM intrinsics."""
        return {"float": "f32", "double": "f64"}[self.accumulator]


ELEMENTS = {
    e.dtype: e
    for e in (
        Element("float32", "float", 4, "float", 4),
        Element("float64", "double", 8, "double", 8),
        Element("bfloat16", "i16", 2, "float", 4),
        Element("float16", "half", 2, "float", 4),
    )
}


def splat_constant(type_: str, lanes: int, text: str) -> str:
    """A vector constant whose lanes are all `text`."""
    return f"<{', '.join([f'{type_} {text}'] * lanes)}>" if lanes > 1 else text


def iota(lanes: int) -> str:
    """The constant <0, 1, 2, ...> of i64."""
    return "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">"


def zero(e: Element, lanes: int) -> Value:
    """+0 in every lane of a vector of accumulators."""
    return Value("zeroinitializer" if lanes > 1 else "0.0", vector_type(lanes, e.accumulator))


def plus(f: Function, a: Value, b: Value) -> Value:
    """a + b, rounded once."""
    return f.emit(a.type, f"fadd {a.type} {a.name}, {b.name}")


def broadcast(f: Function, scalar: Value, lanes: int) -> Value:
    """A vector whose lanes all hold `scalar`."""
    if lanes == 1:
        return scalar
    type_ = vector_type(lanes, scalar.type)
    one = f.emit(type_, f"insertelement {type_} poison, {scalar.type} {scalar.name}, i32 0")
    return f.emit(type_, f"shufflevector {type_} {one.name}, {type_} poison, <{lanes} x i32> zeroinitializer")


def first_lanes(f: Function, count: Operand, lanes: int) -> Value:
    """A mask of the first `count` lanes."""
    limit = broadcast(f, f.i64(count), lanes)
    mask = vector_type(lanes, "i1")
    return f.emit(mask, f"icmp slt <{lanes} x i64> {iota(lanes)}, {limit.name}")


def widen(f: Function, e: Element, raw: Value, lanes: int) -> Value:
    """Storage to accumulator, exactly."""
    target = vector_type(lanes, e.accumulator)
    if e.dtype == "bfloat16":
        wide = vector_type(lanes, "i32")
        bits = f.emit(wide, f"zext {raw.type} {raw.name} to {wide}")
        high = f.emit(wide, f"shl {wide} {bits.name}, {splat_constant('i32', lanes, '16')}")
        return f.emit(target, f"bitcast {wide} {high.name} to {target}")
    if e.dtype == "float16":
        return f.emit(target, f"fpext {raw.type} {raw.name} to {target}")
    return raw


def narrow(f: Function, e: Element, value: Value, lanes: int) -> Value:
    """Accumulator to storage, rounded once, to nearest even; NaN stays NaN."""
    target = vector_type(lanes, e.storage)
    if e.dtype == "float16":
        return f.emit(target, f"fptrunc {value.type} {value.name} to {target}")
    if e.dtype != "bfloat16":
        return value
    wide = vector_type(lanes, "i32")

    def constant(text: str) -> str:
        return splat_constant("i32", lanes, text)

    bits = f.emit(wide, f"bitcast {value.type} {value.name} to {wide}")
    # Adding 0x7fff and the lowest kept bit carries into the kept half exactly when nearest-even rounds up.
    kept = f.emit(wide, f"lshr {wide} {bits.name}, {constant('16')}")
    odd = f.emit(wide, f"and {wide} {kept.name}, {constant('1')}")
    bias = f.emit(wide, f"add {wide} {odd.name}, {constant('32767')}")
    rounded = f.emit(wide, f"add {wide} {bits.name}, {bias.name}")
    high = f.emit(wide, f"lshr {wide} {rounded.name}, {constant('16')}")
    condition = vector_type(lanes, "i1")
    nan = f.emit(condition, f"fcmp uno {value.type} {value.name}, {value.name}")
    chosen = f.emit(wide, f"select {condition} {nan.name}, {wide} {constant('32704')}, {wide} {high.name}")
    return f.emit(target, f"trunc {wide} {chosen.name} to {target}")


def load(f: Function, e: Element, pointer: Value, lanes: int) -> Value:
    """`lanes` elements of storage as accumulators."""
    return widen(f, e, f.load(vector_type(lanes, e.storage), pointer, e.storage_bytes), lanes)


def lanes_within(f: Function, start: Operand, size: Operand, lanes: int) -> Value:
    """A mask of the lanes l for which 0 <= start + l < size.

    Those are the bits [low, high) of an integer with a bit for each lane.
    """
    low = f.minimum(f.maximum(f.sub(0, start), 0), lanes)
    high = f.minimum(f.maximum(f.sub(size, start), 0), lanes)
    below_low, below_high = (f.sub(f.emit("i64", f"shl i64 1, {f.ref(n)}"), 1) for n in (low, high))
    bits = f.emit("i64", f"xor i64 {f.ref(below_high)}, {f.ref(below_low)}")
    bits = f.emit("i64", f"and i64 {bits.name}, {f.ref(below_high)}")
    short = f.emit(f"i{lanes}", f"trunc i64 {bits.name} to i{lanes}")
    return f.emit(vector_type(lanes, "i1"), f"bitcast i{lanes} {short.name} to {vector_type(lanes, 'i1')}")


def lanes_between(f: Function, start: Operand, size: Operand, lanes: int) -> Value:
    """`lanes_within`, by comparisons of vectors: some sets have no registers for masks."""
    type_, low, high = vector_type(lanes, "i32"), f.sub(0, start), f.sub(size, start)
    bounds = [broadcast(f, f.i32(f.minimum(f.maximum(n, 0), lanes)), lanes) for n in (low, high)]
    numbers = "<" + ", ".join(f"i32 {i}" for i in range(lanes)) + ">"
    mask = vector_type(lanes, "i1")
    above = f.emit(mask, f"icmp sge {type_} {numbers}, {bounds[0].name}")
    below = f.emit(mask, f"icmp slt {type_} {numbers}, {bounds[1].name}")
    return f.emit(mask, f"and {mask} {above.name}, {below.name}")


def mask(lanes: list[int]) -> str:
    """The constant of a shuffle; -1 is a lane that nobody reads."""
    words = ", ".join(f"i32 {i}" if i >= 0 else "i32 poison" for i in lanes)
    return f"<{len(lanes)} x i32> <{words}>"


def pick(f: Function, picked: Value | None, part: Value, number: int, where: list[tuple[int, int]]) -> Value:
    """`picked`, which holds the lanes from parts before this one, with the lanes that this part fills.

    Lane l takes element i of part p, where[l] = (p, i); parts come by ascending number.
    """
    type_ = part.type
    base = 0 if picked is None else len(where)
    kept = [lane if picked and p < number else -1 for lane, (p, _) in enumerate(where)]
    lanes = [base + i if p == number else kept[lane] for lane, (p, i) in enumerate(where)]
    first, second = (part.name, "poison") if picked is None else (picked.name, part.name)
    return f.emit(type_, f"shufflevector {type_} {first}, {type_} {second}, {mask(lanes)}")


def deal(f: Function, parts: list[Value], lanes: int, residue: int) -> Value:
    """Elements residue, residue + step, residue + 2 * step, ... of the parts laid end to end."""
    step = len(parts)
    if step == 1:
        return parts[0]
    where = [divmod(lane * step + residue, lanes) for lane in range(lanes)]
    dealt = pick(f, None, parts[0], 0, where)
    for p in range(1, step):
        dealt = pick(f, dealt, parts[p], p, where)
    return dealt


def load_behind(
    f: Function, e: Element, pointer: Value, lanes: int, masks: Sequence[Value | None]
) -> list[Value]:  # fmt: skip
    """Vectors one behind the other, of each the lanes that its mask lets in, or all."""
    places = [f.at(pointer, number * lanes, e.storage) for number in range(len(masks))]
    return [
        load(f, e, place, lanes) if mask is None else load_masked(f, e, place, lanes, mask)
        for place, mask in zip(places, masks, strict=True)
    ]


def load_masked(
    f: Function, e: Element, pointer: Value, lanes: int, inside: Value, fill: Value | None = None
) -> Value:
    """The lanes that the mask has, those of `fill` or zero in the others, reading nothing else."""
    type_ = vector_type(lanes, e.storage)
    others = fill or Value("zeroinitializer", type_)
    raw = f.call(
        type_, f"llvm.masked.load.{_suffix(e, lanes)}.p0", pointer, f"i32 {e.storage_bytes}", inside, others
    )  # fmt: skip
    return widen(f, e, raw, lanes)


def keep_mask(f: Function, inside: Value, masks: Value, number: Operand, lanes: int) -> None:
    """Keep a mask, as a bit for each lane, as entry `number` of a table."""
    bits = f.emit(f"i{lanes}", f"bitcast {inside.type} {inside.name} to i{lanes}")
    f.store(bits, f.at(masks, number, f"i{lanes}"), lanes // 8)


def kept_mask(f: Function, masks: Value, number: Operand, lanes: int) -> Value:
    """Entry `number` of a table of masks."""
    bits = f.load(f"i{lanes}", f.at(masks, number, f"i{lanes}"), lanes // 8)
    type_ = vector_type(lanes, "i1")
    return f.emit(type_, f"bitcast i{lanes} {bits.name} to {type_}")


def load_first(f: Function, e: Element, pointer: Value, lanes: int, count: Operand) -> Value:
    """The first `count` of `lanes` elements, zero in the other lanes, reading nothing beyond them."""
    return load_masked(f, e, pointer, lanes, first_lanes(f, count, lanes))


def _suffix(e: Element, lanes: int) -> str:
    return f"v{lanes}{'i16' if e.storage == 'i16' else 'f' + str(e.storage_bytes * 8)}"


def store(f: Function, e: Element, value: Value, pointer: Value, lanes: int) -> None:
    """Round and store `lanes` elements."""
    f.store(narrow(f, e, value, lanes), pointer, e.storage_bytes)


def store_nontemporal(f: Function, e: Element, value: Value, pointer: Value, lanes: int) -> None:
    """Round and store `lanes` elements at an address that is a multiple of their size."""
    f.store(narrow(f, e, value, lanes), pointer, lanes * e.storage_bytes, nontemporal=True)


def store_first(f: Function, e: Element, value: Value, pointer: Value, lanes: int, count: Operand) -> None:
    """Round and store the first `count` lanes, writing nothing beyond them."""
    store_masked(f, e, value, pointer, lanes, first_lanes(f, count, lanes))


def store_masked(f: Function, e: Element, value: Value, pointer: Value, lanes: int, inside: Value) -> None:
    """Round and store the lanes that the mask has, writing nothing else."""
    raw = narrow(f, e, value, lanes)
    name = f"llvm.masked.store.{_suffix(e, lanes)}.p0"
    f.call("void", name, raw, pointer, f"i32 {e.storage_bytes}", inside)
