"""Stages of padding layers: every element moves once."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from torch import Tensor
from torch.fx import Node

from outstride.compilation.maps import of_one, tried_stage
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator, is_served, is_tensor
from outstride.engine.launch.maps import padding

_BORDERS: dict[str, padding.Border] = {"aten.constant_pad_nd": "constant"}
for _axes in (1, 2, 3):
    _BORDERS[f"aten.reflection_pad{_axes}d"] = "reflect"
    _BORDERS[f"aten.replication_pad{_axes}d"] = "replicate"


def start(node: Node, fuse: bool, taken: Container[Node]) -> Stage | None:
    """The stage that begins with an operator, if it pads by numbers."""
    del fuse, taken
    operator = Operator.of(node)
    border = _BORDERS.get(operator.name)
    if border is None:
        return None
    source, pads = operator.args[:2]
    value: Any = operator.argument("value", 0) if border == "constant" else 0
    if not is_tensor(source) or not is_served(source) or not isinstance(value, (int, float)):
        return None
    if not all(isinstance(pad, int) for pad in pads):
        return None
    further, target, given = operator.args[1:], operator.target, tuple(pads)

    def torchs(x: Tensor) -> Tensor:
        made: Tensor = target(x, *further)
        return made

    return tried_stage(
        (node,), (source,),
        lambda x: of_one(padding.padding_run(x, given, border, float(value))),
        lambda x: padding.padding_declines(x, given, border),
        torchs, "pad", "padding does no steps",
    )  # fmt: skip
