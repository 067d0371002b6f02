"""A stretch as it comes for the first time: tensor by tensor, each by the rule of its operator."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from outstride.tiling.box import Box, elements, replaced, shape_of, whole, within
from outstride.tiling.evaluation import INPUT
from outstride.tiling.streams.carrying import States
from outstride.tiling.streams.lengths import Captured
from outstride.tiling.streams.stretches import Stretch


def played(
    captured: Captured, axes: Mapping[int, int], stretch: Stretch, held: Mapping[int, Tensor], states: States
) -> tuple[Tensor, dict[int, Tensor]]:
    """What a stretch makes of what is held, the input among it, and what is held at its end."""
    playing = _Playing(captured, axes, stretch, held, states)
    for index in sorted(stretch.need.parts):
        playing.make(index)
    output = captured.output
    box = stretch.need.outputs[output]
    result = playing.part(output, box).clone()
    kept = {i: interval for i, interval in stretch.kept.items() if i != INPUT and interval[1] > interval[0]}
    return result, {index: playing.kept(index, interval) for index, interval in kept.items()}


def rehearsed(captured: Captured, axes: Mapping[int, int], stretch: Stretch) -> None:
    """Play a stretch on zeros, so that all that its layers look up is known."""
    read = stretch.need.boxes.get(INPUT, ((0, 0),))[-1]
    start, _ = stretch.before.held.get(INPUT, (0, 0))
    held = dict[int, Tensor]()
    for index, interval in {**stretch.before.held, INPUT: (start, max(start, read[1]))}.items():
        box = replaced(whole(captured.nodes[index].shape), axes[index], interval)
        held[index] = torch.zeros(shape_of(box), dtype=captured.nodes[index].dtype)
    with torch.inference_mode():
        played(captured, axes, stretch, held, States())


class _Playing:
    """What is there of each tensor."""

    def __init__(
        self, captured: Captured, axes: Mapping[int, int], stretch: Stretch, held: Mapping[int, Tensor],
        states: States,
    ) -> None:  # fmt: skip
        self._captured, self._axes, self._stretch, self._states = captured, axes, stretch, states
        self._there: dict[int, tuple[Box, Tensor]] = {}
        for index, tensor in held.items():
            axis, (start, _) = axes[index], stretch.before.held.get(index, (0, 0))
            interval = (start, start + tensor.shape[axis])
            self._there[index] = replaced(whole(captured.nodes[index].shape), axis, interval), tensor

    def make(self, index: int) -> None:
        """Make what the stretch makes of a tensor, and put it behind what is held."""
        need, node = self._stretch.need, self._captured.nodes[index]
        box, parts = need.boxes[index], need.parts[index]
        if index in self._captured.carried:
            sources = [self.part(i, part) for i, part in zip(node.sources, parts, strict=True) if part]
            made = self._states.made(index, node, box, sources)
        else:
            made = self._captured.program.make(index, box, parts, self.part)
        axis = self._axes.get(index)
        if axis is not None and index in self._there:
            held, before = self._there[index]
            if held[axis][1] == box[axis][0]:
                made = torch.cat([before, made], axis)
                box = replaced(box, axis, (held[axis][0], box[axis][1]))
        self._there[index] = (box, made)

    def part(self, index: int, box: Box) -> Tensor:
        """A part of a tensor that is there."""
        constant = self._captured.program.graph.constants.get(index)
        if constant is not None:
            return constant[within(box, whole(constant.shape))]
        if elements(box) == 0 and index not in self._there:
            return torch.empty([b - a for a, b in box], dtype=self._captured.nodes[index].dtype)
        held, tensor = self._there[index]
        return tensor[within(box, held)]

    def kept(self, index: int, interval: tuple[int, int]) -> Tensor:
        """The elements that stay."""
        box, tensor = self._there[index]
        return tensor[within(replaced(box, self._axes[index], interval), box)].clone()
