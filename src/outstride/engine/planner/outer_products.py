"""What a term of a register tile costs where it is an outer product: vectors by broadcast operands."""

from __future__ import annotations

from functools import lru_cache

from outstride.engine.planner.dataflow import Candidate
from outstride.engine.planner.gather_form import PhaseGroup


def outer_product_cycles(c: Candidate, *, loads: float, broadcasts: int, fill: float = 0.0) -> float:
    """Cycles of one term: the busiest of multiply-add units, load ports, cache and issue.

    `loads` whole vectors and `broadcasts` are loaded; the second-level cache delivers for `fill` cycles.
    Those that are nearly as busy as each other get in each other's way.
    """
    tile, isa, costs = c.tile, c.machine.instruction_set, c.machine.costs
    products = tile.rows * tile.vectors
    loading = loads / isa.fma_per_cycle + costs.broadcast * broadcasts
    issue = (products + tile.rows + tile.vectors + 4) / costs.issue_per_cycle
    busy = products / isa.fma_per_cycle
    return max(float((busy**5 + loading**5 + fill**5) ** 0.2), issue, costs.latency)


@lru_cache(maxsize=256)
def fresh_share(groups: tuple[PhaseGroup, ...], in_step: int, lanes: int) -> float:
    """The share of the terms whose vectors no tap before them has read: taps of one row share theirs."""
    taps = fresh = 0
    for group in groups:
        depth, height, width = group.axes
        latest: dict[int, int] = {}
        of_row = 0
        for offset in width.offsets:
            place, residue = divmod(offset, in_step)
            of_row += residue not in latest or abs(place - latest[residue]) >= lanes
            latest[residue] = place
        fresh += of_row * len(depth.offsets) * len(height.offsets)
        taps += group.taps
    return fresh / max(taps, 1)
