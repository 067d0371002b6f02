"""Plans: for a problem, the kernel that will run, how the work is cut, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, product
from math import ceil, prod

from outstride.planner.ahead import Ahead, lines_ahead
from outstride.planner.axes import Axis, Group, product_groups, single_phases
from outstride.planner.bands import (
    band_cycles,
    band_vectors,
    bands,
    in_place,
    spreads,
    widest_tile,
    window_of,
)
from outstride.planner.blocks import Blocks, Way, boxes_over, cuts, pixel_tiles, rows_of
from outstride.planner.cost import task_cycles
from outstride.planner.machine import Machine
from outstride.planner.problem import Problem
from outstride.planner.recipe import ACCUMULATOR_BYTES, Recipe
from outstride.planner.tiles import (
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
        groups = ceil(self.problem.groups / self.blocks.groups_per_task)
        return groups * self.boxes * ceil(self.chunks / self.blocks.chunks_per_task)

    @property
    def boxes(self) -> int:
        """Boxes of a group."""
        return boxes_over((self.problem.batch, *(a.cells for a in self.axes)), self.blocks.box)

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
            return blocks.box[0] * band_vectors(window_of(self.problem), blocks, self.lanes) * self.lanes
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


@lru_cache(maxsize=4096)
def plan_for(problem: Problem, machine: Machine, threads: int) -> GatherPlan:
    """The plan with the fewest predicted cycles; between two coarse sizes, of the plans that suit the larger.

    To cost every way to cut a problem takes as long as a small layer runs, and inputs come in new sizes.
    """
    coarse = problem.coarse()
    plans = _ranked(coarse, machine, threads)
    if coarse is not problem:
        close = plans[0].predicted_cycles * _CLOSE
        models = [plan for plan in plans[:2] if plan.predicted_cycles <= close]
        plans = tuple(chain.from_iterable(_fitted(plan, problem) for plan in models))
    return min(plans or _ranked(problem, machine, threads), key=lambda plan: plan.predicted_cycles)


#: The second best plan of a coarse size is fitted to another, too, if it is so near: they may change places.
_CLOSE = 1.1


@lru_cache(maxsize=1024)
def _ranked(problem: Problem, machine: Machine, threads: int) -> tuple[GatherPlan, ...]:
    """The best plan of every tile, the best first."""
    best: dict[Tile, GatherPlan] = {}
    for cropped in _croppings(problem, machine):
        axes = problem.axes(cropped=cropped)
        for tile in tiles_for(problem, machine):
            groups = phase_groups(tile, axes)
            for plan in estimates(problem, machine, threads, axes, groups, tile, cropped=cropped):
                if tile not in best or plan.predicted_cycles < best[tile].predicted_cycles:
                    best[tile] = plan
    return tuple(sorted(best.values(), key=lambda plan: plan.predicted_cycles))


def _croppings(problem: Problem, machine: Machine) -> tuple[bool, ...]:
    """The ways to count cells: kernels that read in place and spread it count them from output 0."""
    if in_place(problem, machine) and spreads(problem):
        return (True,)
    return (False, True) if _may_crop(problem) else (False,)


def _may_crop(problem: Problem) -> bool:
    """Whether cells may be counted from the first output that is kept: small maps lose outputs to padding."""
    axes = zip(problem.stride, problem.padding, problem.output_size, strict=True)
    return problem.operator == "conv_transpose" and any(s > 1 and p > 0 and o <= 512 for s, p, o in axes)


def _fitted(model: GatherPlan, problem: Problem) -> Iterator[GatherPlan]:
    """The model's plan for a size up to its own: the same boxes, or the same tile, passes and way to cut."""
    axes = problem.axes(cropped=model.cropped)
    if _same_boxes(model, problem, axes):
        blocks, threads = model.blocks, model.threads
        tasks = _turns(problem, axes, blocks, threads) / _turns(model.problem, model.axes, blocks, threads)
        cycles = model.predicted_cycles * tasks
        yield replace(model, problem=problem, axes=axes, predicted_cycles=cycles)
        return
    groups = phase_groups(model.tile, axes)
    way, cropped = model.blocks.way, model.cropped
    yield from estimates(
        problem, model.machine, model.threads, axes, groups, model.tile, way, cropped=cropped
    )


def _same_boxes(model: GatherPlan, problem: Problem, axes: tuple[Axis, ...]) -> bool:
    """Whether boxes of another size serve as they are: those axes that differ are longer than a box."""
    if model.tile.dataflow == "in_place" or model.problem.past_caches != problem.past_caches:
        return False
    changes = zip(model.axes, axes, model.blocks.box[1:], strict=True)
    return all(a.cells == b.cells or n < min(a.cells, b.cells) for a, b, n in changes)


def phase_groups(tile: Tile, axes: tuple[Axis, ...]) -> tuple[Group, ...]:
    """The phases that share a tile: one each where the lanes of results are neighbouring outputs."""
    return _phase_groups(axes, single=tile.outputs_together)


@lru_cache(maxsize=64)
def _phase_groups(axes: tuple[Axis, ...], *, single: bool) -> tuple[Group, ...]:
    groups = product_groups(axes)
    return single_phases(groups) if single else groups


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
    tile: Tile, only: Way | None = None, *, cropped: bool = False,
) -> Iterator[GatherPlan]:  # fmt: skip
    """The plans of one tile, one for each way to cut the problem, or for one way."""
    item = ACCUMULATOR_BYTES[problem.dtype]
    lanes = machine.instruction_set.lanes(item)
    recipe = recipe_for(problem, machine, axes)
    if tile.dataflow == "in_place":
        blocks = bands(problem, axes, threads)
        if tile == widest_tile(window_of(problem), blocks, lanes):
            cycles = band_cycles(problem, axes, blocks, machine.instruction_set, lanes, threads)
            yield GatherPlan(problem, recipe, tile, machine, threads, axes, groups, blocks, cycles, cropped)
        return
    for blocks in cuts(problem, axes, groups, tile, machine, lanes, threads, item, only):
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
