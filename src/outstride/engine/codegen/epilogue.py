"""The epilogue: what is done to finished sums, on every way to the output, before they are rounded once.

This is the only module that knows of what an epilogue consists (`planner.epilogue.Epilogue`). The others hand
its operands on, and apply it to sums over all channels and taps, which they then give to a store of
`elements`: each rounds once, to the type of the output. A new operation is a field of `Epilogue`, its
operands here (a pointer in the argument block where it has some), and a line in `Loaded.apply`.
"""

from __future__ import annotations

from dataclasses import dataclass

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Context, Vectors
from outstride.engine.codegen.ir import PTR, Operand, Value

#: The parameter of functions that are handed the operands of some outputs: null where a call has none.
PARAMETER = ("bias", PTR)
#: The value of the parameter where no epilogue is due.
NOTHING = Value("null", PTR)


@dataclass(frozen=True)
class Operands:
    """The operands of a call, of all output channels."""

    absent: Value | None

    @classmethod
    def of(cls, k: Context) -> Operands:
        """Those of the argument block: each may be left out in a call."""
        if not k.recipe.epilogue.bias:
            return cls(None)
        return cls(k.f.emit("i1", f"icmp eq ptr {k.a['bias_at'].name}, null"))

    def at(self, k: Context, channel: Operand) -> Value:
        """Those from an output channel on, as the value of `PARAMETER`."""
        if self.absent is None:
            return NOTHING
        return k.f.select(self.absent, NOTHING, k.f.at(k.a["bias_at"], channel, k.e.storage))


@dataclass(frozen=True)
class Loaded:
    """The operands of one output channel, or of a vector of them lane by lane, in registers."""

    bias: Value

    def broadcast(self, k: Vectors) -> Loaded:
        """Those of one channel in every lane of a vector."""
        return Loaded(elements.broadcast(k.f, self.bias, k.lanes))

    def apply(self, k: Vectors, total: Value) -> Value:
        """The result of finished sums, in the type that they were summed in."""
        return elements.plus(k.f, total, self.bias)


def load(k: Context, operands: Value, channel: Operand, count: Operand, lanes: int) -> Loaded:
    """The operands of `count` channels, a lane each.

    A bias that is left out is +0, which makes +0 of a sum of -0 too: no skipped zero term shows.
    """
    f, e = k.f, k.e
    zero = elements.zero(e, lanes)
    room = f.variable(zero.type, zero)
    f.set(room, zero)
    with f.when(_present(k, operands)):
        place = f.at(operands, channel, e.storage)
        f.set(
            room,
            elements.load_first(f, e, place, lanes, count) if lanes > 1 else elements.load(f, e, place, 1),
        )
    return Loaded(f.get(room, zero.type))


def stage(k: Context, operands: Value, first: Operand, count: Operand, room: Value) -> None:
    """Write the operands of `count` channels from `first` on to a room for `apply_to_rows`."""
    f, e = k.f, k.e
    with f.loop(0, count) as i:
        own = load(k, operands, f.add(first, i), 1, 1)
        f.store(own.bias, f.at(room, i, e.accumulator), e.accumulator_bytes)


def apply_to_rows(k: Vectors, staged: Value, sums: list[list[Value]]) -> None:
    """Apply the epilogue to the finished sums of a tile, a row for each channel; null: there is none."""
    f, e = k.f, k.e
    with f.when(_present(k, staged)):
        for i, row in enumerate(sums):
            scalar = f.load(e.accumulator, f.at(staged, i, e.accumulator), e.accumulator_bytes)
            own = Loaded(scalar).broadcast(k)
            for total in row:
                f.set(total, own.apply(k, f.get(total, k.vector)))


def _present(k: Vectors, operands: Value) -> Value:
    return k.f.emit("i1", f"icmp ne ptr {operands.name}, null")
