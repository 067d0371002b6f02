"""Stages of what adds up many elements, means of maps, with torch's own bits.

In which order torch adds up is decided by how its tensor lies. A value between launches may lie in another
way here, so the order is that of the graph's tensor and not of the one that comes.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from torch import Tensor
from torch.fx import Node

from outstride.compilation.maps import of_one, tried_stage
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator, dtype_of, is_served, is_tensor, order_of
from outstride.engine.launch.maps import means
from outstride.engine.launch.memory_format import Layout


def start(node: Node, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The stage that begins with an operator, if it is one of these."""
    found = _STARTS.get(Operator.of(node).name)
    return None if found is None else found(Operator.of(node), fuse, taken)


def _mean(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    """A mean over all axes behind the channels."""
    del fuse, taken
    node, source = operator.node, operator.args[0]
    axes, keepdim = operator.argument("dim"), bool(operator.argument("keepdim", False))
    if not is_tensor(source) or not is_served(source) or dtype_of(source) != dtype_of(node) or not axes:
        return None
    value: Tensor = source.meta["val"]
    if not value.dim() or sorted(axis % value.dim() for axis in axes) != list(range(2, value.dim())):
        return None
    order, target = order_of(value), operator.target
    return tried_stage(
        (node,), (source,),
        lambda x: of_one(means.map_mean_run(x, keepdim, order)),
        lambda x: means.map_mean_declines(x, keepdim, order),
        lambda x: target(_lying(x, order), axes, keepdim),
        "mean", "a mean does no steps", free=None if order is None else 0,
    )  # fmt: skip


def _lying(x: Tensor, order: Layout | None) -> Tensor:
    """A tensor as torch's lies."""
    if order == "contiguous":
        return x.contiguous()
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if order == "channels_last" else x


_STARTS: dict[str, Callable[[Operator, bool, Container[Node]], Stage | None]] = {
    "aten.mean": _mean,
}
