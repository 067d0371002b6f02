"""Bound calls: an operator on tensors in the form of an earlier call, with nothing left to look up.

Reading shapes, strides and dtypes from Python and looking a call up by them takes longer than a small layer
computes. A bound call asks torch's own guard instead whether its tensors are as they were, once for all of
them, and runs what it has ready.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, get_num_threads, is_grad_enabled

from outstride.engine.runtime import chosen
from outstride.engine.torch_internals import is_plain, nobody_listens, nobody_listens_unseen, recognizer

Run = Callable[..., Any]
"""What computes an operator on plain CPU tensors of one form."""
Bound = Callable[..., Any]
"""A run that looks first: None where its operands, or what else a call depends on, are not as they were."""


def bind(ready: Callable[[], tuple[Run, Run]], *operands: Tensor) -> Bound | None:
    """The bound call for operands like these; None where they need the dispatcher or torch has no guard.

    ``ready`` makes what computes the operator, and what computes it and records it for backward.
    """
    if not nobody_listens() or not all(map(is_plain, operands)):
        return None
    recognizes = recognizer(*operands)
    if recognizes is None:
        return None
    run, record = ready()
    count, threads, instruction_set = len(operands), get_num_threads(), chosen()
    differentiable = any(tensor.requires_grad for tensor in operands)

    def bound(*operands: Tensor) -> Any:
        if (
            len(operands) == count
            and recognizes(*operands)
            and get_num_threads() == threads
            and chosen() == instruction_set
            and nobody_listens_unseen()
        ):
            return (record if differentiable and is_grad_enabled() else run)(*operands)
        return None

    return bound
