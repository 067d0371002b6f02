"""The rule for recurrent layers, which are taken as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outstride.inspection.lineage import Lineage, free
from outstride.inspection.rules.reductions import IN_ORDER
from outstride.inspection.rules.visit import Visit
from outstride.models.operators import recurrent


def recurrent_layer(visit: Visit, layer: Any) -> Sequence[Lineage]:
    """An RNN, GRU or LSTM: the sequence stays, everything in it reads what came before."""
    rank = len(visit.source.dims)
    source = visit.source.reduced([rank - 1])[0]
    summed, covered = source.reduced([recurrent.sequence_axis(layer, rank)])
    visit.sees_all(covered, IN_ORDER)
    met = visit.broadcast([source, summed], (*visit.shape[:-1], 1), silent=True)
    met = met.put(rank - 1, free(visit.shape[-1]))
    rest = [
        Lineage(tuple(map(free, tensor.shape)), whole=met.whole, unknown=met.unknown)
        for tensor in visit.call.outputs[1:]
    ]
    return [met, *rest]
