"""Rules for channels moved into the picture and back, and among themselves: all of them are needed."""

from __future__ import annotations

from torch import Tensor

from outstride.models.node import Node
from outstride.models.operators.describing import describe
from outstride.models.operators.shuffling import ChannelShuffle, PixelShuffle, PixelUnshuffle
from outstride.tiling.box import Box
from outstride.tiling.rules.interface import Boxes, Rule, RuleTable, Tensors, completing, cropped, present


def _shuffled_demand(node: Node, box: Box) -> Boxes:
    operator: PixelShuffle = describe(node)
    channels, r = (0, node.source_shapes[0][-3]), operator.factor
    return [(*box[:-3], channels, *((a // r, -(-b // r)) for a, b in box[-2:]))]


def _unshuffled_demand(node: Node, box: Box) -> Boxes:
    operator: PixelUnshuffle = describe(node)
    channels, r = (0, node.source_shapes[0][-3]), operator.factor
    return [(*box[:-3], channels, *((a * r, b * r) for a, b in box[-2:]))]


def _shuffle(node: Node, box: Box, boxes: Boxes, tensors: Tensors) -> Tensor:
    (held,), (x,) = boxes, present(tensors)
    assert held is not None
    operator: PixelShuffle | PixelUnshuffle = describe(node)
    r, enlarges = operator.factor, isinstance(operator, PixelShuffle)
    pixels = ((a * r, b * r) if enlarges else (a // r, b // r) for a, b in held[-2:])
    return cropped(node.call([x]), box, (*box[:-3], (0, node.shape[-3]), *pixels))


RULES: RuleTable = {
    PixelShuffle: Rule(_shuffled_demand, _shuffle),
    PixelUnshuffle: Rule(_unshuffled_demand, _shuffle),
    ChannelShuffle: completing(lambda _: [1]),
}
