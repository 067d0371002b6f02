"""Packing weights: once a weight version, into the order in which the microkernel reads them.

    [group][chunk of outputs][phase group][tile][channel block][tap][channel of the block][row of the tile]

Rows that stand for no output are zeros, so that no tile has an edge. The block's `spoiled` becomes 1 when a
weight is infinite or NaN: it must not meet padding, which kernels read as zeros, for zero times it is NaN.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import WEIGHT_GROUP_FIELDS, WEIGHT_GROUP_INDEX, WEIGHT_INDEX
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.nonfinite import holds_nonfinite
from outstride.engine.codegen.short import indices, products_of
from outstride.engine.codegen.squares import Panel, pack_squares, pack_vectors
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import CHANNEL_BLOCK
from outstride.layer.shortening import ShortAxis


def weights_source(dtype: str, short: tuple[ShortAxis, ...] = ()) -> str:
    """The LLVM IR of the packing kernel of a dtype; for short axes a weight of each product is packed."""
    return module([_task(dtype, short), take_tasks(WEIGHT_INDEX)], f"outstride weights_{dtype}")


def _task(dtype: str, short: tuple[ShortAxis, ...]) -> Function:
    e = ELEMENTS[dtype]
    f = Function("task", [("block", PTR), ("scratch", PTR), ("number", I64)], internal=True)
    block, scratch, number = f.parameters
    a = read_arguments(f, block, WEIGHT_INDEX)
    group, chunk = f.div(number, a["chunks"]), f.rem(number, a["chunks"])
    first = f.mul(chunk, a["chunk_outputs"])
    source = f.at(a["w_at"], f.add(f.mul(group, a["w_stride_g"]), f.mul(first, a["w_stride_m"])), e.storage)
    start = f.add(f.mul(group, a["packed_stride_g"]), f.mul(chunk, a["packed_stride_chunk"]))
    target = f.at(a["packed_at"], start, e.accumulator)
    nothing = f.variable(e.storage, Value("0" if e.storage == "i16" else "0.0", e.storage))
    outputs = f.minimum(a["chunk_outputs"], f.sub(a["outputs"], first))
    with f.loop(0, a["phase_groups"]) as index:
        entry = f.at(a["phase_groups_at"], f.mul(index, len(WEIGHT_GROUP_FIELDS)), I64)
        g = read_arguments(f, entry, WEIGHT_GROUP_INDEX)
        position = f.variable(PTR, f.at(target, g["w_offset"], e.accumulator))
        rows = f.mul(outputs, g["members"])
        with f.loop(0, g["tiles"]) as tile:
            blocks = f.ceil_div(a["channels"], CHANNEL_BLOCK)
            with f.loop(0, blocks) as number_of_block:
                begin = f.mul(number_of_block, CHANNEL_BLOCK)
                count = f.minimum(CHANNEL_BLOCK, f.sub(a["channels"], begin))
                place = f.get(position, PTR)
                here = scratch if short else place
                first_row = f.mul(tile, a["width"])
                lanes = 64 // e.accumulator_bytes
                panel = Panel(f, e, lanes, a, g, source, here, first_row, rows, begin, count)
                alone = f.compare("eq", g["members"], 1)
                ways = [f.both(alone, f.compare("ne", a[way], 0)) for way in ("in_order", "side_by_side")]
                for way, pack in zip(ways, (pack_squares, pack_vectors), strict=True):
                    with f.when(way):
                        pack(panel)
                with f.when(f.both(*map(f.negate, ways))):
                    _pack_elements(panel, nothing)
                terms = f.mul(count, a["width"])
                if short:
                    _sum_products(panel, short, place, terms)
                else:
                    terms = f.mul(terms, g["taps"])
                f.set(position, f.at(place, terms, e.accumulator))
    packed = ELEMENTS["float64" if e.accumulator == "double" else "float32"]
    with f.when(holds_nonfinite(f, packed, target, a["packed_stride_chunk"])):  # it is in the cache
        f.store(Value("1", I64), f.at(block, WEIGHT_INDEX["spoiled"], I64), 8)
    return f


def _sum_products(p: Panel, short: tuple[ShortAxis, ...], target: Value, terms: Operand) -> None:
    """The weights of all products from those of the kernel's positions in a panel, each rounded once.

    Of the kernel's positions, and of products, `terms` weights lie together.
    """
    f, e = p.f, p.e
    wide, lanes = ELEMENTS["float64"], 8
    k = Vectors(f, wide, lanes)
    positions = indices([max(i for terms in axis.weights for i, _ in terms) + 1 for axis in short])
    products = indices([len(axis.products) for axis in short])
    stored = ELEMENTS["float32"]
    for whole in (True, False):
        begin = 0 if whole else f.mul(f.div(terms, lanes), lanes)
        end = f.mul(f.div(terms, lanes), lanes) if whole else terms
        with f.loop(begin, end, lanes) as i:
            count = lanes if whole else f.sub(terms, i)
            weights = {}
            for number, index in enumerate(positions):
                place = f.at(p.target, f.add(f.mul(number, terms), i), e.accumulator)
                narrow = elements.load_first(f, stored, place, lanes, count)
                weights[index] = f.emit(k.vector, f"fpext {narrow.type} {narrow.name} to {k.vector}")
            made = products_of(k, short, weights)
            for number, index in enumerate(products):
                place = f.at(target, f.add(f.mul(number, p.a["product_pitch"]), i), e.accumulator)
                type_ = vector_type(lanes, e.accumulator)
                rounded = f.emit(type_, f"fptrunc {k.vector} {made[index].name} to {type_}")
                elements.store_first(f, stored, rounded, place, lanes, count)


def _pack_elements(p: Panel, nothing: Value) -> None:
    """One weight at a time: any strides, any phases; rows of no output read a zero in `nothing`."""
    f, e, width = p.f, p.e, p.a["width"]
    with f.loop(0, p.g["taps"]) as tap, f.loop(0, width) as i:
        row = f.add(p.first_row, i)
        present = f.compare("slt", row, p.rows)
        line, pitch = _row(p, nothing, present, row, tap)
        column = f.at(p.target, f.add(f.mul(f.mul(tap, p.count), width), i), e.accumulator)
        with f.loop(0, p.count) as c:
            item = elements.load(f, e, f.at(line, f.mul(c, pitch), e.storage), 1)
            f.store(item, f.at(column, f.mul(c, width), e.accumulator), e.accumulator_bytes)


def _row(p: Panel, nothing: Value, present: Value, row: Operand, tap: Operand) -> tuple[Value, Operand]:
    """Where a row's weights begin at a tap and the first channel, and their pitch."""
    f, a, g = p.f, p.a, p.g
    member = f.rem(row, g["members"])
    offset = f.load_i64(g["taps_at"], f.add(f.mul(member, g["taps"]), tap))
    place = f.add(f.mul(f.div(row, g["members"]), a["w_stride_m"]), offset)
    place = f.add(place, f.mul(p.begin, a["w_stride_c"]))
    line = f.select(present, f.at(p.source, place, p.e.storage), nothing)
    return line, f.select(present, a["w_stride_c"], 0)
