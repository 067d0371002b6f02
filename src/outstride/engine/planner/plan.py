"""Plans: for a problem, the kernel that will run, how the work is cut, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import ceil, prod

from outstride.engine.planner.ahead import Ahead, lines_ahead
from outstride.engine.planner.axes import Axis, AxisGroup, Group, product_groups, single_phases
from outstride.engine.planner.bands import (
    band_cycles,
    band_tiles,
    band_vectors,
    bands,
    in_place,
    spreads,
    window_of,
)
from outstride.engine.planner.blocks import Blocks, boxes_over, cuts, fitted, pixel_tiles, rows_of
from outstride.engine.planner.cost import task_cycles
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.recipe import ACCUMULATOR_BYTES, Recipe
from outstride.engine.planner.tiles import (
    LANE_TILES,
    ROW_TILE_OUTPUTS,
    ROW_TILES,
    STRAIGHT_TILES,
    TILES,
    Sweep,
    Tile,
)


@dataclass(frozen=True)
class GatherPlan:
    """What runs for a problem: the recipe of the kernel, the blocks, and the reasons for both."""

    problem: Problem
    recipe: Recipe
    tile: Tile
    machine: Machine
    threads: int
    axes: tuple[Axis, ...]
    groups: tuple[Group, ...]
    blocks: Blocks
    predicted_cycles: float
    #: Whether the cells of a transposed layer are counted from the first output that is kept.
    cropped: bool = False

    @property
    def lanes(self) -> int:
        """Elements of a vector of accumulators."""
        return self.machine.instruction_set.lanes(ACCUMULATOR_BYTES[self.problem.dtype])

    @property
    def tile_rows(self) -> int:
        """Rows of packed weights that a register tile takes."""
        return self.tile.outputs(self.lanes)

    @property
    def chunks(self) -> int:
        """Chunks that cover the outputs of a group."""
        return ceil(self.problem.outputs / self.blocks.chunk_outputs)

    @property
    def tasks(self) -> int:
        """Units of work that threads take."""
        return self.tasks_over([a.cells for a in self.axes])

    def tasks_over(self, cells: Sequence[int]) -> int:
        """Units of work of so many cells on each axis."""
        groups = ceil(self.problem.groups / self.blocks.groups_per_task)
        boxes = boxes_over((self.problem.batch, *cells), self.blocks.box)
        return groups * boxes * ceil(self.chunks / self.blocks.chunks_per_task)

    @property
    def sweep(self) -> Sweep:
        """The loop that its tiles are called in."""
        return "direct" if self.blocks.direct else self.tile.sweep

    @property
    def tile_work(self) -> int:
        """Multiply-adds of all register tiles for one channel, lost lanes included."""
        rows = rows_of(self.groups, self.blocks.chunk_outputs, self.tile_rows)
        terms = sum(r * g.taps for r, g in zip(rows, self.groups, strict=True))
        pixels = sum(count * self._pixels_of(blocks) for count, blocks in self._boxes_of_each_size())
        return self.problem.groups * self.chunks * terms * pixels

    def _pixels_of(self, blocks: Blocks) -> int:
        """Pixels of the tiles that cover a box."""
        if self.tile.dataflow == "in_place":
            return blocks.box[0] * band_vectors(self.problem, self.axes, blocks, self.lanes) * self.lanes
        return self.tile_pixels * pixel_tiles(self.tile, blocks, self.lanes)

    def _boxes_of_each_size(self) -> Iterator[tuple[int, Blocks]]:
        """How many boxes there are of each size: those in the end may be smaller."""
        cells = (self.problem.batch, *(a.cells for a in self.axes))
        each = [
            [(c // b, b), *([(1, c % b)] if c % b else [])]
            for c, b in zip(cells, self.blocks.box, strict=True)
        ]
        for sizes in product(*each):
            images, depth, height, width = (block for _, block in sizes)
            columns = self.blocks.columns if len(self.blocks.columns) > 1 else ((0, width),)
            blocks = replace(self.blocks, box=(images, depth, height, width), columns=columns)
            yield prod(count for count, _ in sizes), blocks

    @property
    def stretches(self) -> bool:
        """Whether some axis is longer than a box, so that other lengths of it may be served as well."""
        return any(block < a.cells for a, block in zip(self.axes, self.blocks.box[1:], strict=True))

    def serves(self, cells: Sequence[int], *, past_caches: bool) -> bool:
        """Whether its boxes are those of another size: where sizes differ, both are longer than a box."""
        changes = zip(self.axes, cells, self.blocks.box[1:], strict=True)
        same = all(a.cells == c or block < min(a.cells, c) for a, c, block in changes)
        return same and past_caches == self.problem.past_caches and self.tile.dataflow != "in_place"

    @property
    def ahead(self) -> Ahead:
        """What is asked for ahead of time of the input that is packed next."""
        tiles = 0
        if self.tile.dataflow != "in_place":
            rows = rows_of(self.groups, self.blocks.chunk_outputs, self.tile_rows)
            tiles = sum(rows) // self.tile_rows * self.blocks.chunks_per_task
            tiles *= pixel_tiles(self.tile, self.blocks, self.lanes)
        return lines_ahead(self.problem, self.axes, self.blocks, tiles, self.machine)

    @property
    def tile_pixels(self) -> int:
        """Pixels of a register tile, all its rows together."""
        return self.tile.pixels(self.lanes) * (self.tile.rows if self.tile.by_row else 1)


def recipe_for(problem: Problem, machine: Machine, axes: tuple[Axis, ...]) -> Recipe:
    """The kernel that can compute the problem, at any size and with any of its tiles."""
    in_step, out_step = problem.stride[2], axes[2].out_step
    if problem.operator == "conv_transpose":
        in_step = 1
    sweeps = tuple(dict.fromkeys(tile.sweep for tile in tiles_for(problem, machine)))
    if problem.stores_directly and "pixels" in sweeps:
        sweeps += ("direct",)
    return Recipe(
        problem.dtype, machine.instruction_set.name, problem.in_unit, problem.out_unit,
        in_step if in_step <= 4 else 0, out_step if out_step <= 8 else 0,
        sweeps, window_of(problem) if "in_place" in sweeps else None,
    )  # fmt: skip


@lru_cache(maxsize=256)
def plan_for(problem: Problem, machine: Machine, threads: int) -> GatherPlan:
    """The plan with the fewest predicted cycles; between two coarse sizes, that of the larger made to fit.

    To cost every way to cut a problem takes as long as a small layer runs, and inputs come in new sizes.
    """
    coarse = problem if in_place(problem, machine) else problem.coarse()
    best = _best(coarse, machine, threads)
    return best if coarse is problem else _fitted(best, problem)


def memoized() -> tuple[object, ...]:
    """The functions under ``lru_cache`` that keep plans."""
    return plan_for, _best


@lru_cache(maxsize=1024)
def _best(problem: Problem, machine: Machine, threads: int) -> GatherPlan:
    """Of every tile and every way to cut the problem the plan with the fewest predicted cycles."""
    plans = (
        plan
        for cropped in _croppings(problem, machine)
        for axes in [problem.axes(cropped=cropped)]
        for tile in tiles_for(problem, machine)
        for plan in estimates(
            problem, machine, threads, axes, phase_groups(tile, axes), tile, cropped=cropped
        )
    )
    return min(plans, key=lambda plan: plan.predicted_cycles)


def _croppings(problem: Problem, machine: Machine) -> tuple[bool, ...]:
    """The ways to count cells: kernels that read in place and spread it count them from output 0."""
    if in_place(problem, machine) and spreads(problem):
        return (True,)
    return (False, True) if _may_crop(problem) else (False,)


def _may_crop(problem: Problem) -> bool:
    """Whether cells may be counted from the first output that is kept: small maps lose outputs to padding."""
    axes = zip(problem.stride, problem.padding, problem.output_size, strict=True)
    return problem.operator == "conv_transpose" and any(s > 1 and p > 0 and o <= 512 for s, p, o in axes)


def _fitted(model: GatherPlan, problem: Problem) -> GatherPlan:
    """The model's plan for a size up to its own: its boxes, but no longer on any axis than the size is."""
    axes, blocks = problem.axes(cropped=model.cropped), model.blocks
    cycles = model.predicted_cycles
    if not model.serves([a.cells for a in axes], past_caches=problem.past_caches):
        tile, lanes, item = model.tile, model.lanes, ACCUMULATOR_BYTES[problem.dtype]
        blocks = fitted(blocks, problem, axes, model.groups, tile, model.machine, lanes, item)
        cycles *= pixel_tiles(tile, blocks, lanes) / pixel_tiles(tile, model.blocks, lanes)
    cycles *= _turns(problem, axes, blocks, model.threads)
    cycles /= _turns(model.problem, model.axes, model.blocks, model.threads)
    return replace(model, problem=problem, axes=axes, blocks=blocks, predicted_cycles=cycles)


def phase_groups(tile: Tile, axes: tuple[Axis, ...]) -> tuple[Group, ...]:
    """The phases that share a tile: one each where the lanes of results are neighbouring outputs."""
    return _phase_groups(tuple(a.groups for a in axes), single=tile.outputs_together)


@lru_cache(maxsize=256)
def _phase_groups(groups: tuple[tuple[AxisGroup, ...], ...], *, single: bool) -> tuple[Group, ...]:
    found = product_groups(groups)
    return single_phases(found) if single else found


#: Weights of so many bytes do not stay in the last-level cache from call to call.
FAR_WEIGHTS_BYTES = 16 << 20


def tiles_for(problem: Problem, machine: Machine) -> tuple[Tile, ...]:
    """The register tiles of a layer, the same for all its sizes.

    Tiles of rows need few outputs, and rows of cells that read rows next to each other with the taps next to
    each other.
    """
    registers = machine.instruction_set.registers
    if in_place(problem, machine):
        return window_of(problem).tiles
    if problem.depthwise:
        return LANE_TILES[registers]
    tiles = TILES[registers]
    if problem.out_unit == "channel":
        tiles = tuple(t for t in tiles if not t.by_pixel) + STRAIGHT_TILES[registers]
    if problem.weight_bytes >= FAR_WEIGHTS_BYTES:
        tiles = tuple(replace(t, far=t.dataflow == "channels") for t in tiles)
    if problem.out_unit == "channel":
        return tiles
    step = problem.stride[1]
    neighbours = problem.dilation[1] == 1 and (problem.operator == "conv_transpose" or step == 1)
    shared = problem.kernel_size[1] > (step if problem.operator == "conv_transpose" else 1)
    if neighbours and shared and problem.outputs <= ROW_TILE_OUTPUTS:
        return tiles + ROW_TILES[registers]
    return tiles


def estimates(
    problem: Problem, machine: Machine, threads: int, axes: tuple[Axis, ...], groups: tuple[Group, ...],
    tile: Tile, *, cropped: bool = False,
) -> Iterator[GatherPlan]:  # fmt: skip
    """The plans of one tile, one for each way to cut the problem."""
    item = ACCUMULATOR_BYTES[problem.dtype]
    lanes = machine.instruction_set.lanes(item)
    recipe = recipe_for(problem, machine, axes)
    if tile.dataflow == "in_place":
        blocks = bands(problem, axes, threads)
        widest = max(band_tiles(problem, axes, blocks, lanes), key=lambda tile: tile.vectors)
        if tile == widest:  # it stands for all of a box
            cycles = band_cycles(problem, axes, blocks, machine.instruction_set, lanes, threads)
            yield GatherPlan(problem, recipe, tile, machine, threads, axes, groups, blocks, cycles, cropped)
        return
    for blocks in cuts(problem, axes, groups, tile, machine, lanes, threads, item):
        cycles = task_cycles(problem, axes, groups, tile, blocks, machine, lanes, item)
        cycles *= _turns(problem, axes, blocks, threads)
        yield GatherPlan(
            problem, recipe, tile, machine, threads, axes, groups, blocks, cycles, cropped
        )  # fmt: skip


def _turns(problem: Problem, axes: tuple[Axis, ...], blocks: Blocks, threads: int) -> float:
    """Full tasks that the busiest thread computes one after the other; those at the border are smaller.

    Groups that a task packs together count as tasks of their own.
    """
    cells = (problem.batch, *(a.cells for a in axes))
    chunks = ceil(problem.outputs / blocks.chunk_outputs)
    full = problem.groups * prod(c / b for c, b in zip(cells, blocks.box, strict=True))
    full *= chunks / blocks.chunks_per_task
    tasks = problem.groups * boxes_over(cells, blocks.box) * ceil(chunks / blocks.chunks_per_task)
    whole = problem.groups * prod(c // b for c, b in zip(cells, blocks.box, strict=True))
    whole *= chunks // blocks.chunks_per_task
    return max(full / threads, ceil(whole / threads), ceil(tasks / threads) - (tasks - full))
