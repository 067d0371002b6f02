"""Guarded calls: a computation with a test whether its tensors are as those that it was made for.

Reading shapes, strides and dtypes from Python and looking a call up by them takes longer than a small layer
computes. A guarded call asks torch's own guard instead whether its tensors are as they were, once for all of
them, and runs what it has ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, get_num_threads, is_grad_enabled

from outstride.engine.runtime import chosen
from outstride.engine.torch_internals import (
    is_intercepted,
    is_intercepted_beyond_guard,
    is_plain,
    tensor_guard,
)

Run = Callable[..., Any]
"""What computes an operator on plain CPU tensors of one set of shapes, strides and dtype."""
GuardedCall = Callable[..., Any]
"""A run behind a guard: None where its operands, or what else a call depends on, are not as they were."""


def guarded_call(prepare: Callable[[], tuple[Run, Run]], *operands: Tensor) -> GuardedCall | None:
    """The guarded call for operands like these; None where they need the dispatcher or torch has no guard.

    ``prepare`` makes what computes the operator, and what computes it and records it for backward.
    """
    if is_intercepted() or not all(map(is_plain, operands)):
        return None
    guard = tensor_guard(*operands)
    if guard is None:
        return None
    run, record = prepare()
    count, threads, instruction_set = len(operands), get_num_threads(), chosen()
    differentiable = any(tensor.requires_grad for tensor in operands)

    def guarded(*operands: Tensor) -> Any:
        if (
            len(operands) == count
            and guard(*operands)
            and get_num_threads() == threads
            and chosen() == instruction_set
            and not is_intercepted_beyond_guard()
        ):
            return (record if differentiable and is_grad_enabled() else run)(*operands)
        return None

    return guarded
