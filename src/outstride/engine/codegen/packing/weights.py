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
from outstride.engine.codegen.packing.squares import Panel, pack_rows, pack_squares
from outstride.engine.codegen.short import indices, products_of
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import CHANNEL_BLOCK, InstructionSet
from outstride.layer.shortening import ShortAxis

#: Terms of which products are summed at once.
PRODUCT_LANES = 8


def weights_source(dtype: str, isa: InstructionSet, short: tuple[ShortAxis, ...] = ()) -> str:
    """The LLVM IR of the packing kernel of a dtype; for short axes a weight of each product is packed."""
    name = f"outstride weights_{dtype}_{isa.name}"
    return module([_task(dtype, isa, short), take_tasks(WEIGHT_INDEX)], name)


def _task(dtype: str, isa: InstructionSet, short: tuple[ShortAxis, ...]) -> Function:
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
    masks = isa.masks_items(e.storage_bytes)
    lanes, blocks = isa.lanes(e.accumulator_bytes), f.ceil_div(a["channels"], CHANNEL_BLOCK)
    squares = f.compare("ne", a["square_tiles"], 0)
    starts = f.at(scratch, a["starts_bytes_offset"], "i8")

    def panel(tile: Operand, number_of_block: Operand) -> Panel:
        begin = f.mul(number_of_block, CHANNEL_BLOCK)
        count = f.minimum(CHANNEL_BLOCK, f.sub(a["channels"], begin))
        # What products are summed from lies in scratch, block by block.
        before = 0 if short else f.add(f.mul(tile, a["channels"]), begin)
        first_row, to = f.mul(tile, a["width"]), scratch if short else target
        return Panel(f, e, lanes, a, source, to, first_row, begin, count, before, masks)

    with (
        f.loop(0, a["square_tiles"]) as tile,
        f.loop(0, blocks) as number_of_block,
    ):
        p = panel(tile, number_of_block)
        pack_squares(p, outputs, starts)
        if short:
            _sum_products(p, short, target)
    with f.loop(0, a["phase_groups"]) as index:
        entry = f.at(a["phase_groups_at"], f.mul(index, len(WEIGHT_GROUP_FIELDS)), I64)
        g = read_arguments(f, entry, WEIGHT_GROUP_INDEX)
        rows = f.mul(outputs, g["members"])
        packed = f.both(squares, f.compare("eq", g["members"], 1))
        at_one_distance = f.compare("ne", g["row_step"], 0)
        with f.loop(0, f.select(packed, 0, g["tiles"])) as tile, f.loop(0, blocks) as number_of_block:
            p = panel(tile, number_of_block)
            with f.when(at_one_distance):
                pack_rows(p, g, rows)
            with f.when(f.negate(at_one_distance)):
                _pack_elements(p, g, rows, nothing)
            if short:
                _sum_products(p, short, target)
    packed_type = ELEMENTS["float64" if e.accumulator == "double" else "float32"]
    with f.when(holds_nonfinite(f, packed_type, target, a["packed_stride_chunk"])):  # it is in the cache
        f.store(Value("1", I64), f.at(block, WEIGHT_INDEX["spoiled"], I64), 8)
    return f


def _sum_products(p: Panel, short: tuple[ShortAxis, ...], target: Value) -> None:
    """The weights of all products from those of the kernel's positions in a panel, each rounded once.

    Of the kernel's positions, and of products, those of a block of channels lie together.
    """
    f, e, a = p.f, p.e, p.a
    wide = ELEMENTS["float64"]
    terms = f.mul(p.count, a["width"])
    target = f.at(
        target, f.add(f.mul(p.first_row, a["channels"]), f.mul(p.begin, a["width"])), e.accumulator
    )  # fmt: skip
    positions = indices([max(i for terms in axis.weights for i, _ in terms) + 1 for axis in short])
    products = indices([len(axis.products) for axis in short])
    stored = ELEMENTS["float32"]
    # Whole vectors, then term by term: few are left, and masks would be a branch for each lane on some sets.
    whole = f.mul(f.div(terms, PRODUCT_LANES), PRODUCT_LANES)
    for lanes, begin, end in ((PRODUCT_LANES, 0, whole), (1, whole, terms)):
        k = Vectors(f, wide, lanes)
        with f.loop(begin, end, lanes) as i:
            weights = {}
            for number, index in enumerate(positions):
                place = f.at(p.target, f.add(f.mul(number, terms), i), e.accumulator)
                narrow = elements.load(f, stored, place, lanes)
                weights[index] = f.emit(k.vector, f"fpext {narrow.type} {narrow.name} to {k.vector}")
            made = products_of(k, short, weights)
            for number, index in enumerate(products):
                place = f.at(target, f.add(f.mul(number, a["product_pitch"]), i), e.accumulator)
                type_ = vector_type(lanes, e.accumulator)
                rounded = f.emit(type_, f"fptrunc {k.vector} {made[index].name} to {type_}")
                elements.store(f, stored, rounded, place, lanes)


def _pack_elements(p: Panel, g: dict[str, Value], rows: Operand, nothing: Value) -> None:
    """One weight at a time: any strides, any phases; rows of no output read a zero in `nothing`."""
    f, e, width = p.f, p.e, p.a["width"]
    with f.loop(0, g["taps"]) as tap, f.loop(0, width) as i:
        row = f.add(p.first_row, i)
        present = f.compare("slt", row, rows)
        line, pitch = _row(p, g, nothing, present, row, tap)
        column = f.at(p.target, f.add(p.term(g["w_offset"], g["taps"], tap, 0), i), e.accumulator)
        with f.loop(0, p.count) as c:
            item = elements.load(f, e, f.at(line, f.mul(c, pitch), e.storage), 1)
            f.store(item, f.at(column, f.mul(c, width), e.accumulator), e.accumulator_bytes)


def _row(
    p: Panel, g: dict[str, Value], nothing: Value, present: Value, row: Operand, tap: Operand
) -> tuple[Value, Operand]:
    """Where a row's weights begin at a tap and the first channel, and their pitch."""
    f, a = p.f, p.a
    member = f.rem(row, g["members"])
    offset = f.load_i64(g["taps_at"], f.add(f.mul(member, g["taps"]), tap))
    place = f.add(f.mul(f.div(row, g["members"]), a["w_stride_m"]), offset)
    place = f.add(place, f.mul(p.begin, a["w_stride_c"]))
    line = f.select(present, f.at(p.source, place, p.e.storage), nothing)
    return line, f.select(present, a["w_stride_c"], 0)
