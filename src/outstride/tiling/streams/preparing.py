"""Stretches that come again are prepared: one program does all of one, on memory that stays where it is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor

from outstride.compilation.written import program_of
from outstride.engine.launch.weights.packing import PACKED
from outstride.models.operators.convolution import Convolution
from outstride.models.operators.describing import describe
from outstride.tiling.box import replaced, shape_of, whole
from outstride.tiling.evaluation import INPUT
from outstride.tiling.streams.carrying import States
from outstride.tiling.streams.lengths import Captured
from outstride.tiling.streams.stretches import State, Stretch
from outstride.tiling.streams.writing import Writing

MOST_PREPARED = 64
"""Stretches of a stream that are prepared at a time."""
#: Calls until a program does no more than it will always do, and what it is given meanwhile.
_REHEARSALS, _NUMBER = 3, 0.125


class Memory:
    """What prepared stretches of a stream share: weights, and where each state has what is held."""

    def __init__(self, captured: Captured, axes: Mapping[int, int]) -> None:
        self._captured, self._axes = captured, axes
        self._places = OrderedDict[State, dict[int, Tensor]]()
        self._prepared = OrderedDict[Stretch, None]()
        self._constants = dict[int, Tensor]()
        self._weights = {
            describe(node).weight.index
            for node in captured.nodes
            if node.target is not None and isinstance(describe(node), Convolution)
        }

    def constant(self, index: int) -> Tensor:
        """Numbers of the model; weights are copies, of which is known that nobody writes to them."""
        if index not in self._constants:
            value = self._constants[index] = self._captured.program.graph.constants[index]
            if index in self._weights:
                self._constants[index] = value.detach().clone()
                PACKED.freeze(self._constants[index])
        return self._constants[index]

    def places(self, state: State) -> dict[int, Tensor]:
        """Where a state has what is held of each tensor."""
        if state not in self._places:
            self._places[state] = self._new(state)
            while len(self._places) > 2 * MOST_PREPARED:
                self._places.popitem(last=False)
        self._places.move_to_end(state)
        return self._places[state]

    def use(self, stretch: Stretch) -> None:
        """Note that a stretch that is prepared is used; of many those go that were used longest ago."""
        self._prepared[stretch] = None
        self._prepared.move_to_end(stretch)
        while len(self._prepared) > MOST_PREPARED:
            gone, _ = self._prepared.popitem(last=False)
            gone.prepared, gone.met = None, 0

    def _new(self, state: State) -> dict[int, Tensor]:
        nodes, found = self._captured.nodes, dict[int, Tensor]()
        with torch.inference_mode(False):
            for index, interval in state.held.items():
                if index != INPUT and interval[1] > interval[0]:
                    box = replaced(whole(nodes[index].shape), self._axes[index], interval)
                    found[index] = torch.empty(shape_of(box), dtype=nodes[index].dtype)
        return found


class Prepared:
    """A stretch that is one program; what it is first given it makes while that is written."""

    def __init__(
        self, captured: Captured, axes: Mapping[int, int], stretch: Stretch, memory: Memory, states: States
    ) -> None:  # fmt: skip
        self._before, self.after = memory.places(stretch.before), memory.places(stretch.after)
        self._writing: Writing | None = Writing(captured, axes, stretch, states, memory.constant)
        self.threads = torch.get_num_threads()
        shape, dtype = captured.nodes[INPUT].shape, captured.nodes[INPUT].dtype
        box = stretch.need.boxes.get(INPUT, ((0, 0),))
        with torch.inference_mode(False):
            self._input = torch.zeros((*shape[:-1], box[-1][1] - box[-1][0]), dtype=dtype)

    def __call__(self, input: Tensor, held: Mapping[int, Tensor]) -> Tensor:
        """The result, of what is read of the input and held of each tensor; afterwards ``after`` is held."""
        self._input.copy_(input)
        if held is not self._before:
            for index, place in self._before.items():
                place.copy_(held[index])
        if self._writing is not None:
            return self._written(self._writing)
        result: Tensor = self._program([])[0]
        return result

    def rehearse(self, states: States) -> None:
        """Do it until nothing is left to find out: it is written, memory is planned, then lists are made."""
        before = states.copy()
        with torch.inference_mode():
            for place in self._before.values():
                place.fill_(_NUMBER)
            for _ in range(_REHEARSALS):
                self(torch.full_like(self._input, _NUMBER), self._before)
        states.restore(before)

    def _written(self, writing: Writing) -> Tensor:
        result = writing.write(self._input, self._before, self.after)
        self._program, self._writing = program_of(writing.graph, writing.values), None
        return result
