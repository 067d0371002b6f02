"""The reach of an operator along an axis: which positions of its input each position of its result reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from outstride.geometry import Phase, axis_phases
from outstride.layer.spec import ConvSpec


@dataclass(frozen=True)
class Reach:
    """Output ``period * m + r`` reads the inputs ``jump * m + t`` for each t of ``taps[r]``.

    ``scale`` and ``shift`` say where the middle of what it reads nominally lies: output q at
    ``scale * q + shift`` in input positions, which for a layer is the middle of its kernel.
    """

    period: int
    jump: int
    taps: tuple[tuple[int, ...], ...]
    scale: Fraction
    shift: Fraction

    @classmethod
    def of_phases(cls, phases: Sequence[Phase], middle: Fraction) -> Reach:
        """A layer's axis; ``middle`` is the middle of its window, less the low padding.

        A convolution reads ``q * stride + middle`` at its middle. Its adjoint writes position
        ``i * stride + middle`` from i, so there q is read from ``(q - middle) / stride``.
        """
        first = phases[0]
        taps = tuple(tuple(offset for _, offset in phase.taps) for phase in phases)
        if first.out_step == 1 and len(phases) == 1:
            return cls(1, first.in_step, taps, Fraction(first.in_step), middle)
        scale = Fraction(1, first.out_step)
        return cls(first.out_step, first.in_step, taps, scale, -middle * scale)

    @classmethod
    def window(cls, step: int, taps: Iterable[int]) -> Reach:
        """Output q reads ``step * q + t`` for each tap."""
        reads = tuple(taps)
        return cls(1, step, (reads,), Fraction(step), Fraction(min(reads) + max(reads), 2))

    @classmethod
    def slice(cls, start: int, step: int = 1) -> Reach:
        """Output q is input ``start + step * q``; a step of -1 turns the axis round."""
        return cls.window(step, (start,))

    @classmethod
    def paste(cls, start: int, step: int = 1) -> Reach:
        """Output ``start + step * i`` is input i; what lies between is not written."""
        at = start % step
        taps = tuple((-(start // step),) if r == at else () for r in range(step))
        return cls(step, 1, taps, Fraction(1, step), Fraction(-start, step))

    @classmethod
    def repeat(cls, times: int) -> Reach:
        """Each input fills ``times`` outputs: q reads ``q // times``."""
        return cls(times, 1, ((0,),) * times, Fraction(1, times), Fraction(1 - times, 2 * times))


class Window(NamedTuple):
    """One axis of a layer whose kernel slides over it; of a transposed one, the window of its adjoint."""

    kernel_size: int
    stride: int
    low: int
    """Padding before the first input; what follows the last one is known by the size of the result."""
    dilation: int
    transposed: bool = False

    @property
    def span(self) -> int:
        """Elements from the first tap to the last, both counted."""
        return self.dilation * (self.kernel_size - 1) + 1

    @property
    def reach(self) -> Reach:
        """What each output reads, phase by phase."""
        return _reach(self)

    def outputs(self, size: int) -> int:
        """How many windows an axis of this size holds, padded on both sides alike."""
        return (size + 2 * self.low - self.span) // self.stride + 1

    def reads(self, start: int, stop: int) -> tuple[int, int]:
        """From where to where outputs from ``start`` to ``stop`` read, padding included."""
        if self.transposed:
            # Output q takes input i where q = i * stride + tap - low.
            first = -((self.span - 1 - self.low - start) // self.stride)
            return first, (stop - 1 + self.low) // self.stride + 1
        return start * self.stride - self.low, (stop - 1) * self.stride - self.low + self.span


@lru_cache(maxsize=1024)
def _reach(window: Window) -> Reach:
    kernel_size, stride, low, dilation, transposed = window
    spec = ConvSpec("conv_transpose" if transposed else "conv", (kernel_size,), stride, ((low, 0),), dilation)
    return Reach.of_phases(axis_phases(spec)[0], Fraction(window.span - 1, 2) - low)


def per_axis(values: Any, nd: int, otherwise: Sequence[int] = ()) -> tuple[int, ...]:
    """An argument that may be one number for all axes, or left out."""
    row = (values,) if isinstance(values, int) else tuple(values or otherwise)
    return row * nd if len(row) == 1 else row


def windows_of(
    nd: int, kernel_size: Any, stride: Any, low: Any, dilation: Any = 1, *, transposed: bool = False
) -> tuple[Window, ...]:
    """The axes of a layer, of arguments as torch takes them; without a stride windows lie side by side."""
    sizes = per_axis(kernel_size, nd)
    rows = zip(sizes, per_axis(stride, nd, sizes), per_axis(low, nd), per_axis(dilation, nd), strict=True)
    return tuple(Window(*row, transposed) for row in rows)
