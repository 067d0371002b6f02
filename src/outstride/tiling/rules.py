"""Which rule serves which of torch's operators."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from outstride.inspection.walk import ELEMENTWISE as ELEMENTWISE_NAMES
from outstride.models.graph import Node
from outstride.tiling import convolutions, gates, gathers, moves, pools, reductions, resizing
from outstride.tiling.box import Box, elements
from outstride.tiling.elementwise import ELEMENTWISE
from outstride.tiling.rule import NEEDS_ALL, Rule, completing, copies


def _channels(node: Node) -> Sequence[int]:
    del node
    return [1]


def _normalized(node: Node) -> Sequence[int]:
    return range(-len(node.argument("normalized_shape")), 0)


def _scratch_of_norm(node: Node, box: Box, boxes: Sequence[Box | None]) -> int:
    """A copy in the order of the memory, and the mean and the deviation at each position."""
    positions = elements(box) // max(prod(int(n) for n in node.argument("normalized_shape")), 1)
    return copies(node, boxes[:1]) + 2 * node.dtype.itemsize * positions


_PER_CHANNEL = completing(_channels)
_PER_POSITION = completing(_normalized, _scratch_of_norm)

RULES: dict[str, Rule] = {
    "outstride.conv": convolutions.CONVOLUTION,
    "outstride.conv_transpose": convolutions.CONVOLUTION,
    "aten.convolution": convolutions.CONVOLUTION,
    "aten.max_pool2d_with_indices": pools.MAX_POOL,
    "aten.max_pool3d_with_indices": pools.MAX_POOL,
    "aten.avg_pool2d": pools.AVG_POOL,
    "aten.avg_pool3d": pools.AVG_POOL,
    "aten.native_batch_norm": _PER_CHANNEL,
    "aten._native_batch_norm_legit_no_training": _PER_CHANNEL,
    "aten.channel_shuffle": _PER_CHANNEL,
    "aten.native_layer_norm": _PER_POSITION,
    "aten._softmax": reductions.SOFTMAX,
    "aten._log_softmax": reductions.SOFTMAX,
    "aten.glu": gates.GLU,
    "aten.cat": moves.CAT,
    "aten.stack": moves.STACK,
    "aten.slice_scatter": moves.PASTE,
    "aten.fill": ELEMENTWISE,
    "aten.zero": ELEMENTWISE,
    "aten.copy": ELEMENTWISE,
    "aten.permute": moves.PERMUTE,
    "aten.transpose": moves.PERMUTE,
    "aten.t": moves.PERMUTE,
    "aten.select": moves.SELECT,
    "aten.expand": moves.EXPAND,
    "aten.constant_pad_nd": moves.PAD,
    "aten.pixel_shuffle": moves.SHUFFLE,
    "aten.pixel_unshuffle": moves.UNSHUFFLE,
    "aten.slice": gathers.gathering(gathers.sliced, counted=True),
    "aten.flip": gathers.gathering(gathers.flipped, counted=True),
    "aten.roll": gathers.gathering(gathers.rolled),
}
RULES |= {f"aten.upsample_{name}": resizing.LINEAR for name in ("linear1d", "bilinear2d", "trilinear3d")}
RULES |= {
    f"aten.{name}": moves.RESHAPE
    for name in ("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze")
}
RULES |= {
    f"aten.{name}": moves.SAME
    for name in ("alias", "clone", "_to_copy", "contiguous", "detach", "lift_fresh", "positive")
}
RULES |= {
    f"aten.{name}": moves.FILLED
    for name in ("full", "zeros", "ones", "full_like", "zeros_like", "ones_like", "new_zeros", "new_ones")
}
RULES |= {
    f"aten.{name}": reductions.REDUCTION
    for name in ("sum", "mean", "amax", "amin", "argmax", "argmin", "max", "min", "any", "all")
}
for _nd in (1, 2, 3):
    RULES[f"aten.reflection_pad{_nd}d"] = gathers.gathering(gathers.bordered("reflect"))
    RULES[f"aten.replication_pad{_nd}d"] = gathers.gathering(gathers.bordered("replicate"))
    for _name in ("upsample_nearest", "_upsample_nearest_exact"):
        RULES[f"aten.{_name}{_nd}d"] = gathers.gathering(gathers.nearest)


def rule_of(node: Node) -> Rule:
    """The rule of a tensor's operator; what has none needs everything."""
    overload, named = str(node.target), RULES.get(node.name)
    if named is None and (
        torch.Tag.pointwise in node.target.tags or ELEMENTWISE_NAMES & {node.name, overload}
    ):
        return ELEMENTWISE
    if node.name == "aten.native_batch_norm" and (node.argument("training") or node.result):
        return NEEDS_ALL
    return named or NEEDS_ALL
