"""What the threads of a launch share: a block of words, the same for every kernel.

Each thread has a share of the tasks, neighbours of each other, and takes those first; then it helps others
with theirs. The same thread has the same share of every launch, so what a layer reads is mostly what its own
core wrote one layer before. Counters lie in lines of the cache of their own.
"""

from __future__ import annotations

from outstride.engine.planner.machine import LINE_BYTES

#: The argument block of the kernel; how many threads there are; the function that says which of them one is,
#: as OpenMP's `omp_get_thread_num` does, or 0.
TEAM_FIELDS = ("block_at", "workers", "thread_number_at")
TEAM_INDEX = {name: i for i, name in enumerate(TEAM_FIELDS)}

#: Words from counter to counter. The first counts threads that have begun, one behind it for each thread what
#: is taken of its share.
COUNTER_PITCH = LINE_BYTES // 8
BEGUN = COUNTER_PITCH
TAKEN = 2 * COUNTER_PITCH


def team_words(workers: int) -> int:
    """The words of such a block."""
    return TAKEN + workers * COUNTER_PITCH
