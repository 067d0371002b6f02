"""One axis of a layer: its sizes, its padding, its phases and what its outputs read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd
from operator import eq
from typing import NamedTuple, TypeVar, overload

from outstride.errors import ArgumentError

_Item_co = TypeVar("_Item_co", covariant=True)

#: More taps of a phase are not listed one by one.
_MOST_TAPS = 1 << 24


class Counted(Sequence[_Item_co]):
    """A tuple whose elements are made when asked for: a stride of a million has as many phases."""

    def __init__(self, count: int, make: Callable[[int], _Item_co]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> _Item_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[_Item_co, ...]: ...
    def __getitem__(self, index: int | slice) -> _Item_co | tuple[_Item_co, ...]:
        places = range(self._count)[index]
        return self._make(places) if isinstance(places, int) else tuple(map(self._make, places))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, Counted)):
            return NotImplemented
        return len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self)) if self._count <= 64 else f"<{self._count} elements, the first {self[0]!r}>"


@dataclass(frozen=True)
class Phase:
    """The outputs of one axis that share their taps: output ``out_start + out_step * n`` for n = 0, 1, ...

    Each of ``taps`` is ``(kernel_index, input_offset)``; output n of the phase reads the input at
    ``in_step * n + input_offset`` through the kernel element ``kernel_index``. Without taps it is a hole.
    """

    out_start: int
    out_step: int
    in_step: int
    taps: tuple[tuple[int, int], ...]


def source_index(position: int, size: int, mode: str) -> int | None:
    """Return the element that a position inside or beside a tensor stands for under a padding mode.

    Args:
        position: index along one axis; negative or at least ``size`` in the border.
        size: elements along the axis.
        mode: zeros, reflect, replicate or circular.

    Returns:
        An index from 0 to size - 1; None for zero padding.

    Example:
        >>> [source_index(i, 4, "reflect") for i in range(-2, 6)]
        [2, 1, 0, 1, 2, 3, 2, 1]
    """
    if 0 <= position < size:
        return position
    if mode == "zeros":
        return None
    if mode == "circular":
        return position % size
    if mode == "replicate":
        return 0 if position < 0 else size - 1
    return -position if position < 0 else 2 * (size - 1) - position


def _ends(positions: range, size: int | None) -> list[int]:
    """The first and the last of evenly spaced positions, of those within an input of that size if given."""
    if size is not None:
        ascending = positions if positions.step > 0 else positions[::-1]
        first = max(0, -(ascending.start // ascending.step))
        positions = ascending[first : max(first, (size - 1 - ascending.start) // ascending.step + 1)]
    return [positions[0], positions[-1]] if positions else []


class Axis(NamedTuple):
    """The numbers of one axis of a layer, padding "same" not yet resolved."""

    number: int
    transposed: bool
    same: bool
    ceil: bool
    mode: str
    kernel_size: int
    stride: int
    dilation: int
    window: int
    low: int
    high: int
    output_padding: int

    def pads(self, size: int) -> tuple[int, int]:
        """The padding (low, high) of an input of that size."""
        if not self.same:
            return self.low, self.high
        if self.transposed:
            # The convolution that this one is the adjoint of maps size * stride to size and is padded by
            # max(window - stride, 0). Where the stride is larger it leaves the last inputs unread, so here
            # as many outputs follow the last stamp: a negative amount on the high side.
            total = self.window - self.stride
            low = max(total, 0) // 2
            return low, total - low
        total = max((self.count(size) - 1) * self.stride + self.window - size, 0)
        return total // 2, total - total // 2

    def count(self, size: int) -> int:
        """Outputs of a convolution with padding "same": the size over the stride, rounded up."""
        return (size + self.stride - 1) // self.stride

    def output(self, size: int) -> int:
        """The output size, which is below 1 where the input is too small."""
        low, high = self.pads(size)
        if self.transposed:
            if self.same:
                return size * self.stride
            return (size - 1) * self.stride - low - high + self.window + self.output_padding
        if self.same:
            return self.count(size)
        room = size + low + high - self.window
        if not self.ceil:
            return room // self.stride + 1
        last = (room + self.stride - 1) // self.stride
        # A last window that starts beyond the input would see padding only, so it does not count.
        return last if last * self.stride >= size + low else last + 1

    def outputs(self, size: int) -> range:
        """The output sizes of a transposed axis that a choice of output_padding, or of "same", can give."""
        if self.same:
            return range((size - 1) * self.stride + 1, size * self.stride + 1)
        least = self._replace(output_padding=0).output(size)
        return range(least, least + max(self.stride, self.dilation))

    def aimed(self, size: int, output: int) -> tuple[tuple[int, int], int]:
        """The padding and the output_padding with which a transposed axis gives one of its ``outputs``."""
        if not self.same:
            return (self.low, self.high), output - self.outputs(size)[0]
        total = (size - 1) * self.stride + self.window - output
        low = max(total, 0) // 2
        return (low, max(total, 0) - low), max(-total, 0)

    def least_bordered(self, size: int) -> int:
        """The smallest tensor that the padding mode can border by this axis's padding."""
        border = max(self.pads(size))
        if self.mode == "reflect":
            return border + 1
        return border if self.mode == "circular" and border > 1 else 1

    def accepts(self, size: int) -> bool:
        """Whether an input of that size has an output and can be bordered."""
        out = self.output(size)
        return out >= 1 and (out if self.transposed else size) >= self.least_bordered(size)

    def least_input_for(self, output: int) -> int:
        """The smallest input whose output is at least ``output``, the padding mode's demand left aside."""
        steps = (output - 1) * self.stride
        if self.transposed:
            if self.same:
                return self.count(output)
            missing = output - self.window - self.output_padding + self.low + self.high
            return (missing + self.stride - 1) // self.stride + 1
        if self.same:
            return steps + 1
        if self.ceil:
            return max(steps - self.stride + 1 + self.window - self.low - self.high, steps + 1 - self.low)
        return steps + self.window - self.low - self.high

    def least_input(self) -> int:
        """The smallest input that the axis accepts."""
        if self.transposed:
            return max(1, self.least_input_for(self.least_bordered(1)))
        least = max(1, self.least_input_for(1))
        if not self.same:
            return max(least, self.least_bordered(least))
        # Among the inputs with one output the padding falls as they grow: the largest of them, a multiple of
        # the stride, needs the least, and that is the same for every multiple.
        blocks = self.count(self.least_bordered(self.stride))
        block = range((blocks - 1) * self.stride + 1, blocks * self.stride + 1)
        return block[bisect_left(block, True, key=self.accepts)]

    def inputs_for(self, output: int) -> range:
        """The input sizes that give an output of that size."""
        sizes = range(max(1, self.least_input_for(output)), self.least_input_for(output + 1))
        if self.transposed:
            # Outputs lie a stride apart, so there is one candidate or none.
            return sizes if sizes and self.accepts(sizes[0]) else range(0)
        # The larger of these inputs need no more padding than the smaller: only the first can fail.
        return sizes[bisect_left(sizes, True, key=self.accepts) :]

    def phases(self, low: int) -> Counted[Phase]:
        """The phases, for that low padding."""
        return Counted(self.stride if self.transposed else 1, partial(self._phase, low))

    def _phase(self, low: int, first: int) -> Phase:
        indices, offset, step = self._taps(low, first)
        if len(indices) > _MOST_TAPS:
            raise ArgumentError(
                f"'kernel_size' must be small enough for taps to be listed: got {len(indices)} taps of a "
                f"phase on axis {self.number}; legal: at most {_MOST_TAPS}"
            )
        taps = tuple((k, offset + n * step) for n, k in enumerate(indices))
        return Phase(first, self.stride, 1, taps) if self.transposed else Phase(0, 1, self.stride, taps)

    def _taps(self, low: int, at: int) -> tuple[range, int, int]:
        """The kernel indices through which output ``at`` reads, its first input, and the step to the next.

        Inputs of a convolution are counted from the one where the window begins, less the low padding.
        """
        if not self.transposed:
            return range(self.kernel_size), -low, self.dilation
        # Output u takes input i through kernel index k where u = i * stride + k * dilation - low: one k in
        # stride / gcd does, if any.
        common = gcd(self.stride, self.dilation)
        apart, place = self.stride // common, at + low
        if place % common:
            return range(0), 0, 0
        first = place // common * pow(self.dilation // common, -1, apart) % apart
        indices = range(first, self.kernel_size, apart)
        return indices, (place - first * self.dilation) // self.stride, -(self.dilation // common)

    def field(self, low: int, at: int, size: int | None) -> range:
        """The hull of the inputs that output ``at`` reads, cut to an input of that size if one is given."""
        reads: list[int]
        if not self.transposed:
            indices, offset, step = self._taps(low, at)
            along = range(at * self.stride + offset, at * self.stride + offset + len(indices) * step, step)
            reads = _ends(along, size if self.mode == "zeros" else None)
            if size is not None and self.mode != "zeros":
                reads = [i for i in (source_index(u, size, self.mode) for u in along) if i is not None]
        else:
            reads = []
            for u in self._folded_onto(at, size):
                indices, first, step = self._taps(low, u)
                reads += _ends(range(first, first + len(indices) * step, step) if indices else range(0), size)
        return range(min(reads), max(reads) + 1) if reads else range(0)

    def _folded_onto(self, at: int, size: int | None) -> list[int]:
        """The positions of the full scatter that a transposed layer's padding mode adds up in one output."""
        if self.mode == "zeros":
            return [at]
        if size is None:
            raise ArgumentError(
                f"'input_size' must be given for a transposed layer with padding_mode={self.mode!r}, whose "
                f"border folds back from the far side: got none; legal: one integer per axis"
            )
        low, high = self.pads(size)
        out = self.output(size)
        if self.mode == "replicate":
            before = range(-low, 0) if at == 0 else range(0)
            after = range(out, out + high) if at == out - 1 else range(0)
            return [*before, at, *after]
        others = (-at, 2 * (out - 1) - at) if self.mode == "reflect" else (at - out, at + out)
        return [at, *(u for u in others if -low <= u < out + high and u != at)]
