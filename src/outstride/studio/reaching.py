"""What one position of a tensor reads of every tensor before it, and through what it reads all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outstride.models.operators.describing import describe
from outstride.models.operators.norms import BatchNorm, GroupNorm, LayerNorm
from outstride.tiling.box import Box, elements, hull, whole
from outstride.tiling.evaluation import INPUT, Program


@dataclass(frozen=True)
class Reach:
    """The box of each tensor that is read, and the tensors through which all else has a part in it, too."""

    boxes: Mapping[int, Box]
    through: tuple[int, ...]


def reach(program: Program, index: int, box: Box) -> Reach:
    """What a box of a tensor is made of, back to the input.

    A mean over all positions reaches everywhere and would light up all of the model. So it is named beside
    what is read place by place, a norm's element as that of its own place; where nothing leads to the input
    otherwise, all is lit.
    """
    boxes, through = _followed(program, index, box, through_all=False)
    if through and INPUT not in boxes:
        return Reach(_followed(program, index, box, through_all=True)[0], ())
    return Reach(boxes, tuple(reversed(through)))


def _followed(
    program: Program, index: int, box: Box, *, through_all: bool
) -> tuple[Mapping[int, Box], list[int]]:
    needed: dict[int, list[Box]] = {index: [box]}
    boxes: dict[int, Box] = {}
    through: list[int] = []
    for at in range(index, -1, -1):
        if at not in needed:
            continue
        boxes[at] = hull(needed[at])
        if at not in program.rules or not elements(boxes[at]):
            continue
        node = program.graph.nodes[at]
        if at in program.wholes:
            through.append(at)
            everything: Sequence[Box | None] = [whole(shape) for shape in node.source_shapes]
            parts = everything if through_all else _of_its_place(program, at, boxes[at])
        else:
            parts = program.rules[at].demand(node, boxes[at])
        for source, part in zip(node.sources, parts, strict=False):
            if part is not None:
                needed.setdefault(source, []).append(part)
    return boxes, through


def _of_its_place(program: Program, index: int, box: Box) -> list[Box | None]:
    """Of a norm, which changes its first source element by element, the same box; of others nothing."""
    node = program.graph.nodes[index]
    norm = isinstance(describe(node), (BatchNorm, GroupNorm, LayerNorm))
    return [box] if norm and node.source_shapes[0] == node.shape else []
