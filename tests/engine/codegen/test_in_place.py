"""Tiles that read in place stay in registers and read each input once."""

from __future__ import annotations

import re

import pytest

from outstride.engine.codegen.nest import gather_source
from outstride.engine.planner.dataflows.in_place import IN_PLACE
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.unrolled import UnrolledTaps
from outstride.engine.runtime.compiler import compile_assembly
from tests.engine.codegen.assembly import FUSED, assert_in_registers, bodies_of, innermost_loops
from tests.engine.codegen.recipes import ITEM_BYTES, UNROLLED_TAPS


@pytest.mark.parametrize("unrolled", UNROLLED_TAPS)
@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_tiles_that_read_in_place_stay_in_registers(dtype: str, unrolled: UnrolledTaps) -> None:
    """One loop for each input row: it loads what its output rows share, and multiplies for each of them.

    Few taps along the width are written out instead, and their vectors loaded once for all of them.
    """
    recipe = Recipe(dtype, "avx512", "width", "width", unrolled.shared, 1, ("in_place",), unrolled)
    bodies = bodies_of(compile_assembly(gather_source(recipe), INSTRUCTION_SETS["avx512"]))
    for tile in IN_PLACE.tiles_of(unrolled):
        written_out = unrolled.written_out(tile.vectors)
        together = unrolled.across if written_out else unrolled.shared
        reached = [len(rows) * tile.vectors * together for _, rows in unrolled.rows(tile.rows)]
        if written_out or unrolled.shared > 1:  # of a loop the last taps may be fewer, in parts elsewhere
            assert_in_registers(bodies[tile.name])
            assert sum(bool(FUSED.match(x)) for x in bodies[tile.name]) == sum(reached)
            loads = sum(bool(re.match(r"vmov\S+\s.*\(.*{z}", x.strip())) for x in bodies[tile.name])
            each = unrolled.reads(tile.vectors, unrolled.shared)
            assert loads == len(reached) * each, "each vector is loaded once"
            if written_out:
                masks = sum(bool(re.match(r"kmov\S+\s.*\(", x.strip())) for x in bodies[tile.name])
                assert masks <= each + tile.rows * (tile.vectors + 1), "masks stay in registers"
            continue
        loops = list(innermost_loops(bodies[tile.name]))
        found = [sum(bool(FUSED.match(x)) for x in lines) for lines in loops]
        assert sorted(found) == sorted(reached)
        for lines in loops:
            assert_in_registers(lines)
            assert not re.search(r"\bpush|\bpop", "\n".join(lines)), "a loop saves registers"
            masked = sum("{%k" in x for x in lines)
            assert masked == min(2, tile.vectors), "those at the ends are loaded under their masks"
