"""Scripts: what calls of one size do once it is known, runs of launches with calls of stages between them.

Stages one behind the other that are launches and nothing else become one list, which runs without Python
(`engine/launch/launch_list.py`). The others are called: torch's operators, and what does more than to launch.
What is the same tensor in every call, such as a view of a value in an arena, is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from outstride.compilation.stages import Bound, Reads, Rows
from outstride.engine.launch.launch_list import LaunchList
from outstride.engine.launch.launches import At, Launch

_MOST_SECONDS = 0.1
"""What a list may take: then Python looks at signals."""


@dataclass(frozen=True, slots=True)
class Line:
    """A stage among places: where its inputs lie, where its value goes, whose values end with it."""

    run: Callable[..., Any]
    inputs: tuple[int, ...]
    place: int
    last: tuple[int, ...]
    takes_out: bool
    joins: bool
    weight: int | None
    bind: Callable[..., Bound] | None
    is_view: bool
    is_constant: bool
    is_result: bool
    formats: Reads | None = None
    rows: Rows | None = None


@dataclass(frozen=True)
class Made:
    """What a line did: what it was given, the value that it made, and in how many seconds."""

    line: Line
    bound: Bound
    given: Sequence[Any]
    value: Any
    seconds: float

    @property
    def at(self) -> list[At]:
        """What it was given, with its places."""
        return list(map(At, self.line.inputs, self.given))

    @property
    def result(self) -> At:
        """What it made, with its place."""
        return At(self.line.place, self.value)

    @cached_property
    def launch(self) -> Launch | None:
        """What does it, if that is a launch and nothing else."""
        return self.bound.launch(self.at, self.result) if isinstance(self.value, Tensor) else None


class Script:
    """Steps on the values of a call."""

    def __init__(self, fixed: dict[int, Any], promised: Container[int] = ()) -> None:
        """Values at some places are `fixed`: the same in every call; at others `promised` to stay."""
        self.fixed, self._promised = fixed, promised
        self._steps = list[_Call | _Run]()
        #: Launches, and what lines made that they do.
        self._launches = list[tuple[Launch, Sequence[Made]]]()
        #: Views of what these make: they are taken before it is there, while nothing has left the caches.
        self._views = list[Line]()
        self._seconds = 0.0

    def __call__(self, held: list[Any]) -> None:
        """Do all steps; fixed values are in their places."""
        for step in self._steps:
            step(held)

    def add(self, made: Made) -> None:
        """Add what a line did."""
        line = made.line
        if self._stays(made):
            value = made.value
            if line.is_view:
                with torch.inference_mode(False), torch.no_grad():  # for calls of any mode
                    value = line.run(*made.given)
            self.fixed[line.place] = value
        elif self._is_of_what_launches_make(made):
            self._views.append(line)
        elif made.launch is not None:
            self.add_launch(made.launch, [made])
        else:
            self.close()
            out = self.fixed.get(line.place)
            self._steps.append(_Call(line, made.bound.run, out, self._ends([line])))

    def add_launch(self, launch: Launch, made: Sequence[Made]) -> None:
        """Add a launch that does what some lines did one by one."""
        seconds = sum(each.seconds for each in made)
        if self._seconds + seconds > _MOST_SECONDS:
            self.close()
        self._launches.append((launch, made))
        self._seconds += seconds

    def finish(self) -> None:
        """End the script; what its last step leaves ends with the call."""
        self.close()
        for step in self._steps[-1:]:
            step.ends = ()

    def close(self) -> None:
        """End the list that is being made."""
        if self._launches:
            made = [each for _, several in self._launches for each in several]
            ends = self._ends([*(each.line for each in made), *self._views])
            # What is stored where the graph is given it makes no value.
            stored = {each.line.place for each in made if not _is_new(each)}
            ends = tuple(place for place in ends if place not in stored)
            self._steps.append(_Run(self._launches, self._views, self.fixed, self._promised, ends))
        self._launches, self._views, self._seconds = [], [], 0.0

    def _stays(self, made: Made) -> bool:
        """Whether a line has nothing to do in further calls."""
        line, value = made.line, made.value
        if line.is_constant:
            return True
        if any(place not in self.fixed for place in line.inputs):
            return False
        if line.is_view and not line.is_result:
            return _is_view(made)
        if line.joins and line.place in self.fixed:
            return _are_joined(made.given, value)
        return isinstance(value, int)

    def _is_of_what_launches_make(self, made: Made) -> bool:
        """Whether a line takes a view of what a launch of the list that is being made makes anew."""
        line = made.line
        if not line.is_view or len(made.given) != 1 or not _is_view(made):
            return False
        new = {each.line.place for _, several in self._launches for each in several if _is_new(each)}
        return line.inputs[0] in (new | {view.place for view in self._views}) - self.fixed.keys()

    def _ends(self, lines: Sequence[Line]) -> tuple[int, ...]:
        return tuple(place for line in lines for place in line.last if place not in self.fixed)


class _Call:
    """A stage that is called."""

    def __init__(
        self, line: Line, run: Callable[..., Any], out: Tensor | None, ends: tuple[int, ...]
    ) -> None:
        self._run, self._inputs, self._place = run, line.inputs, line.place
        self._out, self.ends = out, ends

    def __call__(self, held: list[Any]) -> None:
        given = [held[place] for place in self._inputs]
        held[self._place] = self._run(*given) if self._out is None else self._run(*given, out=self._out)
        for place in self.ends:
            held[place] = None


class _Run:
    """Stages that are launches, in one list."""

    def __init__(
        self, launches: Sequence[tuple[Launch, Sequence[Made]]], views: Sequence[Line],
        fixed: dict[int, Any], promised: Container[int], ends: tuple[int, ...],
    ) -> None:  # fmt: skip
        self._stages = [
            [(each.line.inputs, each.line.place, each.bound.run) for each in made] for _, made in launches
        ]
        self._fresh = [
            (each.line.place, each.launch.empty)
            for _, made in launches
            for each in made
            if each.line.place not in fixed and each.launch is not None and each.launch.empty is not None
        ]
        self._views = [(line.run, line.inputs[0], line.place) for line in views]
        self._list = LaunchList([launch for launch, _ in launches], fixed.keys(), promised)
        self.ends = ends

    def __call__(self, held: list[Any]) -> None:
        for place, empty in self._fresh:
            held[place] = empty()
        for view, source, place in self._views:
            held[place] = view(held[source])
        self._list(held, self._carefully)
        for place in self.ends:
            held[place] = None

    def _carefully(self, held: Sequence[Any], number: int) -> None:
        """Do a launch as its stages by themselves are done, into the same places."""
        for inputs, place, run in self._stages[number]:
            run(*[held[source] for source in inputs], out=held[place])


def _is_new(made: Made) -> bool:
    """Whether a launch makes a new tensor."""
    return made.launch is not None and made.launch.empty is not None


def _is_view(made: Made) -> bool:
    """Whether a value lies in the memory of the first tensor that a line was given."""
    if not isinstance(made.value, Tensor):
        return False
    source: Tensor = made.given[0]
    return made.value.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()


def _are_joined(parts: Sequence[Tensor], whole: Tensor) -> bool:
    """Whether tensors without gaps lie one behind the other in a whole."""
    place = whole.data_ptr()
    for part in parts:
        if part.data_ptr() != place:
            return False
        place += part.nbytes
    return place == whole.data_ptr() + whole.nbytes
