"""Models that take a step for each element: written down step by step, they would have no end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from outstride.errors import UnsupportedError
from outstride.models.graph import Input
from outstride.models.recurrence import as_one_operator
from outstride.models.trace import Runner

#: Operations of a model; those without a loop over time have a few hundred.
_MOST_OPERATIONS = 10_000


class _Endless(Exception):  # noqa: N818 - a signal that leaves a model's forward, no error of anybody
    pass


class _Counting(TorchDispatchMode):
    """Stops a model that does not come to its end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        self._count += 1
        if self._count > _MOST_OPERATIONS:
            raise _Endless(f"more than {_MOST_OPERATIONS} operations")
        return func(*args, **(kwargs or {}))


def check_steps(model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype, what: str) -> None:
    """``check_steps_of_call`` of a model that takes one tensor."""
    check_steps_of_call(model, (Input(tuple(shape), dtype),), {}, what)


def check_steps_of_call(
    model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], what: str
) -> None:
    """Refuse a model that goes from element to element.

    A copy is run once without numbers, which takes a hundredth of what writing it down does. Torch's
    recurrent layers are one operator each. ``what``: what is to be done with it.

    Raises:
        UnsupportedError: it does.
    """
    copied = as_one_operator(Runner(model, torch.float32, {}).model)
    leaves, structure = pytree.tree_flatten((tuple(args), dict(kwargs)))
    sized = [leaf for leaf in leaves if isinstance(leaf, (Input, torch.Tensor))]
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.device("meta"), _Counting():
            called, named = pytree.tree_unflatten(list(map(_without_numbers, leaves)), structure)
            copied(*called, **named)
    except _Endless as found:
        raise UnsupportedError(
            f"'model' must not go from element to element to be {what}: got {found} for "
            f"{tuple(sized[0].shape)}; legal: layers whose windows end"
        ) from None
    except Exception:  # noqa: BLE001, S110 - whatever the model refuses, the capture that follows says
        pass


def _without_numbers(leaf: Any) -> Any:
    sized = isinstance(leaf, (Input, torch.Tensor))
    return torch.empty(tuple(leaf.shape), dtype=leaf.dtype, device="meta") if sized else leaf
