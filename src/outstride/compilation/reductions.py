"""Stages of what adds up many elements: means of maps, group and layer norms, with torch's own bits.

In which order torch adds up is decided by how its tensor lies. A value between launches may lie in another
way here, so the order is that of the graph's tensor and not of the one that comes.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from torch import Tensor
from torch.fx import Node

from outstride.compilation.chains import NOTHING, chain
from outstride.compilation.maps import flat_operands, of_one, tried_stage
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator, dtype_of, is_served, is_sized, is_tensor, only_first
from outstride.engine.launch import group_norms, layer_norms, means
from outstride.engine.launch.fused import operand_forms
from outstride.engine.launch.memory_format import Layout
from outstride.engine.launch.steps_by_torch import by_torch


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
    if sorted(axis % value.dim() for axis in axes) != list(range(2, value.dim())):
        return None
    order, target = _order(value), operator.target
    return tried_stage(
        (node,), (source,),
        lambda x, out: means.map_mean(x, keepdim, order, out),
        lambda x: means.map_mean_declines(x, keepdim, order),
        lambda x: target(_lying(x, order), axes, keepdim),
        "mean", "a mean does no steps", free=None if order is None else 0,
        find=lambda x: of_one(means.map_mean_run(x, keepdim, order)),
    )  # fmt: skip


def _group_norm(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The norm of groups of channels, with the steps behind it."""
    node, result, target = operator.node, only_first(operator.node), operator.target
    source, weight, bias, _, _, _, groups, eps = operator.args
    if result is None or not is_served(source) or not isinstance(groups, int):
        return None
    behind = chain(result, taken) if fuse else NOTHING
    steps, forms = behind.steps, operand_forms(behind.steps)
    has = [vector is not None for vector in (weight, bias)]

    def told(values: tuple[Any, ...]) -> tuple[Any, ...]:
        x, left = values[0], list(values[1:])
        w, b = (left.pop(0) if given else None for given in has)
        return x, groups, w, b, eps, steps, flat_operands(forms, left)

    def ours(*values: Any, out: Tensor | None) -> Tensor:
        x, _, w, b, _, _, operands = told(values)
        return group_norms.group_norm(x, groups, w, b, eps, steps, operands, out)

    def torchs(*values: Any) -> Tensor:
        x, _, w, b, _, _, operands = told(values)
        x = x.contiguous() if order == "contiguous" else x
        counts = (x.shape[0], x.shape[1], x[0, 0].numel())
        return by_torch(target(x, w, b, *counts, groups, eps)[0], steps, operands)

    order = _order(source.meta["val"])
    given = (source, *(vector for vector in (weight, bias) if vector is not None), *behind.operands)
    return tried_stage(
        (node, result, *behind.nodes), given,
        ours,
        lambda *values: group_norms.group_norm_declines(*told(values)),
        torchs, "norm", behind.reason,
    )  # fmt: skip


def _layer_norm(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The norm of the last axes."""
    del fuse, taken
    node, result, target = operator.node, only_first(operator.node), operator.target
    source, shape, weight, bias, eps = operator.args
    if result is None or not is_served(source) or not all(isinstance(size, int) for size in shape):
        return None
    sizes = tuple(shape)
    has = [vector is not None for vector in (weight, bias)]

    def told(values: tuple[Any, ...]) -> tuple[Any, ...]:
        x, left = values[0], list(values[1:])
        w, b = (left.pop(0) if given else None for given in has)
        return x, w, b

    def ours(*values: Any, out: Tensor | None) -> Tensor:
        x, w, b = told(values)
        return layer_norms.layer_norm(x, sizes, w, b, eps, out)

    def declines(*values: Any) -> str | None:
        x, w, b = told(values)
        return layer_norms.layer_norm_declines(x, sizes, w, b, eps)

    def torchs(*values: Any) -> Tensor:
        x, w, b = told(values)
        normalised: Tensor = target(x, shape, w, b, eps)[0]
        return normalised

    given = (source, *(vector for vector in (weight, bias) if vector is not None))
    return tried_stage(
        (node, result), given, ours, declines, torchs, "norm", "a layer norm does no steps"
    )  # fmt: skip


def _order(value: Tensor) -> Layout | None:
    """How torch's tensor lies, where that is known; None is as it comes."""
    if not is_sized(value):
        return None
    if value.is_contiguous():
        return "contiguous"
    return "channels_last" if value.movedim(1, -1).is_contiguous() else None


def _lying(x: Tensor, order: Layout | None) -> Tensor:
    """A tensor as torch's lies."""
    if order == "contiguous":
        return x.contiguous()
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if order == "channels_last" else x


_STARTS: dict[str, Callable[[Operator, bool, Container[Node]], Stage | None]] = {
    "aten.mean": _mean,
    "aten.native_group_norm": _group_norm,
    "aten.native_layer_norm": _layer_norm,
}
