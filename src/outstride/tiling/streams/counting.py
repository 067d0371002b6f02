"""How many results are complete once so many elements have come."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import floor

from outstride.tiling.streams.lengths import Lengths

#: Answers that are kept.
_MOST_KEPT = 4096


class Counting:
    """Counts results of a model that do not depend on whether its input ends here."""

    def __init__(self, lengths: Lengths) -> None:
        self._rate = lengths.rate
        self._length_for = lru_cache(_MOST_KEPT)(lengths.length_for)
        self.complete = lru_cache(_MOST_KEPT)(self._complete)
        #: Results that the input stands for and that were not complete at the last chunk.
        self._behind = Fraction(0)

    def _complete(self, done: int, length: int) -> int:
        """How many are, of which so many are done."""

        def fits(stop: int) -> bool:
            return stop <= done or self._length_for(done, stop) <= length

        # As many as the last time for what has come, in all likelihood, and none more.
        low = max(done, floor(length * self._rate - self._behind))
        step = 1
        while low > done and not fits(low):
            low, step = max(done, low - step), 2 * step
        high, step = low + 1, 1
        while fits(high):
            low, high, step = high, high + 2 * step, 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        self._behind = length * self._rate - low
        return low
