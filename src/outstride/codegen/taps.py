"""Runs of taps: those that some cell of a box can use; one that reads only padding for all of it is left out.

A term of padding adds zero times a weight, which changes no finite sum (and a final + 0 hides the sign
of a zero), so leaving it out is allowed to depend on the box. Weights that are not finite forbid it:
the caller then clears `skips`.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.codegen.arguments import GROUP_FIELDS, GROUP_INDEX
from outstride.codegen.box import Box
from outstride.codegen.ir import I64, PTR, Function, Operand, Value


@dataclass(frozen=True)
class Taps:
    """The room in scratch where the runs of every phase group are kept: a count, then pairs [first, last)."""

    room: Value

    def of(self, f: Function, a: dict[str, Value], group: dict[str, Value]) -> tuple[Value, Value]:
        """The runs of a group and how many there are: found for this box, or all taps in one."""
        found = f.at(self.room, group["runs_offset"], I64)
        skips = f.compare("ne", a["skips"], 0)
        runs = f.select(skips, found, group["runs_at"])
        return f.at(runs, 1, I64), f.load_i64(runs, 0)

    def find(self, f: Function, a: dict[str, Value], box: Box) -> None:
        """Emit the search for the runs of every group, where the plan asks for it."""
        with f.when(f.compare("ne", a["skips"], 0)), f.loop(0, a["phase_groups"]) as index:
            entry = f.at(a["phase_groups_at"], f.mul(index, len(GROUP_FIELDS)), I64)
            offsets = f.load(PTR, f.at(entry, GROUP_INDEX["tap_offsets_at"], I64), 8)
            room = f.at(self.room, f.load_i64(entry, GROUP_INDEX["runs_offset"]), I64)
            f.store(Value("0", I64), room, 8)
            before = f.variable(I64, Value("0", I64))
            with f.loop(0, f.load_i64(entry, GROUP_INDEX["taps"])) as tap:
                useful = _useful(f, a, box, offsets, tap)
                _extend(f, room, tap, useful, before)
                f.set(before, useful)


def _useful(f: Function, a: dict[str, Value], box: Box, offsets: Value, tap: Operand) -> Value:
    """1 if the tap reads the input somewhere in the box, else 0."""
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
