"""Means of maps, summed in the order in which torch sums them (`planner/maps/means.py`).

Where the elements of a map are neighbours, a step takes a vector of as many as there are chains. Where
channels are, the lanes of a vector are channels, and each chain is a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.elements import ELEMENTS
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value, module, vector_type
from outstride.engine.codegen.tasks import read_arguments, take_tasks
from outstride.engine.planner.machine import InstructionSet
from outstride.engine.planner.maps.means import LEVELS, SumOrder

#: The argument block: x, of which `rows` or `channels` at a time are of `positions` elements; y has their
#: means. A task has `part` rows, whose levels have `level_steps`; or one of `pieces` of channels of an image.
MEAN_ARGUMENTS = (
    "x_at", "y_at", "pieces_at", "scratch_at", "scratch_bytes", "tasks",
    "rows", "part", "level_steps", "positions", "channels", "pieces",
)  # fmt: skip
MEAN_INDEX = {name: i for i, name in enumerate(MEAN_ARGUMENTS)}
#: What the table of pieces says of each; `order` is the number of one of the kernel's orders.
PIECE_FIELDS = ("first", "count", "order", "level_steps")

#: Chains of vectors that are added to in turn, as each add waits for the one before it.
_CHAINS = 4

#: Reads what a step adds to each chain.
Read = Callable[[Operand], Sequence[Value]]


def mean_rows_source(dtype: str, isa: InstructionSet, order: SumOrder) -> str:
    """The LLVM IR of the kernel for maps whose elements are neighbours."""
    k, a, task = _begun(dtype, isa)
    f, e = k.f, k.e
    divisor = _number(k, a["positions"])
    first = f.mul(task, a["part"])
    with f.loop(first, f.minimum(f.add(first, a["part"]), a["rows"])) as row:
        source = f.at(a["x_at"], f.mul(row, a["positions"]), e.storage)
        total = _row_sum(k, source, a["positions"], a["level_steps"], order)
        mean = f.emit(total.type, f"fdiv {total.type} {total.name}, {divisor.name}")
        elements.store(f, e, mean, f.at(a["y_at"], row, e.storage), 1)
    return module([f, take_tasks(MEAN_INDEX)], f"outstride mean_rows_{dtype}_{order.fold}_{order.width}")


def mean_channels_source(dtype: str, isa: InstructionSet, orders: Sequence[SumOrder]) -> str:
    """The LLVM IR of the kernel for maps whose channels are neighbours."""
    k, a, task = _begun(dtype, isa)
    f, e, lanes = k.f, k.e, k.lanes
    image, number = f.div(task, a["pieces"]), f.rem(task, a["pieces"])
    piece = f.at(a["pieces_at"], f.mul(number, len(PIECE_FIELDS)), I64)
    first, count, which, level_steps = (f.load_i64(piece, i) for i in range(len(PIECE_FIELDS)))
    pixels = f.mul(image, a["positions"])
    source = f.at(a["x_at"], f.add(f.mul(pixels, a["channels"]), first), e.storage)
    target = f.at(a["y_at"], f.add(f.mul(image, a["channels"]), first), e.storage)
    divisor = elements.broadcast(f, _number(k, a["positions"]), lanes)
    whole = f.mul(f.div(count, lanes), lanes)
    rest = f.sub(count, whole)

    def sums(order: SumOrder, channels: Sequence[Operand], inside: Value | None) -> None:
        def load(at: Value) -> Value:
            if inside is None:
                return elements.load(f, e, at, lanes)
            return elements.load_masked(f, e, at, lanes, inside)

        def read(position: Operand) -> list[Value]:
            pixel = f.mul(position, a["channels"])
            return [load(f.at(source, f.add(pixel, channel), e.storage)) for channel in channels]

        totals = _column_sums(k, read, len(channels), a["positions"], level_steps, order)
        for channel, total in zip(channels, totals, strict=True):
            mean = f.emit(k.vector, f"fdiv {k.vector} {total.name}, {divisor.name}")
            there = f.at(target, channel, e.storage)
            if inside is None:
                elements.store(f, e, mean, there, lanes)
            else:
                elements.store_masked(f, e, mean, there, lanes, inside)

    for case in f.cases(which, len(orders)):
        several = max(1, _CHAINS // orders[case].width)
        many = f.mul(f.div(count, several * lanes), several * lanes)
        with f.loop(0, many, several * lanes) as channel:
            sums(orders[case], [f.add(channel, number * lanes) for number in range(several)], None)
        with f.loop(many, whole, lanes) as channel:
            sums(orders[case], [channel], None)
        with f.when(f.compare("sgt", rest, 0)):
            sums(orders[case], [whole], elements.first_lanes(f, rest, lanes))
    names = "".join(f"_{order.fold}_{order.width}" for order in orders)
    return module([f, take_tasks(MEAN_INDEX)], f"outstride mean_channels_{dtype}{names}")


def _begun(dtype: str, isa: InstructionSet) -> tuple[Vectors, dict[str, Value], Value]:
    f = Function("task", [("block", PTR), ("scratch", PTR), ("task", I64)], internal=True)
    block, _, task = f.parameters
    e = ELEMENTS[dtype]
    return Vectors(f, e, isa.lanes(e.accumulator_bytes)), read_arguments(f, block, MEAN_INDEX), task


def _row_sum(k: Vectors, source: Value, positions: Operand, level_steps: Operand, order: SumOrder) -> Value:
    """The sum of neighbours: a vector has an element for each chain."""
    f, e, width = k.f, k.e, order.width
    steps = f.div(positions, order.chains)
    (chains,) = _cascade(
        k, vector_type(order.chains, e.accumulator), 1, steps, level_steps,
        lambda step: [elements.load(f, e, f.at(source, f.mul(step, order.chains), e.storage), order.chains)],
    )  # fmt: skip
    folds = [_part(k, chains, fold * width, width) for fold in range(order.fold)]
    total = f.variable(folds[0].type, folds[0])
    f.set(total, folds[0])
    whole = f.mul(f.div(positions, width), width)
    with f.loop(f.mul(steps, order.chains), whole, width) as place:
        value = elements.load(f, e, f.at(source, place, e.storage), width)
        f.set(total, elements.plus(f, f.get(total, value.type), value))
    lanes = f.get(total, folds[0].type)
    for fold in folds[1:]:
        lanes = elements.plus(f, lanes, fold)
    if width == 1:
        return lanes
    single = f.variable(e.accumulator)
    f.set(single, elements.zero(e, 1))
    with f.loop(whole, positions) as place:
        value = elements.load(f, e, f.at(source, place, e.storage), 1)
        f.set(single, elements.plus(f, f.get(single, e.accumulator), value))
    last = f.get(single, e.accumulator)
    for lane in range(width):
        value = f.emit(e.accumulator, f"extractelement {lanes.type} {lanes.name}, i32 {lane}")
        last = elements.plus(f, last, value)
    return last


def _column_sums(
    k: Vectors, read: Read, several: int, positions: Operand, level_steps: Operand, order: SumOrder
) -> list[Value]:  # fmt: skip
    """The sums of so many vectors of channels, whose elements are read by position."""
    f, width = k.f, order.width
    steps = f.div(positions, order.chains)
    zero = elements.zero(k.e, k.lanes)

    def cleared(count: int) -> list[Value]:
        made = [f.variable(k.vector) for _ in range(count)]
        for each in made:
            f.set(each, zero)
        return made

    def add(totals: Sequence[Value], values: Sequence[Value]) -> None:
        for total, value in zip(totals, values, strict=True):
            f.set(total, elements.plus(f, f.get(total, k.vector), value))

    def vector(first: Operand) -> list[Value]:
        return [value for lane in range(width) for value in read(f.add(first, lane))]

    totals = cleared(width * several)
    whole = f.mul(f.div(positions, width), width)
    with f.loop(0, order.fold) as fold:
        begin = f.mul(fold, width)

        def step_of(step: Operand, begin: Operand = begin) -> list[Value]:
            return vector(f.add(f.mul(step, order.chains), begin))

        add(totals, _cascade(k, k.vector, width * several, steps, level_steps, step_of))
        with (
            f.when(f.compare("eq", fold, 0)),
            f.loop(f.mul(steps, order.chains), whole, width) as place,
        ):
            add(totals, vector(place))
    if width == 1:
        return [f.get(total, k.vector) for total in totals]
    singles = cleared(several)
    with f.loop(whole, positions) as place:
        add(singles, read(place))
    for lane in range(width):
        add(singles, [f.get(total, k.vector) for total in totals[lane * several :][:several]])
    return [f.get(single, k.vector) for single in singles]


def _cascade(
    k: Vectors, type_: str, count: int, steps: Operand, level_steps: Operand, read: Read
) -> list[Value]:  # fmt: skip
    """So many chains of vectors after all steps. A chain begins with +0, so it never is -0."""
    f = k.f
    levels = [[f.variable(type_) for _ in range(count)] for _ in range(LEVELS)]

    def clear(level: int) -> None:
        for total in levels[level]:
            f.set(total, Value("zeroinitializer" if type_.startswith("<") else "0.0", type_))

    def raise_to(level: int) -> None:
        for low, high in zip(levels[level - 1], levels[level], strict=True):
            f.set(high, elements.plus(f, f.get(high, type_), f.get(low, type_)))
        clear(level - 1)

    def climb(level: int, done: Operand, every: Operand) -> None:
        """A level is full when so many steps are done."""
        raise_to(level)
        if level + 1 < LEVELS:
            with f.when(f.compare("eq", f.rem(done, every), 0)):
                climb(level + 1, done, f.mul(every, level_steps))

    def walk(begin: Operand, end: Operand) -> None:
        with f.loop(begin, end) as step:
            for total, value in zip(levels[0], read(step), strict=True):
                f.set(total, elements.plus(f, f.get(total, type_), value))

    clear(0)
    bulk = f.mul(f.div(steps, level_steps), level_steps)
    high = f.compare("sgt", bulk, 0)
    with f.when(high):
        for level in range(1, LEVELS):
            clear(level)
        with f.loop(0, bulk, level_steps) as begin:
            end = f.add(begin, level_steps)
            walk(begin, end)
            climb(1, end, f.mul(level_steps, level_steps))
    walk(bulk, steps)
    with f.when(high):
        for level in range(1, LEVELS):
            for low, value in zip(levels[0], levels[level], strict=True):
                f.set(low, elements.plus(f, f.get(low, type_), f.get(value, type_)))
    return [f.get(total, type_) for total in levels[0]]


def _part(k: Vectors, value: Value, first: int, count: int) -> Value:
    """Neighbouring lanes of a vector."""
    type_ = vector_type(count, k.e.accumulator)
    if count == 1:
        return k.f.emit(type_, f"extractelement {value.type} {value.name}, i32 {first}")
    lanes = elements.mask(list(range(first, first + count)))
    return k.f.emit(type_, f"shufflevector {value.type} {value.name}, {value.type} poison, {lanes}")


def _number(k: Vectors, count: Operand) -> Value:
    return k.f.emit(k.e.accumulator, f"sitofp i64 {k.f.ref(count)} to {k.e.accumulator}")
