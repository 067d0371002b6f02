"""Operators that torch has for some layouts alone, called for tensors that lie in another one.

A tracer is told how tensors lie by rules of its own, which differ from what torch's operators do where axes
of one element are: of one image it takes for channels_last what torch does not. Torch's functions first make
what they are given fit; what the tracer left out of them is done here, when the tensors are there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from outstride.engine.launch.memory_format import own_format


def fitting(target: Any) -> Callable[..., Any]:
    """What an operator does for tensors that lie in any way."""
    place = _IN_FORMAT.get(target)
    if place is not None:
        return partial(_in_format, target, place)
    known: Callable[..., Any] = torch.ops.aten.reshape.default if target in _VIEWS else target
    return known


def in_format(x: Tensor) -> Tensor:
    """A tensor without gaps, in the memory format that torch takes it for."""
    return x.contiguous(memory_format=own_format(x))


def _in_format(target: Callable[..., Any], place: int, *given: Any) -> Any:
    """The operator, with all tensors up to this place in the format of the one there."""
    wanted = own_format(given[place])
    together = [x.contiguous(memory_format=wanted) for x in given[: place + 1]]
    return target(*together, *given[place + 1 :])


#: Of each which argument is the input, in whose format it takes that and the gradient before it.
_IN_FORMAT = {
    torch.ops.aten.native_group_norm.default: 0,
    torch.ops.aten.native_group_norm_backward.default: 1,
}
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)  # noqa: SLF001 - an operator
