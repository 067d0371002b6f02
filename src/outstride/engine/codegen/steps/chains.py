"""Chains of steps over the elements of tensors that lie alike, and their operands.

The table `operands_at` has the address of each operand that comes with a call, in the order of the steps: of
a vector over channels, or of a tensor that lies as the result does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Vectors
from outstride.engine.codegen.ir import PTR, Operand, Value
from outstride.engine.codegen.steps import operations as steps
from outstride.engine.planner.steps import Step, operand_forms


@dataclass(frozen=True)
class Ready:
    """A chain with its vectors over channels in registers, for one channel or for a vector of them."""

    chain: Chain
    prepared: tuple[tuple[Value, ...], ...]

    def apply(self, k: Vectors, value: Value, place: Operand, inside: Value | None = None) -> Value:
        """The chain on a vector of elements from `place` on, counted from the first of a tensor.

        With `inside` only the lanes that it has are read of tensors.
        """
        own = [
            [_read(k, base, place, inside) for base in bases] if bases else values
            for bases, values in zip(self.chain.tensors, self.prepared, strict=True)
        ]
        return steps.apply(k, self.chain.steps, value, own)


@dataclass(frozen=True)
class Chain:
    """The steps, and the addresses of the tensors and vectors of each."""

    steps: tuple[Step, ...]
    tensors: tuple[tuple[Value, ...], ...]
    vectors: tuple[tuple[Value | None, ...], ...]

    @classmethod
    def of(cls, k: Vectors, chain: Sequence[Step], table: Value) -> Chain:
        """A chain whose operands are in a table."""
        f = k.f
        addresses = iter([f.load(PTR, f.at(table, i, PTR), 8) for i in range(len(operand_forms(chain)))])
        tensors, vectors = [], []
        for step in chain:
            given = [None if form is None else next(addresses) for form in step.operands]
            of_tensors = "tensor" in step.operands
            tensors.append(tuple(base for base in given if base is not None) if of_tensors else ())
            vectors.append(() if of_tensors else tuple(given))
        return cls(tuple(chain), tuple(tensors), tuple(vectors))

    def of_channel(self, k: Vectors, channel: Operand) -> Ready:
        """The chain on elements of one channel."""

        def read(base: Value) -> Value:
            number = elements.load(k.f, k.e, k.f.at(base, channel, k.e.storage), 1)
            return elements.broadcast(k.f, number, k.lanes)

        return self._ready(k, [[base and read(base) for base in bases] for bases in self.vectors])

    def of_channels(self, k: Vectors, first: Operand, inside: Value | None = None) -> Ready:
        """The chain on vectors over channels; with `inside` on the lanes that it has."""
        return self._ready(
            k, [[base and _read(k, base, first, inside) for base in bases] for bases in self.vectors]
        )

    def keep(self, k: Vectors, room: Value, pitch: Operand, channels: Operand) -> None:
        """Write what steps make of their vectors over all channels to rows of a room, for `kept`."""
        f, lanes = k.f, k.lanes
        with f.loop(0, channels, lanes) as first:
            inside = elements.first_lanes(f, f.sub(channels, first), lanes)
            values = [v for own in self.of_channels(k, first, inside).prepared for v in own]
            for row, value in enumerate(values):
                place = f.at(room, f.add(f.mul(pitch, row), first), k.e.accumulator)
                f.store(value, place, k.e.accumulator_bytes)

    def kept(self, k: Vectors, room: Value, pitch: Operand, first: Operand) -> Ready:
        """The chain on vectors over channels from one on, of what was kept."""
        f = k.f
        places = (f.at(room, f.add(f.mul(pitch, row), first), k.e.accumulator) for row in count())
        return Ready(
            self,
            tuple(
                tuple(f.load(k.vector, next(places), k.e.accumulator_bytes) for _ in range(rows))
                for rows in _rows_of(self.steps)
            ),
        )

    def _ready(self, k: Vectors, vectors: Sequence[Sequence[Value | None]]) -> Ready:
        pairs = zip(self.steps, self.tensors, vectors, strict=True)
        return Ready(self, tuple(() if bases else steps.prepare(k, step, own) for step, bases, own in pairs))


def kept_rows(chain: Sequence[Step]) -> int:
    """How many vectors over all channels a chain takes once they are prepared."""
    return sum(_rows_of(chain))


def _rows_of(chain: Sequence[Step]) -> list[int]:
    return [2 if step.kind == "batch_norm" else step.given.count("channel") for step in chain]


def _read(k: Vectors, base: Value, place: Operand, inside: Value | None) -> Value:
    pointer = k.f.at(base, place, k.e.storage)
    if inside is None:
        return elements.load(k.f, k.e, pointer, k.lanes)
    return elements.load_masked(k.f, k.e, pointer, k.lanes, inside)
