"""The weight gradient where a group has few outputs: dot products along the width.

With fewer outputs than lanes the gradients of neighbouring outputs fill no vector, so here the vectors run
along the width of both operands and every (output, channel, tap) keeps a vector of sums until the end:

    for c in channels:
        pack channel c of every box's surroundings
        for o in outputs, some taps at a time:
            for pixels of the box, a vector at a time:  acc[t] = fma(x[c, pixels + t], y[o, pixels], acc[t])

The vector is 64 bytes on every machine and is folded in halves in the end, so the order of summation is one.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.arguments import DOT_INDEX
from outstride.engine.codegen.box import BOX, Box, decode_box
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.elements import Element
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.packing.strip import pack_functions
from outstride.engine.codegen.registers import fused, zero_sums
from outstride.engine.codegen.tasks import take_tasks
from outstride.engine.planner.machine import DOT_BYTES
from outstride.engine.planner.recipe import Recipe


def dots_source(recipe: Recipe, taps_at_once: int) -> str:
    """The LLVM IR of the kernel that sums `taps_at_once` taps in registers."""
    kernel = Kernel(recipe, DOT_INDEX)
    functions = [
        *pack_functions(kernel), _line(kernel, taps_at_once), _task(kernel, taps_at_once),
        take_tasks(DOT_INDEX),
    ]  # fmt: skip
    return module(functions, f"outstride dots_{recipe.name}")


def _lanes(kernel: Kernel) -> int:
    """Lanes of the vectors that are summed in, on every machine."""
    return DOT_BYTES // kernel.e.accumulator_bytes


def _task(kernel: Kernel, taps_at_once: int) -> Function:
    """One channel of one group: all its outputs and taps over all boxes."""
    k = kernel.function("task", ("scratch", PTR), ("number", I64), lanes=_lanes(kernel))
    f, e, a, lanes, block = k.f, k.e, k.a, k.lanes, k.block
    strip, number = k.parameters
    sums = f.at(strip, a["sums_bytes_offset"], "i8")
    group, channel = f.div(number, a["channels"]), f.rem(number, a["channels"])
    place = f.add(f.mul(group, a["x_stride_g"]), f.mul(channel, a["x_stride_c"]))
    x = f.at(a["x_at"], place, e.storage)
    y = f.at(a["y_at"], f.mul(group, a["y_stride_g"]), e.storage)
    cells = f.mul(a["outputs"], a["taps"])
    zero = Value("zeroinitializer", vector_type(lanes, e.accumulator))
    with f.loop(0, cells) as i:
        f.store(zero, f.at(sums, f.mul(i, lanes), e.accumulator), e.accumulator_bytes)
    with f.loop(0, a["boxes"]) as index:
        box, _ = decode_box(f, a, index)
        source = f.at(x, f.mul(box.start[0], a["x_stride_n"]), e.storage)
        f.run("pack", block, source, strip, *box.numbers, 1)
        with f.loop(0, a["outputs"]) as o:
            line = f.at(y, f.mul(o, a["y_stride_m"]), e.storage)
            with f.loop(0, a["taps"], taps_at_once) as tap:
                own = f.at(sums, f.mul(f.add(f.mul(o, a["taps"]), tap), lanes), e.accumulator)
                f.run("line", block, strip, line, own, tap, *box.numbers)
    with f.loop(0, a["outputs"]) as o, f.loop(0, a["taps"]) as tap:
        own = f.at(sums, f.mul(f.add(f.mul(o, a["taps"]), tap), lanes), e.accumulator)
        total = fold(f, e, f.load(zero.type, own, e.accumulator_bytes), lanes)
        row = f.add(f.mul(f.add(f.mul(group, a["outputs"]), o), a["channels"]), channel)
        target = f.at(a["w_at"], f.add(f.mul(row, a["taps"]), tap), e.storage)
        elements.store(f, e, total, target, 1)
    return f


def fold(f: Function, e: Element, value: Value, lanes: int) -> Value:
    """The sum of a vector's lanes, upper half on lower half until one is left."""
    while lanes > 1:
        lanes //= 2
        half = vector_type(lanes, e.accumulator)
        type_ = value.type
        if lanes == 1:
            low, high = (f.emit(half, f"extractelement {type_} {value.name}, i32 {i}") for i in range(2))
        else:
            low, high = (
                f.emit(half, f"shufflevector {type_} {value.name}, {type_} poison, {elements.mask(part)}")
                for part in (list(range(lanes)), list(range(lanes, 2 * lanes)))
            )
        value = elements.plus(f, low, high)
    return value


def _line(kernel: Kernel, taps_at_once: int) -> Function:
    """`line(block, strip, y, sums, tap, box)`: some taps of one output; those beyond the last repeat it."""
    k = kernel.function(
        "line", ("strip", PTR), ("y", PTR), ("sums", PTR), ("tap", I64),
        *((f"b{i}", I64) for i in range(len(BOX))), lanes=_lanes(kernel),
    )  # fmt: skip
    f, e, a, lanes, vector = k.f, k.e, k.a, k.lanes, k.vector
    strip, y, sums, tap, *numbers = k.parameters
    box = Box.of(numbers)
    last = f.sub(a["taps"], 1)
    taps = [f.minimum(f.add(tap, i), last) for i in range(taps_at_once)]
    places = [f.at(strip, f.load_i64(a["taps_at"], t), e.accumulator) for t in taps]
    owns = [f.at(sums, f.mul(f.sub(t, tap), lanes), e.accumulator) for t in taps]
    [row] = zero_sums(k, 1, taps_at_once)
    for accumulator, own in zip(row, owns, strict=True):
        f.set(accumulator, f.load(vector, own, e.accumulator_bytes))
    with f.loop(0, box.count[0]) as n, f.loop(0, box.count[1]) as d, f.loop(0, box.count[2]) as h:
        start = f.add(f.mul(n, a["image_pitch"]), f.add(f.mul(d, a["depth_pitch"]), f.mul(h, a["strip_w"])))
        source = _y_row(k, y, box, (n, d, h))
        whole = f.mul(f.div(box.count[3], lanes), lanes)

        def add(w: Operand, count: Operand | None, start: Operand = start, source: Value = source) -> None:
            gradient = _load_y(k, source, w, count)
            for accumulator, place in zip(row, places, strict=True):
                loaded = f.load(vector, f.at(place, f.add(start, w), e.accumulator), e.accumulator_bytes)
                if count is not None:
                    inside = elements.first_lanes(f, count, lanes)
                    zero = f"{vector} zeroinitializer"
                    condition = vector_type(lanes, "i1")
                    loaded = f.emit(
                        vector, f"select {condition} {inside.name}, {vector} {loaded.name}, {zero}"
                    )
                f.set(accumulator, fused(k, loaded, gradient, f.get(accumulator, vector)))

        with f.loop(0, whole, lanes) as w:
            add(w, None)
        with f.when(f.compare("slt", whole, box.count[3])):
            add(whole, f.sub(box.count[3], whole))
    for accumulator, own in zip(row, owns, strict=True):
        f.store(f.get(accumulator, vector), own, e.accumulator_bytes)
    return f


def _y_row(k: Context, y: Value, box: Box, row: tuple[Operand, Operand, Operand]) -> Value:
    """Where a row of a box begins in the output gradient, by its image, depth and height in the box."""
    f, a = k.f, k.a
    n, d, h = row
    place = f.mul(f.add(box.start[0], n), a["y_stride_n"])
    for axis, i in (("d", f.add(box.start[1], d)), ("h", f.add(box.start[2], h)), ("w", box.start[3])):
        place = f.add(place, f.mul(i, a[f"y_stride_{axis}"]))
    return f.at(y, place, k.e.storage)


def _load_y(k: Context, row: Value, w: Operand, count: Operand | None) -> Value:
    """A vector of output gradients, of which `count` lanes exist (None: all)."""
    f, e, lanes = k.f, k.e, k.lanes
    if k.recipe.out_unit == "width":
        pointer = f.at(row, w, e.storage)
        if count is None:
            return elements.load(f, e, pointer, lanes)
        return elements.load_first(f, e, pointer, lanes, count)
    buffer = f.variable(k.vector)
    f.set(buffer, Value("zeroinitializer", k.vector))
    with f.loop(0, lanes if count is None else count) as i:
        item = elements.load(f, e, f.at(row, f.mul(f.add(w, i), k.a["y_stride_w"]), e.storage), 1)
        f.store(item, f.at(buffer, i, e.accumulator), e.accumulator_bytes)
    return f.get(buffer, k.vector)
