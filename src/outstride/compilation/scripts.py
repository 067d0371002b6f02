"""Scripts: what calls of one size do once it is known, runs of launches with calls of stages between them.

Stages one behind the other that are launches and nothing else become one list, which runs without Python
(`engine/launch/launch_list.py`). The others are called: torch's operators, and what does more than to launch.
What is the same tensor in every call, such as a view of a value in an arena, is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from outstride.compilation.stages import Bound, Reads
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


class Script:
    """Steps on the values of a call."""

    def __init__(self, fixed: dict[int, Any], promised: Container[int] = ()) -> None:
        """Values at some places are `fixed`: the same in every call; at others `promised` to stay."""
        self.fixed, self._promised = fixed, promised
        self._steps = list[_Call | _Run]()
        self._launches = list[tuple[Line, Bound, Launch]]()
        #: Views of what these make: they are taken before it is there, while nothing has left the caches.
        self._views = list[Line]()
        self._seconds = 0.0

    def __call__(self, held: list[Any]) -> None:
        """Do all steps; fixed values are in their places."""
        for step in self._steps:
            step(held)

    def add(self, line: Line, bound: Bound, given: Sequence[Any], value: Any, seconds: float) -> None:
        """Add what a line did, with what it was given and the value that it made, which took so long."""
        if self._stays(line, given, value):
            if line.is_view:
                with torch.inference_mode(False), torch.no_grad():  # for calls of any mode
                    value = line.run(*given)
            self.fixed[line.place] = value
            return
        if self._is_of_what_launches_make(line, given, value):
            self._views.append(line)
            return
        launch = None
        if isinstance(value, Tensor):
            launch = bound.launch(list(map(At, line.inputs, given)), At(line.place, value))
        if launch is None or self._seconds + seconds > _MOST_SECONDS:
            self.close()
        if launch is None:
            out = self.fixed.get(line.place)
            self._steps.append(_Call(line, bound.run, out, self._ends([line])))
        else:
            self._launches.append((line, bound, launch))
            self._seconds += seconds

    def finish(self) -> None:
        """End the script; what its last step leaves ends with the call."""
        self.close()
        for step in self._steps[-1:]:
            step.ends = ()

    def close(self) -> None:
        """End the list that is being made."""
        if self._launches:
            ends = self._ends([*(line for line, _, _ in self._launches), *self._views])
            # What is stored where the graph is given it makes no value.
            stored = {line.place for line, _, launch in self._launches if launch.empty is None}
            ends = tuple(place for place in ends if place not in stored)
            self._steps.append(_Run(self._launches, self._views, self.fixed, self._promised, ends))
        self._launches, self._views, self._seconds = [], [], 0.0

    def _stays(self, line: Line, given: Sequence[Any], value: Any) -> bool:
        """Whether a line has nothing to do in further calls."""
        if line.is_constant:
            return True
        if any(place not in self.fixed for place in line.inputs):
            return False
        if line.is_view and not line.is_result:
            return _is_view(given, value)
        if line.joins and line.place in self.fixed:
            return _are_joined(given, value)
        return isinstance(value, int)

    def _is_of_what_launches_make(self, line: Line, given: Sequence[Any], value: Any) -> bool:
        """Whether a line takes a view of what a launch of the list that is being made makes anew."""
        if not line.is_view or len(given) != 1 or not _is_view(given, value):
            return False
        made = {each.place for each, _, launch in self._launches if launch.empty is not None}
        return line.inputs[0] in (made | {view.place for view in self._views}) - self.fixed.keys()

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
        self, launches: Sequence[tuple[Line, Bound, Launch]], views: Sequence[Line],
        fixed: dict[int, Any], promised: Container[int], ends: tuple[int, ...],
    ) -> None:  # fmt: skip
        self._stages = [(line.inputs, line.place, bound.run) for line, bound, _ in launches]
        self._fresh = [
            (line.place, launch.empty) for line, _, launch in launches
            if line.place not in fixed and launch.empty is not None
        ]  # fmt: skip
        self._views = [(line.run, line.inputs[0], line.place) for line in views]
        self._list = LaunchList([launch for _, _, launch in launches], fixed.keys(), promised)
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
        """Do a launch as the stage by itself is done, into the same place."""
        inputs, place, run = self._stages[number]
        run(*[held[place] for place in inputs], out=held[place])


def _is_view(given: Sequence[Any], value: Any) -> bool:
    """Whether a value lies in the memory of the first tensor that is given."""
    if not isinstance(value, Tensor):
        return False
    source: Tensor = given[0]
    return value.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()


def _are_joined(parts: Sequence[Tensor], whole: Tensor) -> bool:
    """Whether tensors without gaps lie one behind the other in a whole."""
    place = whole.data_ptr()
    for part in parts:
        if part.data_ptr() != place:
            return False
        place += part.nbytes
    return place == whole.data_ptr() + whole.nbytes
