"""What `check` found, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from outstride.errors import ArgumentError
from outstride.inspection.field import Field
from outstride.inspection.figures import LayerFigures
from outstride.inspection.sizes import Sizes, Taken


@dataclass(frozen=True)
class Halo:
    """What a tile needs beyond its own pixels along one axis, or why no halo is enough."""

    low: int | None
    high: int | None
    step: int
    """Tiles have to begin at multiples of this many pixels, for the layers to fall as on the whole image."""
    why: str = ""


@dataclass(frozen=True)
class Fit:
    """How to make one size work: pad at the high side, run, keep the first outputs; or crop."""

    size: int
    pad: int | None
    crop: int | None
    keep: int | None
    """Outputs to keep after padding, ceil(size / scale); None where no size is returned whole."""


@dataclass(frozen=True)
class Findings:
    """Where every layer of a model looks, what it costs, and which images the model can take."""

    model: str
    input_shape: tuple[int, ...]
    dtype: str
    axes: tuple[int, ...]
    layers: tuple[LayerFigures, ...]
    outputs: tuple[tuple[int, ...], ...]
    taken: tuple[Taken, ...]
    halo: tuple[Halo, ...]
    parameters: int
    parameter_bytes: int
    peak_bytes: int
    without_numbers: bool
    output_fields: tuple[tuple[int, Field], ...] = ()

    @property
    def sizes(self) -> tuple[Sizes | None, ...]:
        """Sizes at which the model runs, per axis; None where they were not looked for."""
        return tuple(row.runs for row in self.taken)

    @property
    def returning(self) -> tuple[Sizes | None, ...]:
        """Sizes whose first output has exactly size / scale positions; None where it has no positions."""
        return tuple(row.returned for row in self.taken)

    @property
    def multiply_adds(self) -> int:
        """Products of two elements that exist, in convolutions, linear layers and matrix products."""
        return sum(row.multiply_adds for row in self.layers)

    @property
    def global_layers(self) -> tuple[LayerFigures, ...]:
        """Layers that look at the whole image along some axis."""
        return self._with("whole")

    @property
    def misaligned(self) -> tuple[LayerFigures, ...]:
        """Layers where tensors meet whose positions differ."""
        return self._with("misaligned")

    @property
    def not_understood(self) -> tuple[str, ...]:
        """Operations without a rule; the figures after them are not known."""
        return tuple(
            dict.fromkeys(n.text for row in self._with("unknown") for n in row.notes if n.kind == "unknown")
        )

    def _with(self, kind: str) -> tuple[LayerFigures, ...]:
        return tuple(row for row in self.layers if any(note.kind == kind for note in row.notes))

    def fit(self, size: Sequence[int] | int) -> tuple[Fit, ...]:
        """How to make an image of any size work.

        Args:
            size: pixels along each axis of the image; one number stands for every axis.

        Returns:
            Per axis the padding for the high side, or the pixels to crop, that give the nearest size which
            the model accepts and returns whole.

        Raises:
            ArgumentError: there are more or fewer numbers than axes.
        """
        wanted = (size,) * len(self.axes) if isinstance(size, int) else tuple(size)
        if len(wanted) != len(self.axes) or any(n < 1 for n in wanted):
            raise ArgumentError(
                f"'size' must have one number of at least 1 for each axis of the image: got {size!r}; "
                f"legal: {len(self.axes)} numbers"
            )
        return tuple(self._fit(axis, n) for axis, n in enumerate(wanted))

    def _fit(self, axis: int, size: int) -> Fit:
        runs, returned, scale = self.taken[axis]
        sizes = runs if scale is None else returned
        if sizes is None:
            return Fit(size, None, None, None)
        above, below = sizes.above(size), sizes.below(size)
        return Fit(
            size,
            None if above is None else above - size,
            None if below is None else size - below,
            None if above is None or scale is None else ceil(size / scale),
        )
