"""One tensor of a graph: the operator that makes it, of what, and how the whole lies in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Source:
    """Stands for a tensor of the graph among the arguments of an operator."""

    index: int


@dataclass(frozen=True, eq=False)
class Node:
    """One tensor: the operator that makes it, of what, and which of the operator's results it is."""

    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    sources: tuple[int, ...]
    """The tensors that it is made of, in the order of the arguments, each once."""
    source_shapes: tuple[tuple[int, ...], ...]
    source_strides: tuple[tuple[int, ...], ...]
    """How they lie in memory where the whole is run."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    result: int | None = None

    @property
    def name(self) -> str:
        """The operator without its overload: ``aten.relu``."""
        return operator_name(self.target)

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by the name it has in the operator's schema."""
        if name in self.kwargs:
            return self.kwargs[name]
        for place, parameter in enumerate(self.target._schema.arguments):  # noqa: SLF001 - torch has no other
            if parameter.name == name:
                if place < len(self.args):
                    return self.args[place]
                return parameter.default_value if parameter.has_default_value() else default
        return default

    def call(self, tensors: Sequence[Tensor], **changed: Any) -> Tensor:
        """The operator on these tensors, in the order of ``sources``, with some arguments changed."""
        held = dict(zip(self.sources, tensors, strict=True))

        def put(value: Any) -> Any:
            return held[value.index] if isinstance(value, Source) else value

        names = [parameter.name for parameter in self.target._schema.arguments]  # noqa: SLF001
        given = dict(zip(names, self.args, strict=False)) | dict(self.kwargs) | changed
        result = self.target(**{name: mapped(put, value) for name, value in given.items()})
        made: Tensor = result if self.result is None else result[self.result]
        return made


def operator_name(target: Any) -> str:
    """An operator's name without its overload."""
    return str(target).rsplit(".", 1)[0]


def mapped(put: Callable[[Any], Any], value: Any) -> Any:
    """An argument of an operator with each of its entries replaced."""
    return type(value)(mapped(put, v) for v in value) if isinstance(value, (list, tuple)) else put(value)
