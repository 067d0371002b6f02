"""Register tiles: nothing but products and loads in their loops, on every instruction set."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product

import pytest

from outstride.engine.codegen.gradients.gradient import gradient_source
from outstride.engine.codegen.tiles import tiles_source
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows.pixels import PIXELS
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.recipe import Recipe
from outstride.engine.runtime.compiler import compile_assembly
from tests.engine.codegen.assembly import (
    FUSED,
    X86,
    assert_tight,
    bodies_of,
    expected_products,
    innermost_loops,
    tile_bodies,
)
from tests.engine.codegen.recipes import ITEM_BYTES, gradient_tiles, tiles_of


@pytest.mark.parametrize(("isa", "accumulator"), list(product(X86, ITEM_BYTES)))
def test_register_tiles_stay_in_registers(isa: str, accumulator: str) -> None:
    for tile in tiles_of(isa):
        assert_tight(tile_bodies(isa, accumulator)[tile.name], tile, isa)


@pytest.mark.parametrize(("isa", "dtype"), list(product(X86, ITEM_BYTES)))
def test_tiles_of_the_weight_gradient_stay_in_registers(isa: str, dtype: str) -> None:
    tiles = gradient_tiles(isa, dtype)
    assert {tile.vectors for tile in tiles} == set(range(1, 1 + max(tile.vectors for tile in tiles)))
    for tile in tiles:
        source = gradient_source(Recipe(dtype, isa, "width", "any", 1, 1), tile)
        assembly = bodies_of(compile_assembly(source, INSTRUCTION_SETS[isa]))
        assert_tight(assembly[tile.name], tile, isa)


def test_accumulators_and_operands_fit_the_registers() -> None:
    for isa in INSTRUCTION_SETS.values():
        for tile in (*tiles_of(isa.name), *(t for d in ITEM_BYTES for t in gradient_tiles(isa.name, d))):
            assert tile.rows * tile.vectors + tile.vectors + 1 <= isa.registers, (isa.name, tile)


def test_a_tile_that_does_not_fit_is_found_out() -> None:
    """The reader of assembly must see spills where there are some, else the tests above could not fail."""
    tile = Tile(PIXELS, 10, 4)
    isa = INSTRUCTION_SETS["avx512"]
    body = bodies_of(compile_assembly(tiles_source("float32", isa, (tile,)), isa))[tile.name]
    assert [sum(bool(FUSED.match(x)) for x in lines) for lines in innermost_loops(body)] == [40]
    with pytest.raises(AssertionError, match="stack traffic"):
        assert_tight(body, tile, "avx512")


@pytest.mark.parametrize(
    ("assembly", "expected"),
    [
        ("run:                  # @run\n# %bb.0:\n\taddq\t$8, %rax\t# 8-byte Reload", ["addq\t$8, %rax"]),
        ("run:  // @run\n// %bb.0:\n\tldr\tq0, [x0, #16]  // 16-byte Reload", ["ldr\tq0, [x0, #16]"]),
        ("_run:  ## @run\n## %bb.0:\n\tretq ##\n.Lfunc_end0:\n\tretq", ["retq"]),
    ],
)
def test_comments_are_left_out_and_numbers_are_not(assembly: str, expected: list[str]) -> None:
    (body,) = bodies_of(assembly).values()
    assert body == expected


def test_jumps_on_a_bit_are_loops_of_aarch64() -> None:
    """Such a jump has a number in the middle of its line."""
    body = bodies_of("run:\n.LBB0_1:\n\tfmla\tv0.4s, v1.4s, v2.s[0]\n\ttbz\tw8, #3, .LBB0_1\n\tret")["run"]
    assert list(innermost_loops(body)) == [["fmla\tv0.4s, v1.4s, v2.s[0]"]]


@pytest.mark.parametrize("accumulator", ITEM_BYTES)
def test_tiles_for_aarch64_multiply_and_add_in_vectors(accumulator: str) -> None:
    bodies = tile_bodies("neon", accumulator)
    for tile in tiles_of("neon"):
        loops = list(innermost_loops(bodies[tile.name]))
        counts = Counter(sum(bool(FUSED.match(x)) for x in lines) for lines in loops)
        assert sorted(counts.elements()) == expected_products(tile)
        assert not any(re.search(r"\[sp|\bbl\b", x) for lines in loops for x in lines), tile
