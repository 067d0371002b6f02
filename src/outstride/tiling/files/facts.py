"""What a file says beside its numbers, and what is to be said about the file that is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

Vector = tuple[float, ...]


@dataclass
class Facts:
    """What a result takes over from the file that it is made of."""

    rate: int | None = None
    """Samples a second of a sound."""
    deep: bool = False
    """Whether it is a picture with 16 bits."""
    spacing: Vector | None = None
    """Distance of two neighbours along each of the last axes."""
    unit: str | None = None
    """The unit of these distances, as OME spells it: micrometer, millimeter."""
    directions: tuple[Vector, ...] | None = None
    """Where in space the next element lies along each of the last axes, and last where the first lies."""
    notes: list[str] = field(default_factory=list)

    def on(self, before: Sequence[int], after: Sequence[int], nd: int) -> Facts:
        """The same for a result: over the same space with as many elements as it has.

        ``before`` and ``after``: the shapes of source and result, whose last ``nd`` axes are in space.
        """
        if len(before) < nd or len(after) < nd or 0 in (*before, *after):
            return self
        times = [old / new for old, new in zip(before[-nd:], after[-nd:], strict=True)]
        found = replace(self)
        if self.spacing is not None:
            fits = len(self.spacing) == nd
            found.spacing = tuple(a * b for a, b in zip(self.spacing, times, strict=True)) if fits else None
        if self.directions is not None:
            *steps, origin = self.directions
            if len(steps) != nd:
                found.directions = None
            else:
                grown = [tuple(x * ratio for x in step) for step, ratio in zip(steps, times, strict=True)]
                moves = [
                    [x * (ratio - 1) / 2 for x in step] for step, ratio in zip(steps, times, strict=True)
                ]
                start = tuple(sum(parts) for parts in zip(origin, *moves, strict=True))
                found.directions = (*grown, start)
        return found
