"""Operators as torch's vectors do them, also of elements that fill none: what makes a part of a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.fx import Node

from outstride.compilation.values import Operator


@dataclass(frozen=True, eq=False)
class InVectors:
    """An operator of one tensor, its first argument: every element is what torch's vectors make of it.

    Torch has another routine for elements that fill no vector, so a call of it would not do.
    """

    target: Any
    """Torch's operator."""
    rest: tuple[Any, ...]
    """Its arguments behind the tensor."""
    named: Mapping[str, Any]
    by_torch: Callable[[Tensor], Tensor]
    """What makes it where no kernel does."""

    __name__ = "in_vectors"

    def __call__(self, x: Tensor) -> Tensor:
        """All of a tensor."""
        return self.by_torch(x)

    def operator(self, node: Node) -> Operator:
        """The operator that a call of this stands for."""
        return Operator(self.target, (*node.args, *self.rest), self.named, node)
