"""Recurrent layers in a stream: their state is carried from one stretch of the sequence to the next.

Torch's routines round otherwise where a call has few steps. So a call has a whole number of blocks of steps,
the last of them filled up, and states are kept where blocks end.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from outstride.models.graph import Graph
from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.recurrent import Recurrence
from outstride.tiling.box import Box, begun, replaced, whole
from outstride.tiling.rules.interface import NEEDS_ALL, Boxes, Rule, as_the_whole

#: Steps of a block: from so many on, torch's bits do not depend on how many there are.
BLOCK = 16


def _axis(node: Node) -> int:
    operator: Recurrence = describe(node)
    return operator.axis


def _alignment(node: Node) -> list[int]:
    return [BLOCK if axis == _axis(node) else 1 for axis in range(len(node.shape))]


def _demand(node: Node, box: Box) -> Boxes:
    start, stop = begun(box, _alignment(node))[_axis(node)]
    input, *others = node.source_shapes
    return [replaced(whole(input), _axis(node), (start, stop)), *map(whole, others)]


CARRIED = Rule(_demand, NEEDS_ALL.run, alignment=_alignment)


def carried(graph: Graph) -> Mapping[int, Rule]:
    """Rules of the recurrent layers of a graph that go on from where they were."""
    return {index: CARRIED for index, node in enumerate(graph.nodes) if _goes_on(node, graph.constants)}


def _goes_on(node: Node, constants: Container[int]) -> bool:
    kind = None if node.target is None else describe(node)
    return (
        isinstance(kind, Recurrence)
        and node.result == 0
        and not kind.both_ways
        and node.sources[0] == kind.input.index
        and all(source in constants for source in node.sources[1:])
    )


class States:
    """What each recurrent layer of a stream goes on from, and from which element."""

    def __init__(self) -> None:
        self._states: dict[int, tuple[int, list[Tensor]]] = {}

    def copy(self) -> dict[int, tuple[int, list[Tensor]]]:
        """What they are now."""
        return dict(self._states)

    def restore(self, states: dict[int, tuple[int, list[Tensor]]]) -> None:
        """Go back to that."""
        self._states = dict(states)

    def made(self, index: int, node: Node, box: Box, sources: Sequence[Tensor]) -> Tensor:
        """A box that begins where the last one ended, of the input from the beginning of its block on."""
        operator: Recurrence = describe(node)
        axis, (wanted, stop) = operator.axis, box[operator.axis]
        held, start = dict(zip(node.sources, sources, strict=True)), wanted - wanted % BLOCK
        x, whole_node, results = held[operator.input.index], replace(node, result=None), list[Tensor]()
        _, state = self._states.get(index, (0, [held[source.index] for source in operator.state]))
        ready = (stop - start) // BLOCK * BLOCK

        def called(part: Tensor) -> Any:
            return whole_node.call(sources, input=as_the_whole(part, node), state=state)

        if ready:
            made, *states = called(x.narrow(axis, 0, ready))
            state = states[: len(state)]
            self._states[index] = start + ready, state
            results.append(made)
        if rest := stop - start - ready:
            last = x.narrow(axis, ready, rest)
            more = last.narrow(axis, rest - 1, 1).repeat_interleave(BLOCK - rest, axis)
            results.append(called(torch.cat([last, more], axis))[0].narrow(axis, 0, rest))
        return torch.cat(results, axis).narrow(axis, wanted - start, stop - wanted)
