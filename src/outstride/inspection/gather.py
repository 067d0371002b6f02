"""Which positions of an axis each position of the next one reads: a layer, a slice, a resize, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from outstride.geometry import Phase

HALF = Fraction(1, 2)
RESIZES = ("nearest", "nearest-exact", "linear", "cubic", "linear-antialias", "cubic-antialias")
_REACH = {"linear-antialias": 1, "cubic-antialias": 2}


@dataclass(frozen=True)
class Gather:
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
    def of_phases(cls, phases: Sequence[Phase], middle: Fraction) -> Gather:
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
    def window(cls, step: int, taps: Iterable[int]) -> Gather:
        """Output q reads ``step * q + t`` for each tap."""
        reads = tuple(taps)
        return cls(1, step, (reads,), Fraction(step), Fraction(min(reads) + max(reads), 2))

    @classmethod
    def slice(cls, start: int, step: int = 1) -> Gather:
        """Output q is input ``start + step * q``; a step of -1 turns the axis round."""
        return cls.window(step, (start,))

    @classmethod
    def paste(cls, start: int, step: int = 1) -> Gather:
        """Output ``start + step * i`` is input i; what lies between is not written."""
        at = start % step
        taps = tuple((-(start // step),) if r == at else () for r in range(step))
        return cls(step, 1, taps, Fraction(1, step), Fraction(-start, step))

    @classmethod
    def spread(cls, times: int) -> Gather:
        """Each input fills ``times`` outputs: q reads ``q // times``."""
        return cls(times, 1, ((0,),) * times, Fraction(1, times), Fraction(1 - times, 2 * times))

    @classmethod
    def resize(cls, mode: str, inputs: int, outputs: int, ratio: Fraction, aligned: bool) -> Gather:
        """Interpolate ``inputs`` positions to ``outputs``.

        Args:
            mode: one of RESIZES.
            inputs, outputs: sizes, at least 1.
            ratio: input positions per output.
            aligned: whether the outermost pixel centres coincide ("align_corners").

        Returns:
            What is read with a weight other than 0. Half-pixel centres: output q lies at
            ``(q + 1/2) * ratio - 1/2``.
        """
        if aligned:
            ratio = Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
        period, jump = ratio.denominator, ratio.numerator
        taps = tuple(tuple(_sources(mode, q, ratio, aligned)) for q in range(period))
        shift = Fraction(0) if aligned else (ratio - 1) / 2
        if mode.startswith("nearest"):
            # The nearest pixel lies beside the exact place; over one period that is a shift on average.
            shift = sum((t[0] - q * ratio for q, t in enumerate(taps)), Fraction(0)) / period
        return cls(period, jump, taps, ratio, shift)


def _sources(mode: str, q: int, ratio: Fraction, aligned: bool) -> range:
    if mode == "nearest":
        at = floor(q * ratio)
        return range(at, at + 1)
    if mode == "nearest-exact":
        at = floor((q + HALF) * ratio)
        return range(at, at + 1)
    if mode in _REACH:
        middle, reach = (q + HALF) * ratio, _REACH[mode] * max(ratio, Fraction(1))
        return range(floor(middle - reach + HALF), floor(middle + reach + HALF))
    place = q * ratio if aligned else (q + HALF) * ratio - HALF
    at = floor(place)
    if place == at:
        return range(at, at + 1)
    return range(at, at + 2) if mode == "linear" else range(at - 1, at + 3)
