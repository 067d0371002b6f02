"""Stages of norms by the statistics of their input, with the steps behind them and torch's own bits."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from math import prod
from typing import Any

from torch import Tensor
from torch.fx import Node

from outstride.compilation.chains import NOTHING, Chain, chain
from outstride.compilation.layouts import in_format
from outstride.compilation.maps import flat_operands, tried_stage
from outstride.compilation.stages import Bound, Stage
from outstride.compilation.values import (
    Operator,
    dtype_of,
    is_served,
    is_tensor,
    only_first,
    order_of,
    same_sizes,
    shape,
)
from outstride.engine.launch.fused import operand_forms
from outstride.engine.launch.maps import group_norms, layer_norms, normalisation
from outstride.engine.launch.maps.norm_run import NormRun
from outstride.engine.launch.steps.by_torch import by_torch


def start(node: Node, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The stage that begins with an operator, if it is a norm that a kernel does."""
    found = _STARTS.get(Operator.of(node).name)
    return None if found is None else found(Operator.of(node), fuse, taken)


def _instance_norm(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The channels of all images as those of one, normalised, and apart again."""
    node = operator.node
    joined, weight, bias, trains, _, eps = operator.args
    result = only_first(node)
    if not trains or result is None:
        return None
    found = _apart(joined, result, taken)
    if found is None:
        return None
    source, nodes = found
    vectors = [_repeated(vector, shape(source)[0]) for vector in (weight, bias)]
    if any(
        vector is None and given is not None for vector, given in zip(vectors, (weight, bias), strict=True)
    ):
        return None
    behind = chain(nodes[-1], taken) if fuse else NOTHING

    def declines(x: Tensor, w: Tensor | None, b: Tensor | None, operands: Sequence[Tensor]) -> str | None:
        if not x.is_contiguous():  # its batch norm takes as it is what its instance norm makes contiguous
            return "torch sums a batch norm of such strides in another order"
        return normalisation.instance_norm_declines(x, w, b, eps, behind.steps, operands)

    def torchs(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        flat = x.reshape(1, -1, *x.shape[2:])
        many = [None if v is None else v.repeat(x.shape[0]) for v in (w, b)]
        target: Any = node.target
        normalised: Tensor = target(flat, *many, *operator.args[3:])[0]
        return normalised.view(x.shape)

    return _norm(
        (node, *nodes), (source, *vectors), behind,
        lambda x, *_: normalisation.instance_norm_run(x, eps, behind.steps), declines, torchs,
    )  # fmt: skip


def _group_norm(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The norm of groups of channels."""
    node, result, target = operator.node, only_first(operator.node), operator.target
    source, weight, bias, _, _, _, groups, eps = operator.args
    if result is None or not is_served(source) or not isinstance(groups, int):
        return None
    behind = chain(result, taken) if fuse else NOTHING
    is_plain = weight is None and bias is None

    def torchs(x: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
        x = x.contiguous() if order == "contiguous" else in_format(x)
        counts = (x.shape[0], x.shape[1], prod(x.shape[2:]))
        normalised: Tensor = target(x, w, b, *counts, groups, eps)[0]
        return normalised

    order = order_of(source.meta["val"])
    return _norm(
        (node, result), (source, weight, bias), behind,
        lambda x, *_: group_norms.group_norm_run(x, groups, is_plain, eps, behind.steps),
        lambda x, w, b, operands: group_norms.group_norm_declines(
            x, groups, w, b, eps, behind.steps, operands
        ),
        torchs,
    )  # fmt: skip


def _layer_norm(operator: Operator, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The norm of the last axes."""
    del fuse, taken
    node, result, target = operator.node, only_first(operator.node), operator.target
    source, sizes, weight, bias, eps = operator.args
    if result is None or not is_served(source) or not all(isinstance(size, int) for size in sizes):
        return None
    has = weight is not None, bias is not None
    return _norm(
        (node, result), (source, weight, bias), Chain((), (), "a layer norm does no steps"),
        lambda x, *_: layer_norms.layer_norm_run(x, sizes, *has, eps),
        lambda x, w, b, _: layer_norms.layer_norm_declines(x, tuple(sizes), w, b, eps),
        lambda x, w, b: target(x, sizes, w, b, eps)[0],
    )  # fmt: skip


def _norm(
    nodes: tuple[Node, ...], values: tuple[Node | None, ...], behind: Chain,
    run_of: Callable[..., NormRun], declines: Callable[..., str | None], torchs: Callable[..., Tensor],
) -> Stage:  # fmt: skip
    """A stage of an input, a weight and a bias, where there are any, and the operands of the steps behind."""
    has, forms = [value is not None for value in values[1:]], operand_forms(behind.steps)

    def told(values: Sequence[Any]) -> tuple[Any, Any, Any, list[Any]]:
        x, left = values[0], list(values[1:])
        w, b = (left.pop(0) if given else None for given in has)
        return x, w, b, left

    def find(*values: Tensor) -> Bound:
        run = run_of(*told(values))

        def normalised(*values: Tensor, out: Tensor | None = None) -> Tensor:
            x, w, b, operands = told(values)
            return run(x, w, b, flat_operands(forms, operands), out)

        return Bound(normalised, lambda at, y: run.launch(*told(at), y))

    def declined(*values: Tensor) -> str | None:
        x, w, b, operands = told(values)
        return declines(x, w, b, flat_operands(forms, operands))

    def by_torchs(*values: Tensor) -> Tensor:
        x, w, b, operands = told(values)
        return by_torch(torchs(x, w, b), behind.steps, flat_operands(forms, operands))

    given = (*(value for value in values if value is not None), *behind.operands)
    return tried_stage((*nodes, *behind.nodes), given, find, declined, by_torchs, "norm", behind.reason)


def _apart(joined: Node, result: Node, taken: Container[Node]) -> tuple[Node, tuple[Node, ...]] | None:
    """The images whose channels were joined, and what takes the result apart again.

    A single image is what it was before.
    """
    source, back = _viewed(joined), list(result.users)
    if source is None:
        alone = len(shape(joined)) >= 3 and same_sizes(shape(joined)[:1], (1,))
        return (joined, (result,)) if alone else None
    if len(back) != 1 or not _is_view(back[0]) or back[0] in taken:
        return None
    sizes = shape(source)
    if len(sizes) < 3 or not same_sizes(shape(back[0]), sizes):
        return None
    whole = (1, sizes[0] * sizes[1], *sizes[2:])
    return (source, (result, back[0])) if same_sizes(shape(joined), whole) else None


def _is_view(node: Node) -> bool:
    if node.op != "call_function" or Operator.of(node).name not in ("aten.view", "aten._unsafe_view"):
        return False
    return dtype_of(node) == dtype_of(node.args[0])  # type: ignore[arg-type]  # it is of a tensor


def _viewed(node: Any) -> Node | None:
    """What a node is a view of, in other sizes."""
    source = node.args[0] if isinstance(node, Node) and _is_view(node) else None
    return source if isinstance(source, Node) and is_tensor(source) else None


def _repeated(node: Any, images: Any) -> Node | None:
    """The vector that a node repeats for so many images."""
    if not isinstance(node, Node) or node.op != "call_function" or Operator.of(node).name != "aten.repeat":
        return None
    source, times = node.args[0], Operator.of(node).argument("repeats")
    numbers = [time.meta["val"] if isinstance(time, Node) else time for time in times]
    return source if isinstance(source, Node) and same_sizes(numbers, (images,)) else None


_STARTS: dict[str, Callable[[Operator, bool, Container[Node]], Stage | None]] = {
    "aten._native_batch_norm_legit": _instance_norm,
    "aten.native_group_norm": _group_norm,
    "aten.native_layer_norm": _layer_norm,
}
