"""Bound calls: an operator on tensors in the form of an earlier call, with nothing left to look up.

Reading shapes, strides and dtypes from Python and looking a call up by them takes longer than a small layer
computes. A bound call asks torch's own guard instead whether its tensors are as they were, once for all of
them, and runs what it has ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, get_num_threads, is_grad_enabled

from outstride.ops.torch_internals import is_plain, nobody_listens, nobody_listens_unseen, recognizer
from outstride.runtime import chosen

Run = Callable[..., Any]
"""What computes an operator on plain CPU tensors of one form."""


class Bound:
    """An operator on operands of one form, on as many threads as there were."""

    __slots__ = (
        "_count", "_differentiable", "_instruction_set", "_recognizes", "_record", "_run", "_threads"
    )  # fmt: skip

    def __init__(
        self, recognizes: Callable[..., bool], run: Run, record: Run, operands: Sequence[Tensor]
    ) -> None:
        self._recognizes = recognizes
        self._run = run
        self._record = record
        self._count = len(operands)
        self._differentiable = any(tensor.requires_grad for tensor in operands)
        self._threads = get_num_threads()
        self._instruction_set = chosen()

    def fits(self, *operands: Tensor) -> bool:
        """Whether these operands, and all that a call depends on besides, are as they were."""
        return (
            len(operands) == self._count
            and self._recognizes(*operands)
            and get_num_threads() == self._threads
            and chosen() == self._instruction_set
            and nobody_listens_unseen()
        )

    def __call__(self, *operands: Tensor) -> Any:
        """Compute, recorded where backward will come."""
        if self._differentiable and is_grad_enabled():
            return self._record(*operands)
        return self._run(*operands)


def bind(ready: Callable[[], tuple[Run, Run]], *operands: Tensor) -> Bound | None:
    """The bound call for operands like these; None where they need the dispatcher or torch has no guard.

    ``ready`` makes what computes the operator, and what computes it and records it for backward.
    """
    if not nobody_listens() or not all(map(is_plain, operands)):
        return None
    recognizes = recognizer(*operands)
    return None if recognizes is None else Bound(recognizes, *ready(), operands)
