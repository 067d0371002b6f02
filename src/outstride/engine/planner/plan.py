"""Plans: for a problem, the kernel that will run, how the work is cut, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import ceil, prod
from operator import itemgetter

from outstride.engine.planner.blocking import Blocking, boxes_over, ranges_of
from outstride.engine.planner.cost import tasks_in_turn
from outstride.engine.planner.dataflow import Candidate, Tile
from outstride.engine.planner.dataflows import ALONE, SHARED
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES
from outstride.engine.planner.gather_form import (
    AxisPhases,
    GatherAxis,
    PhaseGroup,
    product_groups,
    single_phases,
)
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.prefetch import Prefetch
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.recipe import Recipe
from outstride.layer.shortening import MOST_STEP

#: Work of fewer cycles is done before other threads have begun, found their operands in another core's cache
#: and been waited for: layers of 17 us and less took up to twice as long
#: (docs/decisions/0084-small-layers-run-alone.md).
ALONE_CYCLES = 32_000


@dataclass(frozen=True)
class GatherPlan(Candidate):
    """What runs for a problem: the tile, the recipe of the kernel, the blocking, and its predicted cost."""

    recipe: Recipe
    blocking: Blocking
    predicted_cycles: float

    @property
    def tasks(self) -> int:
        """Units of work that threads take."""
        return self.tasks_over([a.cells for a in self.axes])

    def tasks_over(self, cells: Sequence[int]) -> int:
        """Units of work of so many cells on each axis."""
        groups = ceil(self.problem.groups / self.blocking.groups_per_task)
        boxes = boxes_over((self.problem.batch, *cells), self.blocking.box)
        return groups * boxes * ceil(self.chunks(self.blocking) / self.blocking.chunks_per_task)

    @property
    def loop(self) -> str:
        """The loop that its tiles are called in."""
        return self.dataflow.loop(self.blocking)

    @property
    def later_loop(self) -> str:
        """The loop that leaves results in scratch, for outputs that do not lie as tiles would store them."""
        return self.dataflow.loop(replace(self.blocking, direct=False))

    @property
    def tile_work(self) -> int:
        """Multiply-adds of all register tiles for one channel, lost lanes included.

        But for taps that boxes and tiles leave out of axes which are not cut.
        """
        rows, b = self.result_rows(self.blocking), self.blocking
        work = 0
        for count, box in self._boxes_of_each_size():
            regions, pixels = b.regions[:1], [self.dataflow.pixels_over(self, box)]
            if any(b.cut):
                regions, pixels = (
                    box.regions,
                    [n * self.tile_pixels for n in box.listed_tiles(self.tile.rows)],
                )
            for region, n in zip(regions, pixels, strict=True):
                first = [start for start, _ in region]
                work += (
                    count * n * sum(r * self._taps(g, first) for r, g in zip(rows, self.groups, strict=True))
                )
        return self.problem.groups * self.chunks(self.blocking) * work

    def _taps(self, group: PhaseGroup, cell: Sequence[int]) -> int:
        """The taps of a group that a cell does not leave out, as a cell of an axis that is cut."""
        axes = zip(self.axes, self.blocking.cut, group.axes, cell, strict=True)
        return prod(a.used(g.offsets, at) if cut else len(g.offsets) for a, cut, g, at in axes)

    def _boxes_of_each_size(self) -> Iterator[tuple[int, Blocking]]:
        """How many boxes there are of each size: those in the end may be smaller."""
        each = [
            [(n // b, b), *([(1, n % b)] if n % b else [])]
            for n, b in zip(self.cells, self.blocking.box, strict=True)
        ]
        for sizes in product(*each):
            images, depth, height, width = (block for _, block in sizes)
            ranges = ranges_of(self.axes, (depth, height, width), self.blocking.cut)
            blocking = replace(self.blocking, box=(images, depth, height, width), ranges=ranges)
            yield prod(count for count, _ in sizes), blocking

    @property
    def stretches(self) -> bool:
        """Whether some axis is longer than a box, so that other lengths of it may be served as well."""
        return any(block < a.cells for a, block in zip(self.axes, self.blocking.box[1:], strict=True))

    def serves(self, problem: Problem, cells: Sequence[int]) -> bool:
        """Whether its boxes are those of a problem of another size.

        Where sizes differ, both are longer than a box; where an axis is cut, the input's are the same, too.
        """
        changes = zip(self.axes, cells, self.blocking.box[1:], strict=True)
        same = all(a.cells == c or block < min(a.cells, c) for a, c, block in changes)
        inputs = zip(self.blocking.cut, self.axes, problem.input_size, strict=True)
        same &= all(a.input_size == n for cut, a, n in inputs if cut)
        return same and problem.nontemporal == self.problem.nontemporal and self.dataflow.serves_other_sizes

    @property
    def prefetch(self) -> Prefetch:
        """What is prefetched of the input that is packed next."""
        return self.dataflow.prefetch(self, self.blocking)


def recipe_for(problem: Problem, machine: Machine, axes: tuple[GatherAxis, ...]) -> Recipe:
    """The kernel that can compute the problem, at any size and with any of its tiles."""
    most_in, most_out = (MOST_STEP, MOST_STEP) if problem.short else (4, 8)
    in_step, out_step = problem.input_axes(axes)[2].in_step, axes[2].out_step
    flows = list(dict.fromkeys(tile.dataflow for tile in tiles_for(problem, machine)))
    each = [flow.loops(problem) for flow in flows]
    # The first loop of every dataflow comes first.
    loops = dict.fromkeys([own[0] for own in each] + [loop for own in each for loop in own[1:]])
    return Recipe(
        problem.dtype, machine.instruction_set.name, problem.in_unit, problem.out_unit,
        in_step if in_step <= most_in else 0, out_step if out_step <= most_out else 0,
        tuple(loops), flows[0].unrolled(problem), problem.epilogue,
        problem.short_axes if problem.short else (), problem.before, problem.unpacked,
    )  # fmt: skip


@lru_cache(maxsize=256)
def plan_for(problem: Problem, machine: Machine, threads: int) -> GatherPlan:
    """The plan with the fewest predicted cycles; between two coarse sizes, that of the larger made to fit.

    To cost every way to cut a problem takes as long as a small layer runs, and inputs come in new sizes.
    """
    shared = all(tile.dataflow.serves_other_sizes for tile in tiles_for(problem, machine))
    coarse = problem.coarse() if shared else problem
    best = _best(coarse, machine, threads)
    return best if coarse is problem else _fitted(best, problem)


def shared_plan(problem: Problem, machine: Machine, threads: int) -> GatherPlan:
    """The plan on so many threads, or on one alone where work is too little to be shared."""
    if threads > 1:
        isa = machine.instruction_set
        least = problem.terms / (isa.lanes(ACCUMULATOR_BYTES[problem.dtype]) * isa.fma_per_cycle)
        if least < ALONE_CYCLES:
            alone = plan_for(problem, machine, 1)
            if alone.predicted_cycles < ALONE_CYCLES:
                return alone
    return plan_for(problem, machine, threads)


def memoized() -> tuple[object, ...]:
    """The functions under ``lru_cache`` that keep plans."""
    return plan_for, _best


@lru_cache(maxsize=1024)
def _best(problem: Problem, machine: Machine, threads: int) -> GatherPlan:
    """Of every tile and every way to cut the problem the plan with the fewest predicted cycles."""
    # Only the best becomes a plan: making one takes as long as costing it.
    estimated = (
        (cycles, candidate, blocking)
        for candidate in _candidates(problem, machine, threads)
        for blocking, cycles in candidate.dataflow.estimates(candidate)
    )
    cycles, candidate, blocking = min(estimated, key=itemgetter(0))
    return planned(candidate, blocking, cycles)


def _candidates(problem: Problem, machine: Machine, threads: int) -> Iterator[Candidate]:
    """Every tile of a problem, with every way to count its cells."""
    tiles = tiles_for(problem, machine)
    for cropped in tiles[0].dataflow.croppings(problem):
        axes = problem.axes(cropped=cropped)
        for tile in tiles:
            yield Candidate(problem, tile, machine, threads, axes, phase_groups(tile, axes), cropped)


def planned(c: Candidate, blocking: Blocking, cycles: float) -> GatherPlan:
    """The plan of a tile and a way to cut the problem."""
    recipe = recipe_for(c.problem, c.machine, c.axes)
    return GatherPlan(
        c.problem, c.tile, c.machine, c.threads, c.axes, c.groups, c.cropped, recipe, blocking, cycles
    )  # fmt: skip


def _fitted(model: GatherPlan, problem: Problem) -> GatherPlan:
    """The model's plan for a size up to its own: its boxes, but no longer on any axis than the size is."""
    plan = replace(model, problem=problem, axes=problem.axes(cropped=model.cropped))
    flow, blocking, cycles = model.dataflow, model.blocking, model.predicted_cycles
    if not model.serves(problem, [a.cells for a in plan.axes]):
        blocking = flow.fitted(plan, blocking)
        cycles *= flow.pixels_over(plan, blocking) / flow.pixels_over(model, model.blocking)
    cycles *= tasks_in_turn(plan, blocking)
    cycles /= tasks_in_turn(model, model.blocking)
    return replace(plan, blocking=blocking, predicted_cycles=cycles)


def phase_groups(tile: Tile, axes: tuple[GatherAxis, ...]) -> tuple[PhaseGroup, ...]:
    """The phases that share a tile: one each where the lanes of results are neighbouring outputs."""
    return _phase_groups(tuple(a.groups for a in axes), single=tile.dataflow.outputs_together(tile))


@lru_cache(maxsize=256)
def _phase_groups(groups: tuple[tuple[AxisPhases, ...], ...], *, single: bool) -> tuple[PhaseGroup, ...]:
    found = product_groups(groups)
    return single_phases(found) if single else found


def tiles_for(problem: Problem, machine: Machine) -> tuple[Tile, ...]:
    """The register tiles of a layer, the same for all its sizes."""
    for flow in ALONE:
        tiles = flow.tiles(problem, machine)
        if tiles:
            return tiles
    return tuple(tile for flow in SHARED for tile in flow.tiles(problem, machine))
