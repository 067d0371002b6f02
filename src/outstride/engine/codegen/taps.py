"""Runs of taps: those that some cell can use; one that reads only padding for all of a box is left out.

Where the rows of a box differ in the taps that they can use, tiles at its border look again for their own.

A term of padding adds zero times a weight, which changes no finite sum (and a final + 0 hides the sign
of a zero), so leaving it out is allowed to depend on the box. Weights that are not finite never meet
padding: the caller sees to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen.arguments import GROUP_FIELDS, GROUP_INDEX
from outstride.engine.codegen.box import BOX, Box, Region
from outstride.engine.codegen.context import Context, Kernel
from outstride.engine.codegen.ir import I64, PTR, Function, Operand, Value
from outstride.engine.planner.dataflow import ROW_SKIPS


@dataclass(frozen=True)
class Taps:
    """Rooms in scratch for runs, a count, then pairs [first, last): those of every group, and of a tile."""

    room: Value
    tile_room: Value

    @classmethod
    def at(cls, k: Context, scratch: Value) -> Taps:
        """Where the plan has put them."""
        room = k.f.at(scratch, k.a["runs_bytes_offset"], "i8")
        return cls(room, k.f.at(room, k.a["tile_runs_offset"], I64))

    def of(self, k: Context, group: dict[str, Value], region: Operand = 0) -> tuple[Value, Value]:
        """The runs of a group and how many there are: found for a region, or all taps in one."""
        f = k.f
        found = self._room_of(k, region, group["runs_offset"])
        skips = f.compare("ne", k.a["skips"], 0)
        runs = f.select(skips, found, group["runs_at"])
        return f.at(runs, 1, I64), f.load_i64(runs, 0)

    def _room_of(self, k: Context, region: Operand, offset: Value) -> Value:
        """Where the runs of a region lie that belong to the group with this offset."""
        return k.f.at(self.room, k.f.add(k.f.mul(region, k.a["region_runs"]), offset), I64)

    def find(self, k: Context, box: Box) -> None:
        """Emit the search for the runs of every region and group, where the plan asks for it."""
        f, a = k.f, k.a
        with (
            f.when(f.compare("ne", a["skips"], 0)),
            f.loop(0, a["regions"]) as number,
            f.loop(0, a["phase_groups"]) as index,
        ):
            region = Region.at(f, a, number).of(f, box)
            group = f.at(a["phase_groups_at"], f.mul(index, len(GROUP_FIELDS)), I64)
            room = self._room_of(k, number, f.load_i64(group, GROUP_INDEX["runs_offset"]))
            f.run("search", k.block, group, room, *region.numbers)

    def searched(self, k: Context, box: Box) -> Value:
        """Whether tiles look for runs of their own: the plan says so, and their box reaches the border."""
        f = k.f
        ranges = zip("dh", box.start[1:3], box.count[1:3], strict=True)
        deep, high = (_inside(k, x, start, f.sub(f.add(start, count), 1)) for x, start, count in ranges)
        return f.both(f.compare("eq", k.a["skips"], ROW_SKIPS), f.negate(f.both(deep, high)))


def tile_runs(kernel: Kernel) -> Function:
    """`tile_runs(block, group, room, region, box, first, last)`: a tile's own runs, or a count of -1.

    Only tiles within one plane that read across the input's border have runs of their own.
    """
    k = kernel.function(
        "tile_runs", ("group", PTR), ("room", PTR), ("region", PTR), *BOX, ("first", I64), ("last", I64),
        rare=True,
    )  # fmt: skip
    f = k.f
    group, room, region, *numbers, first, last = k.parameters
    box = Box.of(numbers)
    _, depth_pitch, row_pitch = Region(region).pitches(f)
    f.store(Value("-1", I64), room, 8)
    plane, last_plane = (f.minimum(f.div(q, depth_pitch), f.sub(box.count[1], 1)) for q in (first, last))
    before = f.mul(plane, depth_pitch)
    top, bottom = (
        f.minimum(f.div(f.sub(q, before), row_pitch), f.sub(box.count[2], 1)) for q in (first, last)
    )
    depth, height, low_row = (f.add(box.start[i], q) for i, q in ((1, plane), (2, top), (2, bottom)))
    inside = f.both(_inside(k, "d", depth, depth), _inside(k, "h", height, low_row))
    with f.when(f.both(f.compare("eq", plane, last_plane), f.negate(inside))):
        start = (box.start[0], depth, height, box.start[3])
        count = (box.count[0], 1, f.add(f.sub(bottom, top), 1), box.count[3])
        f.run("search", k.block, group, room, *Box(start, count).numbers)
    return f


def search(kernel: Kernel) -> Function:
    """`search(block, group, room, box)`: the runs of a group that the cells of a box can use."""
    k = kernel.function("search", ("group", PTR), ("room", PTR), *BOX, rare=True)
    f = k.f
    group, room, *numbers = k.parameters
    offsets = f.load(PTR, f.at(group, GROUP_INDEX["tap_offsets_at"], I64), 8)
    f.store(Value("0", I64), room, 8)
    before = f.variable(I64, Value("0", I64))
    with f.loop(0, f.load_i64(group, GROUP_INDEX["taps"])) as tap:
        useful = _useful(k, Box.of(numbers), offsets, tap)
        _extend(f, room, tap, useful, before)
        f.set(before, useful)
    return f


def _inside(k: Context, axis: str, first: Operand, last: Operand) -> Value:
    """Whether all taps of the cells from first to last read the input: bounds, in whole steps."""
    f, a = k.f, k.a
    step = a[f"in_step_{axis}"]
    low = f.mul(f.add(first, a[f"low_{axis}"]), step)
    reach = f.add(f.add(a[f"low_{axis}"], a[f"reach_{axis}"]), 1)
    high = f.mul(f.add(last, reach), step)
    return f.both(f.compare("sge", low, 0), f.compare("sle", high, a[f"in_size_{axis}"]))


def _useful(k: Context, box: Box, offsets: Value, tap: Operand) -> Value:
    """1 if the tap reads the input somewhere in the box, else 0."""
    f, a = k.f, k.a
    result = Value("1", I64)
    for i, axis in enumerate("dhw"):
        offset = f.load_i32(offsets, f.add(f.mul(tap, 3), i))
        step = a[f"in_step_{axis}"]
        first = f.add(f.mul(box.start[i + 1], step), offset)
        last = f.add(first, f.mul(f.sub(box.count[i + 1], 1), step))
        begins = f.compare("slt", first, a[f"in_size_{axis}"])
        ends = f.compare("sge", last, 0)
        word = f.word(f.both(begins, ends))
        result = f.emit(I64, f"and i64 {result.name}, {word.name}")
    return result


def _extend(f: Function, room: Value, tap: Value, useful: Value, before: Value) -> None:
    """Begin a run at a useful tap behind a useless one; let the last run end behind every useful tap."""
    starts = f.emit(I64, f"xor i64 {f.get(before, I64).name}, 1")
    starts = f.emit(I64, f"and i64 {starts.name}, {useful.name}")
    count = f.load_i64(room, 0)
    with f.when(f.compare("ne", starts, 0)):
        f.store(tap, f.at(room, f.add(f.mul(count, 2), 1), I64), 8)
        f.store(f.i64(f.add(count, 1)), room, 8)
    with f.when(f.compare("ne", useful, 0)):
        f.store(f.i64(f.add(tap, 1)), f.at(room, f.mul(f.load_i64(room, 0), 2), I64), 8)
