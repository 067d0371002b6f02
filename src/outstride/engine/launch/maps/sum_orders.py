"""In which order torch sums the channels of a map, for those who sum it part by part."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from outstride.engine.planner.maps.means import (
    LEVELS,
    SumColumns,
    depends_on_threads,
    order_of_rows,
    orders_of_columns,
)

__all__ = ["LEVELS", "SumColumns", "map_sum_orders"]


def map_sum_orders(
    shape: Sequence[int], is_contiguous: bool, item_bytes: int, lanes: int
) -> list[SumColumns] | None:
    """The order of each channel of (N, C, *size), contiguous or channels_last; None where threads share one.

    ``lanes``: how many numbers torch's vectors for sums have.
    """
    positions = prod(shape[2:])
    if depends_on_threads(tuple(shape)):
        return None
    if is_contiguous:
        return [SumColumns(0, shape[1], order_of_rows(positions, lanes))]
    return orders_of_columns(shape[0], shape[1], positions, item_bytes, lanes, torch.get_num_threads())
