"""What a plan says of its passes."""

from __future__ import annotations

from collections.abc import Iterator

from outstride.models.node import first_few
from outstride.tiling.budget import spelled
from outstride.tiling.costs import clock
from outstride.tiling.passes.walk import Schedule, Walk

#: Passes that are written out; a deep model has dozens.
_MOST_WRITTEN = 6


def lines(schedule: Schedule) -> Iterator[str]:
    """The passes that go over a map, one a line, and what is kept of them."""
    walks = [walk for walk in schedule.walks if not walk.whole]
    if not walks:
        return
    names = first_few(name for walk in walks for name in walk.names)
    seconds = clock.spelled(sum(walk.all_seconds for walk in walks))
    yield f"  passes        {len(walks)} first, about {seconds}, as every pixel is needed by {names}"
    for number, walk in enumerate(walks[:_MOST_WRITTEN], 1):
        yield f"    {number:<12}{_walk(schedule, walk)}"
    if len(walks) > _MOST_WRITTEN:
        yield f"    ...         {len(walks) - _MOST_WRITTEN} more"
    if schedule.in_memory or schedule.in_file:
        held, filed = (
            spelled(max(schedule.kept_bytes(indices), default=0))
            for indices in (schedule.in_memory, schedule.in_file)
        )
        yield f"  kept          up to {held} in memory, {filed} in files at a time"


def _walk(schedule: Schedule, walk: Walk) -> str:
    by, box = (" x ".join(map(str, sizes)) for sizes in (walk.shape, walk.size))
    boxes = "at once" if len(walk) == 1 else f"by {box}"
    kept = [
        f"kept {where}"
        for where, indices in (("in memory", schedule.in_memory), ("in a file", schedule.in_file))
        if indices.intersection(walk.writes)
    ]
    read = ["read"] if walk.target in walk.reads else []
    return ", ".join([f"{by} {boxes}", *read, *kept, clock.spelled(walk.all_seconds)])
