"""Tasks of a weight gradient: some channels under some blocks of outputs, in one split of the boxes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from outstride.engine.codegen.box import Box
from outstride.engine.codegen.context import Context
from outstride.engine.codegen.ir import Operand, Value


@dataclass(frozen=True)
class Task:
    """What a task sums, and where that goes.

    It has so many channels and blocks of outputs, each `width` wide, from its first ones on, and the boxes
    from `begin` to `end`. `x` is where its channels begin, `y` its group. Sums of a split go to `partial`,
    those of all boxes to `result`.
    """

    k: Context
    width: int
    channels: Operand
    first_block: Operand
    blocks: Operand
    begin: Operand
    end: Operand
    x: Value
    y: Value
    partial: Value
    result: Value

    @classmethod
    def of(cls, k: Context, number: Operand, width: int) -> Task:
        """The task of a number."""
        f, e, a = k.f, k.e, k.a
        chunk, rest = f.rem(number, a["output_chunks"]), f.div(number, a["output_chunks"])
        part, rest = f.rem(rest, a["channel_blocks"]), f.div(rest, a["channel_blocks"])
        split, group = f.rem(rest, a["splits"]), f.div(rest, a["splits"])
        first = f.mul(part, a["channels_per_block"])
        channels = f.minimum(a["channels_per_block"], f.sub(a["channels"], first))
        first_block = f.mul(chunk, a["blocks_per_chunk"])
        blocks = f.minimum(a["blocks_per_chunk"], f.sub(a["output_blocks"], first_block))
        x = f.at(a["x_at"], f.add(f.mul(group, a["x_stride_g"]), f.mul(first, a["x_stride_c"])), e.storage)
        y = f.at(a["y_at"], f.mul(group, a["y_stride_g"]), e.storage)
        rows = f.mul(a["channels"], a["taps"])
        place = f.add(f.mul(f.add(f.mul(split, a["groups"]), group), a["output_blocks"]), first_block)
        place = f.mul(f.add(f.mul(place, rows), f.mul(first, a["taps"])), width)
        row = f.add(f.mul(f.mul(group, a["outputs"]), a["channels"]), first)
        row = f.add(f.mul(row, a["taps"]), f.mul(f.mul(first_block, width), rows))
        begin = f.mul(split, a["boxes_per_split"])
        return cls(
            k, width, channels, first_block, blocks, begin,
            f.minimum(f.add(begin, a["boxes_per_split"]), a["boxes"]), x, y,
            f.at(a["partial_at"], place, e.accumulator), f.at(a["result_at"], row, e.storage),
        )  # fmt: skip

    @property
    def partial_pitch(self) -> Operand:
        """Partial sums from a block of outputs to the next."""
        f, a = self.k.f, self.k.a
        return f.mul(f.mul(a["channels"], a["taps"]), self.width)

    def outputs(self, block: Operand) -> tuple[Operand, Operand]:
        """The first output of one of its blocks, and how many it has."""
        f, a = self.k.f, self.k.a
        first = f.mul(f.add(self.first_block, block), self.width)
        return first, f.minimum(self.width, f.sub(a["outputs"], first))

    def gradients(self, block: Operand) -> Value:
        """Where the output gradients of one of its blocks begin."""
        first, _ = self.outputs(block)
        return self.k.f.at(self.y, self.k.f.mul(first, self.k.a["y_stride_m"]), self.k.e.storage)

    def written(self, block: Operand) -> Value:
        """Where the weight gradients of one of its blocks belong."""
        f, a = self.k.f, self.k.a
        rows = f.mul(a["channels"], a["taps"])
        return f.at(self.result, f.mul(f.mul(block, self.width), rows), self.k.e.storage)


@contextmanager
def parts_of(k: Context, box: Box) -> Iterator[Box]:
    """A loop over the parts of a box, in the order of its pixels."""
    f, a = k.f, k.a
    with ExitStack() as loops:
        starts, counts = [], []
        for axis, start, count in zip("ndhw", box.start, box.count, strict=True):
            at = loops.enter_context(f.loop(0, count, a[f"part_{axis}"]))
            starts.append(f.add(start, at))
            counts.append(f.minimum(a[f"part_{axis}"], f.sub(count, at)))
        yield Box(tuple(starts), tuple(counts))
