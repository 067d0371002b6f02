"""The epilogue: what is done to finished sums, on every way to the output, before they are stored.

This is the only module that knows of what an epilogue consists (`planner.epilogue.Epilogue`). The others
hand on of which group their outputs are, and apply it to sums over all channels and taps, which they then
give to a store of `elements`: each rounds, to the type of the output. The arithmetic of its steps is in
`steps`.

Operands of steps come by the table `operands_at`, in their order: the address of a vector over all output
channels, and of a tensor, which lies in memory as the output does, how many bytes it is away from the output.
An element of it is read where that element of the output is then written, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Context, Vectors
from outstride.engine.codegen.ir import I64, PTR, Operand, Value, vector_type
from outstride.engine.codegen.steps import operations as steps
from outstride.engine.planner.steps import IN_VECTORS, Step

#: The parameter of functions that are told of which group their outputs are: its first output channel.
PARAMETER = ("first_channel", I64)
#: The operands of a tile that applies none.
NOTHING = Value("null", PTR)


class Place(NamedTuple):
    """Where a value belongs in the output, and the lanes of it that exist; None: all."""

    pointer: Value
    inside: Value | None = None

    @classmethod
    def first(cls, k: Vectors, pointer: Value, count: Operand) -> Place:
        """The place of a vector of which the first `count` lanes exist."""
        return cls(pointer, elements.first_lanes(k.f, count, k.lanes))


@dataclass(frozen=True)
class Loaded:
    """The operands of one output channel, or of a vector of them lane by lane, in registers."""

    bias: Value
    steps: tuple[Step, ...] = ()
    #: What each step takes: what it made of its vectors, or how far its tensor is from the output.
    own: tuple[tuple[Value, ...], ...] = ()

    def broadcast(self, k: Vectors) -> Loaded:
        """Those of one channel in every lane of a vector."""
        own = tuple(
            values if _has_tensor(step) else tuple(elements.broadcast(k.f, v, k.lanes) for v in values)
            for step, values in zip(self.steps, self.own, strict=True)
        )
        return Loaded(elements.broadcast(k.f, self.bias, k.lanes), self.steps, own)

    def sum(self, k: Vectors, total: Value) -> Value:
        """Finished sums with their bias, in the type that they were summed in; rounded where steps follow."""
        total = elements.plus(k.f, total, self.bias)
        return steps.rounded(k, total) if self.steps else total

    def finish(self, k: Vectors, value: Value, place: Place) -> Value:
        """The steps on sums with their bias, as they are stored."""
        own = [
            [_element(k, distance, place) for distance in values] if _has_tensor(step) else values
            for step, values in zip(self.steps, self.own, strict=True)
        ]
        return steps.apply(k, self.steps, value, own)

    def apply(self, k: Vectors, total: Value, place: Place) -> Value:
        """The result of finished sums that belong in a place of the output, in the type of sums."""
        return self.finish(k, self.sum(k, total), place)


def _has_tensor(step: Step) -> bool:
    return "tensor" in step.operands


def _element(k: Vectors, distance: Value, place: Place) -> Value:
    """The elements of a tensor that belong to a place of the output; those that do not exist are not read."""
    there = k.f.at(place.pointer, distance, "i8")
    if place.inside is None:
        return elements.load(k.f, k.e, there, k.lanes)
    return elements.load_masked(k.f, k.e, there, k.lanes, place.inside)


def first_channel(k: Context, group: Operand) -> Value:
    """The value of `PARAMETER` for a group."""
    return k.f.i64(k.f.mul(group, k.a["outputs"]))


def load(k: Context, of_group: Operand, channel: Operand, count: Operand, lanes: int) -> Loaded:
    """The operands of `count` channels of a group, a lane each; `of_group` is its first channel.

    A bias that is left out is +0, which makes +0 of a sum of -0 too: no skipped zero term shows.
    """
    f, e, sequence = k.f, k.e, k.recipe.epilogue.steps
    first = f.add(of_group, channel)
    of_lanes = replace(k, lanes=lanes)

    def vector(base: Value) -> Value:
        place = f.at(base, first, e.storage)
        return elements.load_first(f, e, place, lanes, count) if lanes > 1 else elements.load(f, e, place, 1)

    bias = elements.zero(e, lanes)
    if k.recipe.epilogue.bias:
        room = f.variable(bias.type, bias)
        f.set(room, bias)
        with f.when(_present(k, k.a["bias_at"])):
            f.set(room, vector(k.a["bias_at"]))
        bias = f.get(room, bias.type)
    own = []
    number = 0
    for step in sequence:
        read: list[Value | None] = []
        for form in step.operands:
            if form is None:
                read.append(None)
                continue
            entry = f.at(k.a["operands_at"], number, I64)
            number += 1
            read.append(f.load(I64, entry, 8) if form == "tensor" else vector(f.load(PTR, entry, 8)))
        tensors = tuple(distance for distance in read if distance is not None)
        own.append(tensors if _has_tensor(step) else steps.prepare(of_lanes, step, read))
    return Loaded(bias, sequence, tuple(own))


def is_long(k: Context) -> bool:
    """Whether its code is so long that it is written once, in a loop, and not for each vector of a tile."""
    return any(step.kind in IN_VECTORS for step in k.recipe.epilogue.steps)


def staged_count(k: Context) -> int:
    """Values that are staged of a channel."""
    return 1 + sum(steps.prepared_count(step) for step in k.recipe.epilogue.steps)


def stage(
    k: Context, of_group: Operand, first: Operand, count: Operand, room: Value, together: int = 1
) -> None:  # fmt: skip
    """Write what `count` channels from `first` on take to a room, `together` channels at a time.

    It is for `apply_to_rows`, `apply_to_lanes` or `staged`.
    """
    f, e = k.f, k.e
    with f.loop(0, count, together) as i:
        own = load(k, of_group, f.add(first, i), f.minimum(together, f.sub(count, i)), together)
        vectors = (v for step, v in zip(own.steps, own.own, strict=True) if not _has_tensor(step))
        at = f.mul(i, staged_count(k))
        for number, value in enumerate((own.bias, *chain.from_iterable(vectors))):
            place = f.at(room, f.add(at, number * together), e.accumulator)
            f.store(value, place, e.accumulator_bytes)


def staged(k: Context, room: Value, number: Operand, together: int = 1) -> Loaded:
    """What the channel of a number takes, or so many from it on, from the room that it was written to."""
    f, e = k.f, k.e
    at = f.mul(number, staged_count(k))
    place = 0
    form = vector_type(together, e.accumulator)

    def following() -> Value:
        nonlocal place
        place += together
        return f.load(form, f.at(room, f.add(at, place - together), e.accumulator), e.accumulator_bytes)

    bias = following()
    own: list[tuple[Value, ...]] = []
    entry = 0
    for step in k.recipe.epilogue.steps:
        if _has_tensor(step):
            own.append((f.load_i64(k.a["operands_at"], entry),))
        else:
            own.append(tuple(following() for _ in range(steps.prepared_count(step))))
        entry += len(step.given)
    return Loaded(bias, k.recipe.epilogue.steps, tuple(own))


def reads_tensors(k: Context) -> bool:
    """Whether steps read tensors of the output's shape."""
    return "tensor" in k.recipe.epilogue.forms


def prefetch_operands(k: Context, place: Value) -> None:
    """Prefetch the elements of tensors that belong to a place of the output."""
    for entry, form in enumerate(k.recipe.epilogue.forms):
        if form == "tensor":
            k.f.prefetch(k.f.at(place, k.f.load_i64(k.a["operands_at"], entry), "i8"))


def apply_to_rows(k: Vectors, staged: Value, sums: list[list[Value]]) -> None:
    """Add the bias to the finished sums of a tile, a row for each channel; null: there is none to add.

    Tiles are shared by all kernels: those whose epilogue has steps do not let them store.
    """
    f, e = k.f, k.e
    with f.when(_present(k, staged)):
        for i, row in enumerate(sums):
            scalar = f.load(e.accumulator, f.at(staged, i, e.accumulator), e.accumulator_bytes)
            own = Loaded(scalar).broadcast(k)
            for total in row:
                f.set(total, own.sum(k, f.get(total, k.vector)))


def apply_to_lanes(k: Vectors, staged: Value, sums: list[list[Value]]) -> None:
    """Add the bias to the finished sums of a tile, whose rows are pixels; null: there is none to add."""
    f, e = k.f, k.e
    with f.when(_present(k, staged)):
        for j in range(len(sums[0])):
            place = f.at(staged, j * k.lanes, e.accumulator)
            own = Loaded(f.load(k.vector, place, e.accumulator_bytes))
            for row in sums:
                f.set(row[j], own.sum(k, f.get(row[j], k.vector)))


def _present(k: Vectors, operands: Value) -> Value:
    return k.f.emit("i1", f"icmp ne ptr {operands.name}, null")
