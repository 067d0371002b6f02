"""What a run has taken so far, and from that what is left: tiles take about what others took.

What reading and storing take depends on formats, disks and the numbers themselves, so it is not known before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from outstride.tiling.costs.clock import NAMED, spelled

#: Seconds of tiles after which others are taken to be like them, and what has to be left to be worth a word.
_ENOUGH, _WORTH = 3.0, 5.0


@dataclass(frozen=True)
class Left:
    """What is left of a run: printable."""

    tiles: int
    """That were made when it was found."""
    seconds: float
    """Until all is done."""
    reading: float
    """Share of a tile's time."""
    storing: float
    ending: float
    """Seconds, of these, in which files are made of the numbers."""

    def __str__(self) -> str:
        shares = {"reading": self.reading, "storing": self.storing}
        said = [f"{name} {share:.0%}" for name, share in shares.items() if share >= NAMED]
        if self.ending >= NAMED * self.seconds:
            said.append(f"making files of the numbers {spelled(self.ending)}")
        return f"about {spelled(self.seconds)} after {self.tiles} tiles" + (
            f" ({', '.join(said)})" if said else ""
        )


class Pace:
    """The time of some tiles, one after the other."""

    def __init__(
        self, count: int, ending: Callable[[], float] = float, says: Callable[[Left], object] = bool
    ) -> None:
        """A pace.

        Args:
            count: tiles in all.
            ending: asked once how many seconds it takes to make files when all tiles are there.
            says: is told once what is left, when that is known and worth it.
        """
        self._count, self._ending, self._says = count, ending, says
        self._made, self._started, self._is_said = 0, 0.0, False
        self._parts = {"reading": 0.0, "storing": 0.0}

    @contextmanager
    def during(self, part: str) -> Iterator[None]:
        """While something is read or stored."""
        started = perf_counter()
        try:
            yield
        finally:
            self._parts[part] += perf_counter() - started

    def over(self) -> None:
        """A tile is there. The first does not count: kernels are compiled with it."""
        self._made += 1
        now = perf_counter()
        if self._made == 1:
            self._started, self._parts = now, dict.fromkeys(self._parts, 0.0)
            return
        taken = now - self._started
        if self._is_said or taken < _ENOUGH:
            return
        self._is_said = True
        ending, each = self._ending(), taken / (self._made - 1)
        left = each * (self._count - self._made) + ending
        if left >= _WORTH:
            shares = {part: seconds / taken for part, seconds in self._parts.items()}
            self._says(Left(self._made, left, shares["reading"], shares["storing"], ending))
