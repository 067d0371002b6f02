"""Stages of linear resizing, with torch's own bits."""

from __future__ import annotations

from collections.abc import Container

from torch import Tensor
from torch.fx import Node

from outstride.compilation.maps import of_one, tried_stage
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator, is_served, is_sized, is_tensor
from outstride.engine.launch.maps import linear_resizing

_NAMES = ("aten.upsample_linear1d", "aten.upsample_bilinear2d", "aten.upsample_trilinear3d")


def start(node: Node, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The stage that begins with an operator, if it resizes linearly to sizes that are numbers."""
    del fuse, taken
    operator = Operator.of(node)
    if operator.name not in _NAMES:
        return None
    source, sizes, align_corners, *factors = operator.args
    if not is_tensor(source) or not is_served(source) or not all(isinstance(size, int) for size in sizes):
        return None
    if not all(factor is None or isinstance(factor, (int, float)) for factor in factors):
        return None
    size, given = tuple(sizes), tuple(factors) if factors else None
    value, target = source.meta["val"], operator.target
    order = linear_resizing.linear_order(value) if is_sized(value) else None  # None: as it comes

    def torchs(x: Tensor) -> Tensor:
        resized: Tensor = target(x, sizes, align_corners, *factors)
        return resized

    return tried_stage(
        (node,), (source,),
        lambda x: of_one(linear_resizing.linear_run(x, size, align_corners, given, order)),
        lambda x: linear_resizing.linear_declines(x, size, order),
        torchs, "resize", "a resize does no steps",
    )  # fmt: skip
