"""Pooling as a problem: its windows, how many outputs they have, what sums are divided by, and its strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from outstride.engine.planner.machine import InstructionSet

Kind = Literal["max", "average"]
Ints = int | Sequence[int]

#: Bytes of the input rows that a block of output rows keeps in scratch, and the fewest rows of a block:
#: rows that two blocks read are packed twice.
_STRIP_BYTES = 3 << 14
_FEWEST_ROWS = 4


@dataclass(frozen=True)
class Pooling:
    """What is pooled, and how, in torch's words; tuples have an entry for each axis."""

    kind: Kind
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @classmethod
    def of(
        cls, kind: Kind, axes: int, kernel_size: Ints, stride: Ints | None, padding: Ints, dilation: Ints,
        *further: Any,
    ) -> Pooling:  # fmt: skip
        """The pooling over so many axes that torch's arguments describe."""
        kernel_size = _tuple(kernel_size, axes)
        stride = kernel_size if stride is None else _tuple(stride, axes) or kernel_size
        return cls(kind, kernel_size, stride, _tuple(padding, axes), _tuple(dilation, axes), *further)

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """Kernel size, stride, padding and dilation."""
        return self.kernel_size, self.stride, self.padding, self.dilation

    def output_size(self, input_size: Sequence[int]) -> tuple[int, ...]:
        """The outputs along each axis."""
        return tuple(map(self._outputs, input_size, *self.axes))

    def _outputs(self, size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> int:
        room = size + 2 * padding - dilation * (kernel_size - 1) - 1
        count = (room + (stride - 1 if self.ceil_mode else 0)) // stride + 1
        # The last window begins inside the input or its lower padding.
        late = self.ceil_mode and (count - 1) * stride >= size + padding
        return count - 1 if late else count

    def counts(self, input_size: Sequence[int], output_size: Sequence[int]) -> list[list[int]]:
        """Of each axis and output a factor of what the sum is divided by; 1 where a window is empty."""
        if self.divisor_override is not None:
            *outer, last = output_size
            return [*([1] * outputs for outputs in outer), [self.divisor_override] * last]
        return [
            [self._count(size, output, *axis) for output in range(outputs)]
            for size, outputs, *axis in zip(input_size, output_size, *self.axes, strict=True)
        ]

    def _count(self, size: int, output: int, kernel_size: int, stride: int, padding: int, _: int) -> int:
        begin = output * stride - padding
        end = min(begin + kernel_size, size + padding)
        inside = end - begin if self.count_include_pad else min(end, size) - max(begin, 0)
        return max(1, inside)


@dataclass(frozen=True)
class PoolingStrip:
    """The packed input rows of a block of output rows.

    For each depth of the kernel there are `line_rows` of `line_pitch` elements. A row is dealt out by the
    residues of the stride, `residue_pitch` elements apart; `taps` are the offsets of the taps along the
    width. Of the largest elements only those of each window's part of a row are kept, and the row itself is
    packed behind the lines.
    """

    block_rows: int
    line_rows: int
    line_pitch: int
    residue_pitch: int
    scratch_bytes: int
    taps: tuple[int, ...]


def strip_of(
    pooling: Pooling, output_size: Sequence[int], isa: InstructionSet, item_bytes: int
) -> PoolingStrip:
    """The strip of a pooling whose outputs are so many; sizes may leave out leading axes."""
    lanes = isa.lanes(item_bytes)
    depth = pooling.kernel_size[0] if len(output_size) == 3 else 1
    height, rows, step_h, dilation_h = 1, 1, 1, 1
    if len(output_size) > 1:
        height, rows = output_size[-2], pooling.kernel_size[-2]
        step_h, dilation_h = pooling.stride[-2], pooling.dilation[-2]
    step, dilation, kernel_size = pooling.stride[-1], pooling.dilation[-1], pooling.kernel_size[-1]
    outputs = -(-output_size[-1] // lanes) * lanes
    residue_pitch = -(-(outputs + (kernel_size - 1) * dilation // step) // lanes) * lanes
    line = step * residue_pitch
    taps = tuple(tap * dilation % step * residue_pitch + tap * dilation // step for tap in range(kernel_size))
    pitch = outputs if pooling.kind == "max" else line
    reach = (rows - 1) * dilation_h + 1
    fitting = (_STRIP_BYTES // (depth * pitch * item_bytes) - reach) // step_h + 1
    block_rows = min(height, max(_FEWEST_ROWS, fitting))
    line_rows = (block_rows - 1) * step_h + reach
    elements = depth * line_rows * pitch + (line if pooling.kind == "max" else 0)
    scratch_bytes = -(-elements * item_bytes // 64) * 64
    return PoolingStrip(block_rows, line_rows, pitch, residue_pitch, scratch_bytes, taps)


def _tuple(value: Ints, axes: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values
