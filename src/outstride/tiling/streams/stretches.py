"""Stretches: what one push makes of each tensor, of which parts, and what is kept of it for the next.

None of that depends on numbers, and once no layer sees the beginning any more the same comes again and again,
only further on. So positions are moved back there by whole periods: few states are met, and what was found
for one stretch holds for all like it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor, lcm
from typing import Any

from outstride.errors import ShapeError, UnsupportedError
from outstride.tiling.box import Box, Interval, complete_but, elements, replaced, whole
from outstride.tiling.evaluation import INPUT, Need
from outstride.tiling.streams.lengths import Captured, Lengths

#: States that are kept, and stretches from each.
_MOST_KEPT = 512
#: The longest period of models whose positions are moved back, and how many fit in half of what is captured.
_LONGEST, _PERIODS = 1 << 17, 4
#: Where in all of the length that is captured positions are moved to.
_PLACE = 0.26


@dataclass(eq=False)
class State:
    """Where a stream is: results that are done, and of which elements each tensor is held."""

    done: int
    held: Mapping[int, Interval] = field(default_factory=dict)
    """Of the input, as far as it was read."""
    settled: bool = False
    """Whether it stands for all like it, wherever they are."""
    onward: dict[int, Stretch] = field(default_factory=dict)
    """Stretches from here, by the results that are done at their end."""

    def moved(self, growth: Mapping[int, Fraction], by: int, output: int) -> State:
        """The same so many elements of the input further on."""
        held = {i: _moved(interval, growth[i], by) for i, interval in self.held.items()}
        return State(self.done + int(by * growth[output]), held)

    def is_like(self, other: State) -> bool:
        """Whether both are the same."""
        return self.done == other.done and self.held == other.held


@dataclass(eq=False)
class Stretch:
    """The way from one state to the next."""

    before: State
    need: Need
    kept: Mapping[int, Interval]
    """Of each tensor what is held at its end."""
    after: State
    """The state at its end, with positions moved back."""
    back: int = 0
    """By how many elements of the input they are."""
    met: int = 0
    """How often it has come."""
    prepared: Any = None
    """What does it at once."""


def reached(
    held: Mapping[int, Interval], need: Need, axes: Mapping[int, int], but: frozenset[int] = frozenset()
) -> dict[int, Interval]:
    """What is held of each tensor with what is made of it; of those apart from which it is, that alone."""
    found = dict(held)
    for index in need.parts:
        axis = axes.get(index)
        if axis is None or index in but:
            continue
        start, stop = need.boxes[index][axis]
        first, last = found.get(index, (start, start))
        found[index] = (first, stop) if last == start else (start, stop)
    return found


class Stretches:
    """Those of a model, found when they are first asked for."""

    def __init__(self, lengths: Lengths) -> None:
        #: Elements after which everything repeats, with the cells of short algorithms.
        self.period = _period(lengths)
        self._is_even = self.period <= _LONGEST and _is_even(lengths)
        if self._is_even:
            try:
                lengths.beyond(_PERIODS * self.period)
            except (ShapeError, UnsupportedError):  # it does not run at such lengths
                self._is_even = False
        self._lengths, self._far = lengths, lengths.far
        #: Settled states, by what tells them from others.
        self._states = dict[Any, State]()
        self._results = int(self.period * lengths.rate)
        # Not at a simple part of all, where torch's threads would part.
        self._middle = int(_PLACE * lengths.far.length)

    def to(self, state: State, stop: int) -> Stretch:
        """The stretch from a state to so many results."""
        found = state.onward.get(stop)
        if found is None:
            if len(state.onward) >= _MOST_KEPT:
                state.onward.clear()
            found = self._settled(stretch_of(self._far, self._lengths, state, stop))
            state.onward[stop] = found
        return found

    def _settled(self, stretch: Stretch) -> Stretch:
        """The same, its end moved to where all like it end if nothing in it sees the beginning."""
        by = self._to_the_middle(stretch.before) if self._is_even else 0
        further = by + self._middle // (2 * self.period) * self.period
        if stretch.before.settled or (
            self._is_even and self._repeats(stretch, by) and self._repeats(stretch, further)
        ):
            stretch.back = -self._to_the_middle(stretch.after)
            stretch.after = self._known(self._moved(stretch.after, -stretch.back))
        return stretch

    def _known(self, state: State) -> State:
        """The settled state that is like this one."""
        if len(self._states) >= _MOST_KEPT:
            self._states.clear()
        return self._states.setdefault(
            (state.done, *state.held.items()), replace(state, settled=True, onward={})
        )

    def _to_the_middle(self, state: State) -> int:
        """By how many elements a state is moved to be where no end is seen."""
        middle = floor(self._middle * self._lengths.rate)
        return -floor(Fraction(state.done - middle, self._results)) * self.period

    def _moved(self, state: State, by: int) -> State:
        return state.moved(self._lengths.growth, by, self._far.output)

    def _repeats(self, stretch: Stretch, by: int) -> bool:
        """Whether the same is made so many elements further on."""
        growth, axes = self._lengths.growth, self._lengths.axes
        stop = stretch.after.done + int(by * self._lengths.rate)
        other = stretch_of(self._far, self._lengths, self._moved(stretch.before, by), stop)
        if not other.after.is_like(self._moved(stretch.after, by)):
            return False

        def moved(index: int, box: Box | None) -> Box | None:
            axis = axes.get(index)
            if box is None or axis is None:
                return box
            return replaced(box, axis, _moved(box[axis], growth[index], by))

        return other.need.parts.keys() == stretch.need.parts.keys() and all(
            other.need.boxes[index] == moved(index, stretch.need.boxes[index])
            and list(other.need.parts[index])
            == [moved(i, part) for i, part in zip(self._far.nodes[index].sources, parts, strict=True)]
            for index, parts in stretch.need.parts.items()
        )


def _moved(interval: Interval, growth: Fraction, by: int) -> Interval:
    further = int(by * growth)
    return interval[0] + further, interval[1] + further


def _period(lengths: Lengths) -> int:
    program = lengths.far.program
    return lcm(
        lengths.period,
        *(
            Fraction(growth, program.alignment(index)[lengths.axes[index]]).denominator
            for index, growth in lengths.growth.items()
            if growth
        ),
    )


def _is_even(lengths: Lengths) -> bool:
    """Whether nothing is made in another way because it lies further on."""
    program = lengths.far.program
    constants = program.graph.constants
    rules = [(index, rule) for index, rule in program.rules.items() if index in lengths.axes]
    return not any(index in constants for index in lengths.axes) and all(
        rule.even(program.graph.nodes[index]) for index, rule in rules
    )


def stretch_of(captured: Captured, lengths: Lengths, state: State, stop: int) -> Stretch:
    """What is made from a state on, up to so many results, and what is kept."""
    axes, nodes = lengths.axes, captured.nodes

    def missing(index: int, box: Box) -> Box:
        """What is not held of a box that is complete on all axes but that of time."""
        axis = axes.get(index)
        box = complete_but(box, nodes[index].shape, axis)
        if axis is None or index == INPUT:
            return box
        if index in captured.carried:  # from step to step, whatever is asked for
            _, last = state.held.get(index, (0, 0))
            return replaced(box, axis, (last, max(box[axis][1], last)))
        if index not in state.held:
            return box
        (start, end), (first, last) = box[axis], state.held[index]
        # A border that turns round may ask for what lies before: then it is made again as a whole.
        return box if start < first else replaced(box, axis, (max(start, last), end))

    box = replaced(whole(nodes[captured.output].shape), axes[captured.output], (state.done, stop))
    need = captured.program.need(captured.output, box, missing)
    held = reached(state.held, need, axes, captured.remade)
    read = need.boxes[INPUT][axes[INPUT]] if INPUT in need.boxes else (0, 0)
    first, last = state.held.get(INPUT, (0, 0))
    held[INPUT] = (first, max(last, read[1]))
    kept = _kept(captured, lengths, stop, held)
    return Stretch(state, need, kept, State(stop, kept))


def _kept(
    captured: Captured, lengths: Lengths, done: int, held: Mapping[int, Interval]
) -> dict[int, Interval]:
    """What is held as far as results after those that are done read it, whatever the length will be."""
    nodes, axes, rules = captured.nodes, lengths.axes, captured.program.rules
    starts = {captured.output: done}
    for index in range(captured.output, INPUT, -1):
        axis = axes.get(index)
        if index not in starts or index not in rules:
            continue
        start, box = starts[index], whole(nodes[index].shape)
        if axis is not None:
            if index in captured.carried and index in held:
                start = held[index][1]
            elif index in held and start >= held[index][0]:  # else it will be made again
                start = max(start, held[index][1])
            box = replaced(box, axis, (start, box[axis][1]))
        sources = nodes[index].sources if elements(box) else ()
        parts = rules[index].demand(nodes[index], box) if sources else ()
        for source, part in zip(sources, parts, strict=True):
            along = axes.get(source)
            if part is None or not elements(part):
                continue
            first = 0 if along is None else part[along][0]
            if along is not None:
                # Where the end comes, a border that turns round reads what lies before it: of what is there,
                # or, where it alone reads a tensor, of what would be if the end came here.
                turns = lengths.turns(index, source, part[along])
                if source in held:
                    first = min(first, held[source][1] - turns)
                elif turns:
                    first = min(first, lengths.end(source, held[INPUT][1]) - turns)
            starts[source] = min(starts.get(source, first), first)
    kept = {i: max(starts.get(i, last), first) for i, (first, last) in sorted(held.items())}
    return {i: (min(first, held[i][1]), held[i][1]) for i, first in kept.items()}
