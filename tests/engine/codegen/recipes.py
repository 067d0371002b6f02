"""Recipes that cover every value, and all that is compiled for an instruction set."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from outstride.engine.codegen.fingerprint import (
    fingerprint_source,
)
from outstride.engine.codegen.gradients.dots import dots_source
from outstride.engine.codegen.gradients.few_rows import few_rows_source
from outstride.engine.codegen.gradients.gradient import gradient_source
from outstride.engine.codegen.nest import gather_source
from outstride.engine.codegen.nonfinite import nonfinite_source
from outstride.engine.codegen.packing.weights import weights_source
from outstride.engine.codegen.steps.alone import steps_source
from outstride.engine.codegen.tiles import tiles_source
from outstride.engine.planner.dataflow import Tile
from outstride.engine.planner.dataflows import channels, pixels, rows
from outstride.engine.planner.dtypes import WeightAxis
from outstride.engine.planner.epilogue import Epilogue
from outstride.engine.planner.gradients.gradient import plan_gradient
from outstride.engine.planner.gradients.plan import GradientProblem
from outstride.engine.planner.machine import INSTRUCTION_SETS, Machine
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.unrolled import UnrolledPhases, UnrolledTaps
from tests.engine.codegen.maps import map_sources
from tests.engine.planner.chains import CHAINS, STEPS

ITEM_BYTES = {"float32": 4, "float64": 8}


def tiles_of(isa: str) -> tuple[Tile, ...]:
    of_channels = channels.TILES[isa] + channels.STRAIGHT_TILES[isa]
    prefetching = tuple(replace(tile, prefetches=True) for tile in pixels.TILES[isa])
    return pixels.TILES[isa] + of_channels + rows.TILES[isa] + prefetching


def gradient_tiles(isa: str, dtype: str) -> list[Tile]:
    """Every register tile that some weight gradient uses."""
    machine = Machine(INSTRUCTION_SETS[isa])
    one = (1, 1, 1)
    plans = (
        plan_gradient(
            GradientProblem(dtype, 1, 1, 3, outputs, one, one, one, one, (0, 0, 0), one, "width", "any"),
            machine, 1,
        )
        for outputs in range(1, 80)
    )  # fmt: skip
    return sorted({plan.tile for plan in plans}, key=lambda tile: (tile.rows, tile.vectors))


UNROLLED_TAPS = (
    UnrolledTaps(1, 1, 1),
    UnrolledTaps(3, 1, 1),
    UnrolledTaps(3, 2, 1),
    UnrolledTaps(4, 3, 2),
    UnrolledTaps(7, 1, 1),
    UnrolledTaps(3, 1, -2),
    UnrolledTaps(3, 2, 1, 2),
    UnrolledTaps(5, 3, 1, 3),
    UnrolledTaps(3, 1, 1, 1, 3),
    UnrolledTaps(3, 1, -1, 1, 2),
    UnrolledTaps(3, 2, 1, 2, 3),
    UnrolledTaps(5, 2, 1, 2, 5),
    UnrolledTaps(3, 1, 2, 1, 1),
    UnrolledTaps(7, 1, 1, 1, 7, narrow=True),
    UnrolledTaps(5, 1, -1, 1, 5, narrow=True),
)


UNROLLED_PHASES = (
    UnrolledPhases((4, 4), (2, 2), (1, 1), (1, 1)),
    UnrolledPhases((1, 12), (1, 2), (0, 5), (1, 1)),
    UnrolledPhases((3, 2), (2, 3), (1, 0), (2, 1)),
    UnrolledPhases((8, 8), (4, 4), (2, 2), (1, 1)),
    UnrolledPhases((1, 16), (1, 8), (4, 0), (1, 1)),
    UnrolledPhases((6, 6), (3, 3), (1, 1), (1, 1)),
    UnrolledPhases((6, 6), (6, 3), (1, 1), (1, 1)),
)


def phases_recipe(spread: UnrolledPhases, isa: str, dtype: str) -> Recipe:
    step = spread.stride[1]
    return Recipe(dtype, isa, "width", "width", 1, step if step <= 8 else 0, ("in_place",), spread)


def in_place_recipes(isa: str) -> list[Recipe]:
    """Kernels that read in place, for an instruction set with masks: every step and way along the height."""
    if not INSTRUCTION_SETS[isa].masks:
        return []
    dtypes = ("float32", "float64", "bfloat16", "float16")
    return [
        Recipe(
            dtypes[n % 4], isa, "width", "width",
            taps.shared if taps.across or taps.shared > 1 else 1 + n % 4, 1, ("in_place",), taps,
        )
        for n, taps in enumerate((*UNROLLED_TAPS, *UNROLLED_TAPS[2:5]))
    ] + [phases_recipe(spread, isa, dtypes[n % 4]) for n, spread in enumerate(UNROLLED_PHASES)]  # fmt: skip


def recipes_of(isa: str) -> list[Recipe]:
    """Every value of every field at least once, and each pair of steps."""
    dtypes, units = ("float32", "float64", "bfloat16", "float16"), ("width", "channel", "any")
    made = []
    for n, (in_step, out_step) in enumerate(product(range(5), (0, 1, 2, 3, 4, 8))):
        in_unit = units[n % 3]
        made.append(Recipe(dtypes[n % 4], isa, in_unit, units[n // 3 % 3], in_step, out_step))  # type: ignore[arg-type]
    return made


def unpacked_recipes(isa: str) -> list[Recipe]:
    """Kernels that read weights where they lie."""
    axes: tuple[WeightAxis, ...] = ("channel", "output")
    return [
        Recipe(dtype, isa, "channel", "channel", 1, 1, ("unpacked",), unpacked=axis)
        for dtype in ITEM_BYTES
        for axis in axes
    ]


def stepped_recipes(isa: str) -> list[Recipe]:
    """Kernels whose sums go through steps, on every way to the output."""
    along = Recipe("float32", isa, "width", "width", 1, 1, ("pixels", "direct", "channels"))
    plain = [along, *recipes_of(isa)[2::11], *in_place_recipes(isa)[::12], *unpacked_recipes(isa)[:2]]
    return [
        replace(recipe, epilogue=Epilogue(steps=CHAINS[1 if number % 2 else 5]))
        for number, recipe in enumerate(plain)
    ]


def sources_of(isa: str) -> dict[str, str]:
    """Everything that is compiled for an instruction set, by name."""
    gathers = (*recipes_of(isa), *in_place_recipes(isa), *unpacked_recipes(isa), *stepped_recipes(isa))
    found = {f"gather {r.name}": gather_source(r) for r in gathers}
    for r in recipes_of(isa)[::4]:
        for tile in gradient_tiles(isa, r.dtype)[-1:]:
            found[f"gradient {r.name}"] = gradient_source(r, tile)
        found[f"dots {r.name}"] = dots_source(r, 4)
    dtypes = ("float32", "float64", "bfloat16", "float16")
    found |= {f"weights {d}": weights_source(d, INSTRUCTION_SETS[isa]) for d in dtypes}
    found |= {f"nonfinite {d}": nonfinite_source(d) for d in dtypes}
    found |= {f"tiles {d}": tiles_source(d, INSTRUCTION_SETS[isa], tiles_of(isa)) for d in ITEM_BYTES}
    found |= {f"few rows {d}": few_rows_source(d, INSTRUCTION_SETS[isa]) for d in ITEM_BYTES}
    for dtype in ("float64", "bfloat16"):
        found[f"steps {dtype}"] = steps_source(STEPS, dtype, INSTRUCTION_SETS[isa])
    return found | map_sources(isa) | {"fingerprint": fingerprint_source()}
