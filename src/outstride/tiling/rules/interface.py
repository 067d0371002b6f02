"""What a rule says of an operator: which part of its inputs a box of its result needs, and how to make it.

Rules that compute may not let an element's bits depend on the box it lies in. What has no rule of its own
needs everything, and is made once for all tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from outstride.models.layouts import in_order, laid_out
from outstride.models.node import Node
from outstride.tiling.box import Box, elements, whole, within

Boxes = Sequence[Box | None]
"""A box of every source, None where nothing is read."""
Tensors = Sequence[Tensor | None]

Demand = Callable[[Node, Box], Sequence[Box | None]]
Run = Callable[[Node, Box, Sequence[Box | None], Sequence[Tensor | None]], Tensor]
Scratch = Callable[[Node, Box, Sequence[Box | None]], int]


def no_scratch(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    """Nothing besides what is read and what is made."""
    del node, box, boxes
    return 0


def copies(node: Node, boxes: Sequence[Box | None]) -> int:
    """Bytes of all that is read, once more."""
    return node.dtype.itemsize * sum(elements(box) for box in boxes if box is not None)


def copied_unless_in_order(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    """A copy of the first source where the whole lies otherwise than a tile."""
    del box
    shape, strides = node.source_shapes[0], node.source_strides[0]
    return 0 if in_order(shape, strides) else copies(node, boxes[:1])


class Rule(NamedTuple):
    """``demand``: a box of every source, None where nothing is read; ``run``: the result, from just these."""

    demand: Demand
    run: Run
    needs_all: Callable[[Node], bool] = lambda _: False
    """Whether each element is made of all positions of the image."""
    scratch: Scratch = no_scratch
    """Bytes that it takes for a while, besides what it reads and makes."""
    serves: Callable[[Node], bool] = lambda _: True
    """Whether it does for this operator of its kind."""
    alignment: Callable[[Node], Sequence[int]] = lambda node: (1,) * len(node.shape)
    """On each axis of the result a number of which every start is a multiple: it computes from there on."""
    even: Callable[[Node], bool] = lambda _: True
    """Whether it makes the same of the same parts, however far from the beginning they lie."""


RuleTable = dict[type, Rule]
"""Rules by the kind of operator."""


def present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """Tensors of an operator that reads all its sources."""
    present = [tensor for tensor in tensors if tensor is not None]
    assert len(present) == len(tensors)
    return present


def along(node: Node, box: Box, complete: Sequence[int]) -> Box:
    """A box of a tensor of the same rank as the result, complete on some axes of its own."""
    shape = node.source_shapes[0]
    axes = {axis % len(shape) for axis in complete}
    return tuple((0, n) if i in axes else box[i] for i, n in enumerate(shape))


def broadcast(box: Box, shape: Sequence[int]) -> Box:
    """The part of an operand that meets a box of the result, aligned from the last axis."""
    return tuple(
        (0, 1) if size == 1 else axis for axis, size in zip(box[len(box) - len(shape) :], shape, strict=True)
    )


def cropped(tensor: Tensor, box: Box, made: Box) -> Tensor:
    """The box of a tensor that was made of a larger one."""
    return tensor if box == made else tensor[within(box, made)]


def twice(call: Callable[[Tensor], Tensor], part: Tensor, along: Sequence[int]) -> Tensor:
    """An operator along some axes, also where a part has one position: then on that and itself.

    Of a single position torch's routines make other bits: it lies along the memory then.
    """
    rest = [axis for axis in range(part.dim()) if axis not in along]
    if not rest or any(part.shape[axis] != 1 for axis in rest):
        return call(part)
    return call(part.repeat_interleave(2, rest[-1])).narrow(rest[-1], 0, 1)


def as_the_whole(tensor: Tensor, node: Node, place: int = 0) -> Tensor:
    """A part of a source, lying in memory as the whole source does: torch goes different ways there."""
    return laid_out(tensor, node.source_shapes[place], node.source_strides[place])


def completing(
    axes: Callable[[Node], Sequence[int]],
    scratch: Scratch = copied_unless_in_order,
    serves: Callable[[Node], bool] = lambda _: True,
) -> Rule:
    """An operator that needs its first source complete on some axes, and its others, all small, whole."""

    def demand(node: Node, box: Box) -> Sequence[Box | None]:
        return [along(node, box, axes(node)), *map(whole, node.source_shapes[1:])]

    def run(node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]) -> Tensor:
        del boxes
        first, *rest = present(tensors)
        result = node.call([as_the_whole(first, node), *rest])
        done = {axis % len(node.shape) for axis in axes(node)}
        made = tuple((0, n) if i in done else box[i] for i, n in enumerate(node.shape))
        return cropped(result, box, made)

    return Rule(demand, run, scratch=scratch, serves=serves)


def _everything(node: Node, box: Box) -> Sequence[Box | None]:
    del box
    return [whole(shape) for shape in node.source_shapes]


def _whole_result(
    node: Node, box: Box, boxes: Sequence[Box | None], tensors: Sequence[Tensor | None]
) -> Tensor:
    del boxes
    laid = [as_the_whole(tensor, node, place) for place, tensor in enumerate(present(tensors))]
    return cropped(node.call(laid), box, whole(node.shape))


NEEDS_ALL = Rule(_everything, _whole_result, lambda _: True, copied_unless_in_order)
