"""Checkerboards that are there: the lines of a picture's spectrum at multiples of 1 / stride."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from outstride.errors import ArgumentError, ShapeError
from outstride.layer.arguments import per_axis
from outstride.output.tables import html_text

Floats = npt.NDArray[np.float64]

CELLS = 16
"""Repetitions of the stride in a segment: the lines are CELLS frequencies apart."""
LEAST_CELLS = 8
"""With fewer the frequencies between two lines are too few to tell what is there without a pattern."""
LEAKAGE = 1
"""A Hann window spreads a line over one frequency to each side, and no further."""
NEAR = 3
"""Frequencies up to here from a line show what the picture has there anyway."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What of a picture repeats with the stride.

    ``power`` and ``background`` are (*stride), in squared units of the picture: the mean power of the
    pattern's frequency j / stride, and that of its neighbours, which is what the picture has there without
    any pattern. Entry 0, the mean, is 0. ``variance`` is that of the picture.
    """

    stride: tuple[int, ...]
    power: Floats
    background: Floats
    variance: float

    @property
    def amplitude(self) -> float:
        """Root mean square of the pattern in the picture's units, less what the neighbours explain."""
        return float(np.sqrt(max(float((self.power - self.background).sum()), 0.0)))

    @property
    def ratio(self) -> float:
        """Power at the lines over that of their neighbours: about 1 for a picture without a pattern."""
        power, background = float(self.power.sum()), float(self.background.sum())
        if background == 0:
            return 1.0 if power == 0 else float("inf")
        return power / background

    @property
    def share(self) -> float:
        """The pattern's power over the picture's variance, from 0 to 1."""
        return min(self.amplitude**2 / self.variance, 1.0) if self.variance else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain numbers."""
        return {
            "stride": list(self.stride),
            "amplitude": self.amplitude,
            "ratio": self.ratio if np.isfinite(self.ratio) else None,
            "share": self.share,
            "power": self.power.tolist(),
            "background": self.background.tolist(),
        }

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def __str__(self) -> str:
        period = " x ".join(map(str, self.stride))
        return (
            f"period {period}: pattern of {self.amplitude:.3g} root mean square, {self.share:.2%} of the "
            f"variance; its lines have {self.ratio:.3g} times the power of their neighbours"
        )


def measure(image: npt.ArrayLike, stride: int | Sequence[int]) -> Measurement:
    """Measure the pattern of a given period in a picture, recording or feature map.

    Args:
        image: (..., *size), real numbers in any unit; what comes before the last axes (batch, channels) is
            averaged.
        stride: the period per axis, at least 1; one number stands for both axes of a picture.

    Returns:
        A ``Measurement``. The picture is cut into segments of up to 16 periods that overlap by half, each
        less its mean and under a Hann window; the powers of their spectra are averaged (Welch's method), so
        that a pattern whose strength or sign follows the picture counts too. A pattern a * p(x) with p of
        that period and mean square 1 has amplitude |a|.

    Raises:
        ShapeError: the picture has fewer than 8 periods along an axis or fewer axes than ``stride``.
        ArgumentError: the picture has no elements or elements that are not finite, or every stride is 1.

    Example:
        >>> board = np.indices((32, 32)).sum(0) % 2 * 2.0 - 1
        >>> round(measure(0.25 * board, 2).amplitude, 6)
        0.25

    Source: Welch, The use of fast Fourier transform for the estimation of power spectra, 1967.
    """
    values = _values(image)
    steps = per_axis("stride", stride, 2 if isinstance(stride, int) else len(stride), 1)
    if all(step == 1 for step in steps):
        raise ArgumentError(
            f"'stride' must be above 1 on some axis, or nothing repeats: got {steps}; legal: 2 or more"
        )
    if values.ndim < len(steps):
        raise ShapeError(
            f"'image' must have an axis for each entry of 'stride': got shape {values.shape} with "
            f"stride={steps}; legal: at least {len(steps)} axes"
        )
    sizes = values.shape[values.ndim - len(steps) :]
    lengths = tuple(
        _length(size, step, axis) for axis, (size, step) in enumerate(zip(sizes, steps, strict=True))
    )
    total = np.zeros(lengths)
    count = 0
    for segment in _segments(values.reshape(-1, *sizes), lengths):
        total += _power(segment, lengths)
        count += len(segment)
    power, background = _at_lines(total / count, steps, lengths)
    return Measurement(steps, power, background, float(values.var()))


def _values(image: npt.ArrayLike) -> Floats:
    detach = getattr(image, "detach", None)
    values = np.asarray(detach().cpu().numpy() if callable(detach) else image)
    if values.dtype.kind not in "biuf" or not values.size or not np.isfinite(values).all():
        raise ArgumentError(
            f"'image' must hold finite real numbers: got {values.dtype} of shape {values.shape}; legal: "
            f"such as float32"
        )
    return values.astype(np.float64)


def _length(size: int, stride: int, axis: int) -> int:
    if stride == 1:
        return min(size, CELLS)
    cells = min(size // stride, CELLS)
    if cells < LEAST_CELLS:
        raise ShapeError(
            f"'image' must have at least {LEAST_CELLS} periods along every axis: got {size} elements on axis "
            f"{axis} with a stride of {stride}; legal: {LEAST_CELLS * stride} elements or more"
        )
    return cells * stride


def _segments(rows: Floats, lengths: tuple[int, ...]) -> Iterator[Floats]:
    """Pieces of all rows at once, half a segment apart, the last ones flush with the end."""
    starts = []
    for size, length in zip(rows.shape[1:], lengths, strict=True):
        last = size - length
        starts.append(sorted({*range(0, last + 1, max(length // 2, 1)), last}))
    for corner in product(*starts):
        box = [slice(start, start + length) for start, length in zip(corner, lengths, strict=True)]
        place = (slice(None), *box)
        yield rows[place]


def _power(segments: Floats, lengths: tuple[int, ...]) -> Floats:
    """Sum over the segments of the mean square that each frequency contributes."""
    axes = tuple(range(1, segments.ndim))
    window = np.ones(())
    for length in lengths:
        # Half a step off the usual places: a window of one element must not be zero.
        window = np.multiply.outer(window, 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length))
    centred = segments - segments.mean(axes, keepdims=True)
    # |F|^2 / (sum of the window)^2 is a sine's own power; it takes both j and -j, which are both lines.
    spectrum = np.fft.fftn(centred * window, axes=axes)
    return np.asarray((np.abs(spectrum) ** 2).sum(0) / window.sum() ** 2)


def _at_lines(power: Floats, stride: tuple[int, ...], lengths: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Power of each line and the mean of its neighbours beyond the window's leakage."""
    found, around = np.zeros(stride), np.zeros(stride)
    for line in np.ndindex(*stride):
        if not any(line):
            continue
        centre = [j * (length // step) for j, length, step in zip(line, lengths, stride, strict=True)]
        found[line] = power[tuple(centre)]
        # Level and upright edges have their whole spectrum on the axes: a line there is compared along its
        # axis alone, or every edge would pass for a pattern.
        reach = [
            min(NEAR, length // step // 2) if j else 0
            for j, length, step in zip(line, lengths, stride, strict=True)
        ]
        offsets = [o for o in product(*(range(-r, r + 1) for r in reach)) if max(map(abs, o)) > LEAKAGE]
        places = [
            tuple((c + o) % length for c, o, length in zip(centre, offset, lengths, strict=True))
            for offset in offsets
        ]
        around[line] = np.mean([power[place] for place in places])
    return found, around
