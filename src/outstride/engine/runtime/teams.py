"""The block that the threads of a launch share, made for one launch or for a list of them."""

from __future__ import annotations

from array import array
from functools import lru_cache

from outstride.engine.planner.team import TEAM_INDEX, team_words
from outstride.engine.runtime import threads

_BLOCK = TEAM_INDEX["block_at"]


def team(workers: int, block: int = 0) -> array[int]:
    """Words for so many threads that launch a kernel on the argument block at an address."""
    words = _template(workers)[:]
    words[_BLOCK] = block
    return words


@lru_cache(maxsize=64)
def _template(workers: int) -> array[int]:
    words = array("q", [0] * team_words(workers))
    words[TEAM_INDEX["workers"]] = workers
    words[TEAM_INDEX["thread_number_at"]] = threads.number_address()
    return words
