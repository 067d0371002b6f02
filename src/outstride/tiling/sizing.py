"""How large a tile is: what tiles of any size would take, and the largest that memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

from outstride.errors import ShapeError
from outstride.models.node import listed
from outstride.tiling.box import Box, Interval, elements, whole
from outstride.tiling.budget import MOST_RECOMPUTED, NEAR_BYTES, rounded_up, spelled
from outstride.tiling.costs import clock
from outstride.tiling.costs.memory import Bytes, bytes_of
from outstride.tiling.costs.times import cycles_of
from outstride.tiling.evaluation import Need, Program
from outstride.tiling.outputs import Outputs
from outstride.tiling.passes.scheduling import Scheduler
from outstride.tiling.passes.walk import Schedule

#: Tiles start at multiples of this, so that few strides and vectors are cut, where memory holds such.
_ALIGNMENT = 16
#: Budgets that are tried to find the least: what is kept depends on them.
_TRIES = 8


@dataclass(frozen=True)
class Tiles:
    """What tiles of any size would take, behind the passes."""

    program: Program
    outputs: Outputs
    schedule: Schedule

    def need(self, tile: Sequence[int]) -> Need:
        """What a tile in the middle needs."""
        return self._need(_middle(self.program, self.outputs, tile))

    def _need(self, tile: Box) -> Need:
        return self.program.needs(self.outputs.boxes(tile), given=self.schedule.given)

    def taken(self, tile: Sequence[int]) -> Bytes:
        """The most that a tile takes, in the middle or at the border, where some read both ends."""
        places = self._places(tile)
        corners = [self._need(self._at([axis[end] for axis in places])) for end in (0, -1)]
        found = [bytes_of(self.program, need) for need in (self.need(tile), *corners)]
        return Bytes(max(each.tensors for each in found), max(each.kept for each in found))

    def seconds(self, tile: Sequence[int]) -> float:
        """How long one takes on the average of those in the middle and at the border."""
        found, count = 0.0, 0
        for place in product(*map(_kinds, self._places(tile))):
            times = prod(times for _, times in place)
            need = self._need(self._at([interval for interval, _ in place]))
            found += times * cycles_of(self.program, need, self.schedule.in_memory)
            count += times
        return found / max(count, 1) / clock.cycles_a_second()

    def _places(self, tile: Sequence[int]) -> list[list[Interval]]:
        """Where the tiles lie along each axis."""
        sizes = zip(self.outputs.shape[-len(tile) :], tile, strict=True)
        return [[(a, min(a + t, n)) for a in range(0, n, t)] or [(0, 0)] for n, t in sizes]

    def _at(self, place: Sequence[Interval]) -> Box:
        """A tile of one image."""
        return (*_one_image(self.outputs.shape, len(place))[: -len(place)], *place)

    def everything(self) -> Need:
        """What the whole needs, without any passes."""
        targets = {walk.target for walk in self.schedule.walks} | set(self.outputs.indices)
        return self.program.needs(
            {index: whole(self.program.graph.nodes[index].shape) for index in targets}, given=()
        )

    def _computed(self, need: Need) -> int:
        return sum(elements(self.program.computed(need, index)) for index in need.parts)

    def chosen(
        self, sizes: tuple[int, ...], multiples: Sequence[int] | None, budget: int
    ) -> tuple[int, ...]:  # fmt: skip
        """The largest tile within the budget; a smaller one that stays in caches, if little is made twice.

        Raises:
            ShapeError: the passes or the smallest tile take more; it says how much would do.
        """
        chosen, peak = self.fitting(sizes, multiples, budget)
        passes = self.schedule.peak_bytes
        if max(peak, passes) > budget:
            smallest = f"the smallest, {' x '.join(map(str, chosen))}, takes {spelled(peak)}"
            taking = (
                f"before the tiles the passes take more{_needing_all(self.program)}"
                if passes > budget
                else smallest + self._reason(chosen)
            )
            least = spelled(least_memory(self.program, self.outputs, sizes, multiples))
            raise ShapeError(
                f"'memory' must hold one tile: got {spelled(budget)}, and {taking}; legal: {least} or more"
                + ("" if passes > budget else ", or a 'tile'")
            )
        return chosen

    def fitting(
        self, sizes: tuple[int, ...], multiples: Sequence[int] | None, budget: int
    ) -> tuple[tuple[int, ...], int]:  # fmt: skip
        """That tile, or one of those that take the least, and how much is taken with it."""
        held, found = self.schedule.held_bytes, dict[tuple[int, ...], int]()
        chosen, aligned = sizes, tuple(multiples or (_ALIGNMENT,) * len(sizes))
        while True:
            taken = self.taken(chosen)
            peak = found[chosen] = held + taken.peak
            if peak <= min(budget, held + taken.kept + NEAR_BYTES):
                return chosen, peak
            smaller = min(_halved(chosen, aligned), key=self.recomputed, default=None)
            if peak <= budget and (smaller is None or self.recomputed(smaller) > MOST_RECOMPUTED):
                return chosen, peak
            while smaller is None and not multiples and max(aligned) > 1:
                aligned = tuple(ceil(n / 2) for n in aligned)
                smaller = min(_halved(chosen, aligned), key=self.recomputed, default=None)
            if smaller is None:
                return min(found.items(), key=lambda each: each[1])
            chosen = smaller

    def recomputed(self, tile: tuple[int, ...]) -> float:
        """Elements that a tile in the middle computes, as a multiple of its share of all tiles'."""
        one, middle = self._need(_one_image(self.outputs.shape, len(tile))), self.need(tile)
        share = self._main(middle) / max(self._main(one), 1)
        return self._computed(middle) / max(share * self._computed(one), 1)

    def recomputed_in_all(self, tile: tuple[int, ...], everything: Need) -> float:
        """Elements that passes and tiles compute for each element that the whole computes."""
        middle = self.need(tile)
        count = elements(whole(self.outputs.shape)) / max(self._main(middle), 1)
        passes = sum(walk.computed for walk in self.schedule.walks)
        return (self._computed(middle) * count + passes) / max(self._computed(everything), 1)

    def _reason(self, tile: Sequence[int]) -> str:
        """Why a small tile takes much."""
        middle = self.schedule.held_bytes + bytes_of(self.program, self.need(tile)).peak
        if self.schedule.held_bytes + self.taken(tile).peak > 2 * middle:
            return f" at the border, where it reads both ends of an axis, and {spelled(middle)} elsewhere"
        return _needing_all(self.program)

    def _main(self, need: Need) -> int:
        return elements(need.outputs[self.outputs.main])


def least_memory(
    program: Program, outputs: Outputs, sizes: tuple[int, ...], multiples: Sequence[int] | None
) -> int:  # fmt: skip
    """About the least budget for which there are passes and tiles that keep within it."""
    budget = 0
    for _ in range(_TRIES):
        tiles = Tiles(program, outputs, Scheduler(program, outputs.indices, budget).schedule())
        taken = max(tiles.schedule.peak_bytes, tiles.fitting(sizes, multiples, budget)[1])
        if taken <= budget:
            break
        budget = rounded_up(taken)
    return budget


def _kinds(places: Sequence[Interval]) -> list[tuple[Interval, int]]:
    """The first, one in the middle and the last, each with how many are like it."""
    middle = [(places[len(places) // 2], len(places) - 2)] if len(places) > 2 else []
    return [(places[0], 1), *middle, *([(places[-1], 1)] if len(places) > 1 else [])]


def _halved(tile: Sequence[int], aligned: Sequence[int]) -> list[tuple[int, ...]]:
    """Tiles of about half the size, each cut along another side, the longest first."""
    found = []
    for axis in sorted(range(len(tile)), key=lambda axis: -tile[axis]):
        cut = ceil(tile[axis] / 2 / aligned[axis]) * aligned[axis]
        if cut < tile[axis]:
            found.append((*tile[:axis], cut, *tile[axis + 1 :]))
    return found


def _middle(program: Program, outputs: Outputs, tile: Sequence[int]) -> Box:
    """A tile in the middle, of one image."""
    shape = outputs.shape
    boxes = list(_one_image(shape, len(tile)))
    for axis, size in enumerate(tile, len(shape) - len(tile)):
        number = shape[axis] // 2 // size if shape[axis] > 2 * size else 0
        if program.is_aligned and number:
            number -= 1 - number % 2  # an odd one cuts the cells that a tile of this size cuts
        start = number * size
        boxes[axis] = (start, min(start + size, shape[axis]))
    return tuple(boxes)


def _one_image(shape: Sequence[int], tiled: int) -> Box:
    boxes = list(whole(shape))
    if len(shape) > tiled + 1:
        boxes[0] = (0, min(shape[0], 1))
    return tuple(boxes)


def _needing_all(program: Program) -> str:
    names = listed(program.graph.nodes[i] for i in program.wholes)
    return f", as {names} needs every pixel" if names else ""
