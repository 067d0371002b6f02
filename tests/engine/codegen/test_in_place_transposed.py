"""Tiles whose inputs make several outputs stay in registers."""

from __future__ import annotations

import re

import pytest

from outstride.engine.codegen.nest import gather_source
from outstride.engine.planner.dataflows.in_place import IN_PLACE
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.unrolled import UnrolledPhases
from outstride.engine.runtime.compiler import compile_assembly
from tests.engine.codegen.assembly import FUSED, assert_in_registers, bodies_of
from tests.engine.codegen.recipes import ITEM_BYTES, UNROLLED_PHASES, phases_recipe


@pytest.mark.parametrize("spread", UNROLLED_PHASES)
@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_tiles_that_spread_stay_in_registers(dtype: str, spread: UnrolledPhases) -> None:
    """Every product is written out; an input row is loaded once for each offset that some phase reads."""
    source = gather_source(phases_recipe(spread, "avx512", dtype))
    bodies = bodies_of(compile_assembly(source, INSTRUCTION_SETS["avx512"]))
    assert {shape.vectors for shape in spread.shapes} == set(range(1, len(spread.shapes) + 1))
    for tile, shape in zip(IN_PLACE.tiles_of(spread), spread.shapes, strict=True):
        lines = bodies[tile.name]
        assert_in_registers(lines)
        products, loads = spread.work(shape, (1, *spread.kernel_size), 1)
        assert sum(bool(FUSED.match(x)) for x in lines) == products
        assert sum(bool(re.match(r"vmov\S+\s.*\(.*{z}", x.strip())) for x in lines) == loads
