"""Stages that only move elements: two tensors one behind the other, copies, what the next call finds."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from outstride.compilation.stages import Bound, Stage
from outstride.compilation.values import Operator, dtype_of, is_served, is_tensor
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.maps.joining import joining_declines, joining_run


def store(place: Tensor, value: Tensor) -> Tensor:
    """Write a value to a tensor that a graph is given, apart from all that its operators read afterwards."""
    return place.copy_(value)


def start(node: Node, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The stage that begins with an operator, if it is one of these."""
    del fuse, taken
    if node.target is store:
        place, value = node.args
        assert isinstance(place, Node), "it is a tensor"
        assert isinstance(value, Node), "it is a tensor"
        return Stage((node,), (place, value), store, "store", "a store does no steps", bind=_stored)
    operator = Operator.of(node)
    if operator.name == "aten.cat":
        parts, axis = operator.args[0], operator.argument("dim", 0)
        if len(parts) != 2 or parts[0] is parts[1] or not all(_is_plain(part, node) for part in parts):
            return None
        return _moving(node, tuple(parts), axis % len(operator.result_shape()), "join")
    if operator.name == "aten.clone" and operator.argument("memory_format") == torch.contiguous_format:
        (source,) = operator.args
        return _moving(node, (source,), 0, "copy") if _is_plain(source, node) else None
    return None


def _is_plain(part: Any, result: Node) -> bool:
    return (
        is_tensor(part) and is_served(part) and dtype_of(part) == dtype_of(result)
        and part.meta["val"].dim() == result.meta["val"].dim()
    )  # fmt: skip


def _moving(node: Node, parts: tuple[Node, ...], axis: int, label: str) -> Stage:
    def by_torch(*values: Tensor, out: Tensor | None = None) -> Tensor:
        made = torch.cat(values, axis) if len(values) > 1 else values[0].contiguous()
        if out is None:
            return made if len(values) > 1 or made is not values[0] else made.clone()
        return out.copy_(made)

    def bind(values: Sequence[Any], out: Tensor | None) -> Bound:
        if joining_declines(values, axis, out) is not None:
            return Bound(by_torch)
        run = joining_run(values, axis, out)
        return Bound(run, run.launch)

    def run(*values: Tensor, out: Tensor | None = None) -> Tensor:
        made: Tensor = bind(values, out).run(*values, out=out)
        return made

    return Stage((node,), parts, run, label, f"a {label} does no steps", takes_out=True, bind=bind)


def _stored(values: Sequence[Any], _: Tensor | None) -> Bound:
    place, value = values
    if place.shape != value.shape or joining_declines([value], 0, place) is not None:
        return Bound(store)
    run = joining_run([value], 0, place)

    def launch(at: Sequence[At], _: At) -> Launch | None:
        there, new = at
        apart = there.tensor.untyped_storage().data_ptr() != new.tensor.untyped_storage().data_ptr()
        return replace(run.launch([new], there), empty=None) if apart else None

    return Bound(lambda place, value: run(value, out=place), launch)
