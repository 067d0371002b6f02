"""Fused calls whose tensors lie against pages that may not be touched, in a process of their own."""

from __future__ import annotations

import sys
from typing import cast, get_args

from tests.engine.launch.ways_out import FORMATS, LAYERS, Call
from tests.engine.planner.chains import BATCH_NORM, RELU, RESIDUAL
from tests.environments import Environment, computed_by, one_of
from tests.guard import Edge, GuardedPages
from tests.poison import poison
from tests.tolerance import assert_same_bits


def main(algorithm: str) -> None:
    from dataclasses import replace

    from outstride.engine import runtime

    for layer in LAYERS:
        for edge in get_args(Edge):
            about = (layer.id, edge, algorithm)
            print(*about, flush=True)
            where = Environment.of(one_of(runtime.available(), layer.id, algorithm), *about)
            with poison(), computed_by(algorithm), where.entered(), GuardedPages() as pages:
                call = Call.of(layer, (BATCH_NORM, RESIDUAL, RELU), name=one_of(FORMATS, layer.id, algorithm))
                operands = call.operands(call.plain())
                expected = call.expected(operands)
                place = cast("Edge", edge)
                guarded = replace(
                    call, x=pages.copy(call.x, place), w=pages.copy(call.w, place),
                    bias=None if call.bias is None else pages.copy(call.bias, place),
                )  # fmt: skip
                there = [pages.copy(t, place) for t in operands]
                assert_same_bits(guarded(there), expected)
                assert_same_bits(guarded(there, pages.empty_like(there[-1], place)), expected)
                assert_same_bits(guarded(there, there[-1]), expected)


if __name__ == "__main__":
    main(sys.argv[1])
