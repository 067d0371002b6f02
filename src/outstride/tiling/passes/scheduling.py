"""Which passes there are: what is gone through, and what is kept of it or made again.

What looks at a whole map, a barrier, takes one or two walks over it, in slabs in the order of its elements.
Maps that later walks or tiles need again are kept, in memory or in a file, or made again, whichever is
predicted to take less time. Of each tensor that a walk makes and something later reads, too, the same is
asked, so that what is made again never reaches far back.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from math import ceil, lcm, prod
from typing import NamedTuple

from outstride.models.operators.describing import VIEWS, describe
from outstride.tiling.box import elements, whole
from outstride.tiling.budget import MOST_RECOMPUTED, NEAR_BYTES
from outstride.tiling.costs.clock import cycles_a_second
from outstride.tiling.costs.memory import bytes_of, kept_bytes
from outstride.tiling.costs.times import FILE, MEMORY, cycles_of, folding_cycles, writing_cycles
from outstride.tiling.evaluation import Need, Program
from outstride.tiling.passes.walk import Schedule, Walk, outputs_of

#: Share of the budget up to which a map is taken to stay in memory while it is not known yet.
_SMALL = 0.25
#: Share of the budget that kept maps may fill beside a slab: what runs takes memory of its own.
_FILLED = 0.75
#: How much more than the least that boxes can take is taken for as much, where the budget is not enough.
_ABOUT = 1.1


class _Taken(NamedTuple):
    """What slabs take: each of them bytes, and of those what stays for the next; all of them the rest."""

    peak_bytes: int
    kept_bytes: int
    cycles: float
    computed: int


class Scheduler:
    """Decides which walks there are, one after the other in the order of the model."""

    def __init__(self, program: Program, outputs: Sequence[int], budget: int) -> None:
        self._program, self._outputs, self._budget = program, set(outputs), budget
        self._nodes = program.graph.nodes
        self._users: dict[int, list[int]] = {}
        for index, node in enumerate(self._nodes):
            for source in node.sources:
                self._users.setdefault(source, []).append(index)

    def schedule(self) -> Schedule:
        """All walks."""
        drafts = list[tuple[Walk, frozenset[int]]]()
        given = frozenset[int]()
        events = self._events()
        for place, (target, barriers) in enumerate(events):
            later = {event[0] for event in events[place + 1 :]} | self._outputs
            walks = self._walks(target, barriers, given, later)
            for walk in walks:
                for step in self._in_steps(walk, given):
                    drafts.append((step, given))
                    given |= set(step.writes)
        return self._placed(self._closing(drafts))

    def _events(self) -> list[tuple[int, tuple[int, ...]]]:
        """Tensors that have to be whole, in order: anchors, and what barriers look at."""
        found: dict[int, list[int]] = {}
        for index in self._program.wholes:
            barrier = self._program.barriers.get(index)
            target = index if barrier is None else self._nodes[index].sources[0]
            found.setdefault(target, [])
            if barrier is not None:
                found[target].append(index)
        return [(target, tuple(barriers)) for target, barriers in found.items()]

    def _walks(
        self, target: int, barriers: Sequence[int], given: frozenset[int], later: set[int]
    ) -> list[Walk]:
        """Those over one tensor."""
        shape = self._nodes[target].shape
        if not barriers:
            return [Walk(target, shape, shape, names=self._names([target]), whole=True)]
        draft = Walk(target, shape, (1, *shape[1:]))
        found = {index: self._program.barriers[index] for index in barriers}
        in_turn = {index: barrier.in_turn(self._nodes[index]) for index, barrier in found.items()}
        apart = [index for index, channels in in_turn.items() if channels > 1]
        folds = {index: barrier.walks for index, barrier in found.items() if index not in apart}
        is_there = target in self._program.graph.inputs or target in given
        count = max([*folds.values(), 0 if is_there else 1])
        keeps = () if is_there else self._kept(target, count, given, later, bool(apart))
        walks = []
        for number in range(count):
            taking = tuple((index, number) for index, times in folds.items() if number < times)
            names = self._names(barriers if not taking else [index for index, _ in taking])
            walks.append(replace(draft, names=names, folds=taking, writes=() if number else keeps))
        if apart:
            taking = tuple((index, 0) for index in apart)
            together = lcm(*(in_turn[index] for index in apart))
            walks.append(Walk(target, shape, (1, *shape[1:]), together, self._names(apart), taking))
        return walks

    def _in_steps(self, walk: Walk, given: frozenset[int]) -> list[Walk]:
        """Boxes of any shape that are kept first, where slabs that are complete do not fit or take longer."""
        if not walk.folds or walk.target in given:
            return [walk]
        slabs, taken = self._boxes(walk, given)
        if len(slabs) == 1:
            return [walk]
        kept = tuple({walk.target, *walk.writes})
        first, then = replace(walk, folds=(), writes=kept), replace(walk, writes=())
        boxes, taken_then = self._boxes(first, given)
        anew = self._size(walk.target) * FILE * (1 + (walk.target not in walk.writes))
        if taken.peak_bytes <= self._budget and taken.cycles <= taken_then.cycles + anew:
            return [walk]
        return [first, then] if taken_then.peak_bytes < taken.peak_bytes or len(boxes) > 1 else [walk]

    def _names(self, indices: Sequence[int]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._nodes[index].called for index in indices))

    def _kept(
        self, target: int, walks: int, given: frozenset[int], later: set[int], is_read: bool
    ) -> tuple[int, ...]:
        """What is kept of all that the first walk makes; ``is_read``: the target in any case."""
        shape = whole(self._nodes[target].shape)
        now = self._program.need(target, shape, given=given)
        kept = list[int]()
        uses = walks - 1 + (target in self._needed(later, given | {target}).boxes)
        if is_read or (uses and self._is_worth(target, uses, given)):
            kept.append(target)
        needed = self._needed(later, given | set(kept))
        for index in sorted(now.parts, reverse=True):
            leaves = any(user in needed.parts and user not in now.parts for user in self._users[index])
            if index not in needed.parts or not leaves or not self._can_go_beside(index, target):
                continue
            if self._is_worth(index, 1, given | set(kept)):
                kept.append(index)
                needed = self._needed(later, given | set(kept))
        return tuple(kept)

    def _needed(self, targets: set[int], given: Container[int]) -> Need:
        return self._program.needs({i: whole(self._nodes[i].shape) for i in targets}, given=given)

    def _can_go_beside(self, index: int, target: int) -> bool:
        shape, other = self._nodes[index].shape, self._nodes[target].shape
        is_map = len(shape) == len(other) and len(shape) > 2 and prod(shape[2:]) > 1
        return is_map and not isinstance(describe(self._nodes[index]), VIEWS)

    def _is_worth(self, index: int, uses: int, given: frozenset[int]) -> bool:
        """Whether keeping a tensor takes less time than making it so many times more."""
        shape = whole(self._nodes[index].shape)
        size = elements(shape) * self._nodes[index].dtype.itemsize
        rate = MEMORY if self._is_small(index) else FILE
        need = self._program.need(index, shape, given=given)
        return (1 + uses) * size * rate < uses * cycles_of(self._program, need)

    def _closing(self, drafts: list[tuple[Walk, frozenset[int]]]) -> list[tuple[Walk, frozenset[int]]]:
        """The same with what each reads, and without what nothing reads."""
        last: dict[int, int] = {}
        reads = list[tuple[int, ...]]()
        for number, (walk, given) in enumerate(drafts):
            need = self._needed({walk.target, *walk.writes}, given)
            read = tuple(index for index in need.boxes if index in given)
            reads.append(read)
            last |= dict.fromkeys(read, number)
        tiles = self._needed(self._outputs, frozenset[int]().union(*(set(w.writes) for w, _ in drafts)))
        last |= dict.fromkeys(tiles.boxes, len(drafts))
        found = []
        for number, (walk, given) in enumerate(drafts):
            writes = tuple(index for index in walk.writes if last.get(index, -1) > number)
            closes = tuple(index for index in reads[number] if last[index] == number)
            has = frozenset(index for index in given if last.get(index, -1) >= number)
            found.append((replace(walk, writes=writes, reads=reads[number], closes=closes), has))
        return found

    def _placed(self, drafts: list[tuple[Walk, frozenset[int]]]) -> Schedule:
        """Slabs, and where each kept tensor lies: in memory, the smallest first, as long as there is room."""
        walks = [self._cut(walk, given) for walk, given in drafts]
        count = len(walks)
        held = [0] * (count + 1)
        for number, walk in enumerate(walks):
            if walk.whole:
                for after in range(number + 1, count + 1):
                    held[after] += self._size(walk.target)
        lives = dict[int, range]()
        for number, walk in enumerate(walks):
            for index in walk.writes:
                ends = [n for n in range(number, count) if index in walks[n].closes]
                lives[index] = range(number, ends[0] + 1 if ends else count + 1)
        tiles = self._needed(self._outputs, {index for index, life in lives.items() if count in life})
        filled, near = int(_FILLED * self._budget), NEAR_BYTES + kept_bytes(self._program, tiles)
        room = [filled - peak for peak in (*(walk.peak_bytes for walk in walks), near)]
        in_memory = set[int]()
        for index in sorted(lives, key=self._size):
            if all(held[n] + self._size(index) <= room[n] for n in lives[index]):
                in_memory.add(index)
                for n in lives[index]:
                    held[n] += self._size(index)
        for number, ((_, given), walk) in enumerate(zip(drafts, walks, strict=True)):
            walks[number] = replace(
                walk, seconds=self._seconds(walk, given, in_memory), inputs=self._inputs(walk, given)
            )
        peaks = [h + walk.peak_bytes for h, walk in zip(held, walks, strict=False)]
        return Schedule(
            tuple(walks), frozenset(in_memory), frozenset(lives) - in_memory, held[-1], max(peaks, default=0),
            {index: self._size(index) for index in lives},
        )  # fmt: skip

    def _seconds(self, walk: Walk, given: frozenset[int], in_memory: Container[int]) -> float:
        """How long a walk takes: what it makes and reads, folds and keeps."""
        need = self._need_of(walk, given)
        cycles = cycles_of(self._program, need, in_memory) * len(walk)
        cycles += self._writing(walk, need, in_memory) * len(walk)
        cycles += sum(folding_cycles(self._nodes[index], len(walk)) for index, _ in walk.folds)
        return cycles / cycles_a_second()

    def _writing(self, walk: Walk, need: Need, in_memory: Container[int]) -> float:
        """What keeping takes of a box."""
        boxes = ((index, need.outputs[index]) for index in walk.writes)
        return sum(writing_cycles(self._nodes[index], box, index in in_memory) for index, box in boxes)

    def _is_small(self, index: int) -> bool:
        """Whether it is taken to stay in memory."""
        return self._size(index) <= _SMALL * self._budget

    def _inputs(self, walk: Walk, given: frozenset[int]) -> int:
        """Elements of inputs that a walk reads."""
        pieces = self._need_of(walk, given).pieces
        each = sum(elements(box) for index in self._program.graph.inputs for box in pieces.get(index, ()))
        return each * len(walk)

    def _need_of(self, walk: Walk, given: frozenset[int]) -> Need:
        """What a box in the middle of a walk needs."""
        box = walk.box(len(walk) // 2)
        return self._program.needs(outputs_of(self._program, walk, box), given=given)

    def _size(self, index: int) -> int:
        return prod(self._nodes[index].shape) * self._nodes[index].dtype.itemsize

    def _cut(self, walk: Walk, given: frozenset[int]) -> Walk:
        """The same in boxes of a good size."""
        found, taken = self._boxes(walk, given)
        return replace(found, peak_bytes=taken.peak_bytes, computed=taken.computed)

    def _boxes(self, walk: Walk, given: frozenset[int]) -> tuple[Walk, _Taken]:
        """The largest boxes within the budget, or smaller ones that stay in the caches.

        Where none fits, the largest of those that take about as little as any.
        """
        taken = self._taken(walk, given)
        tried = [(walk, taken)]
        least: float | None = None
        while not walk.whole:
            if taken.peak_bytes <= self._budget and least is None:
                least = taken.cycles
            if taken.peak_bytes <= min(self._budget, taken.kept_bytes + NEAR_BYTES):
                break
            smaller = [(each, self._taken(each, given)) for each in _halved(walk)]
            if not smaller:
                break
            walk_then, taken_then = min(smaller, key=lambda each: each[1].cycles)
            if least is not None and taken_then.cycles > MOST_RECOMPUTED * least:
                break
            walk, taken = walk_then, taken_then
            tried.append((walk, taken))
        if taken.peak_bytes > self._budget:
            enough = _ABOUT * min(taken.peak_bytes for _, taken in tried)
            return next(each for each in tried if each[1].peak_bytes <= enough)
        return self._reshaped(walk, taken, given) if len(tried) > 1 and not walk.folds else (walk, taken)

    def _reshaped(self, walk: Walk, taken: _Taken, given: frozenset[int]) -> tuple[Walk, _Taken]:
        """Boxes of about the same size that take less time, as one axis after the other was cut."""
        while True:
            longer = (each for half in _halved(walk) for each in _doubled(half) if each.size != walk.size)
            others = [(each, self._taken(each, given)) for each in longer]
            fit = [each for each in others if each[1].peak_bytes <= self._budget]
            walk_then, taken_then = min(fit, key=lambda each: each[1].cycles, default=(walk, taken))
            if taken_then.cycles >= taken.cycles:
                return walk, taken
            walk, taken = walk_then, taken_then

    def _taken(self, walk: Walk, given: frozenset[int]) -> _Taken:
        """What the slabs of a walk take."""
        need, count = self._need_of(walk, given), len(walk)
        ends = sum(self._program.bytes_of(need, index) for index in need.outputs)
        folding = ends + self._program.bytes_of(need, walk.target) if walk.folds else 0
        computed = sum(elements(self._program.computed(need, index)) for index in need.parts)
        made, small = bytes_of(self._program, need), {*filter(self._is_small, {*given, *walk.writes})}
        cycles = cycles_of(self._program, need, small) + self._writing(walk, need, small)
        return _Taken(
            max(made.tensors, folding) + made.kept, made.kept, cycles * count, computed * count
        )  # fmt: skip


def _halved(walk: Walk) -> Iterator[Walk]:
    """Boxes of half the size, along any axis, or where something is folded in the order of its elements."""
    channels = walk.size[1]
    if walk.in_turn > 1 and channels > 1:
        fewer = ceil(channels / 2 / walk.in_turn) * walk.in_turn
        yield replace(walk, size=_with(walk.size, 1, fewer if fewer < channels else 1))
        return
    axes = [axis for axis in range(2, len(walk.shape)) if walk.size[axis] > 1]
    for axis in axes[:1] if walk.folds else axes:
        yield replace(walk, size=_with(walk.size, axis, ceil(walk.size[axis] / 2)))


def _doubled(walk: Walk) -> Iterator[Walk]:
    """Boxes of about twice the size."""
    for axis, size in enumerate(walk.size[2:], 2):
        if size < walk.shape[axis]:
            yield replace(walk, size=_with(walk.size, axis, min(2 * size, walk.shape[axis])))


def _with(size: Sequence[int], axis: int, count: int) -> tuple[int, ...]:
    return (*size[:axis], count, *size[axis + 1 :])
