"""One tensor of a graph: the operator that makes it, of what, and how the whole lies in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from outstride.models.operation import Operation, mapped

#: Layers and operators that are named in a sentence.
_MOST_NAMED = 3


@dataclass(frozen=True)
class Source:
    """Stands for a tensor of the graph among the arguments of an operator."""

    index: int


@dataclass(frozen=True, eq=False)
class Node(Operation):
    """One tensor: the operator that makes it, of what, and which of the operator's results it is."""

    sources: tuple[int, ...]
    """The tensors that it is made of, in the order of the arguments, each once."""
    source_shapes: tuple[tuple[int, ...], ...]
    source_strides: tuple[tuple[int, ...], ...]
    """How they lie in memory where the whole is run."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    result: int | None = None
    kind: Any = None
    """Its description, where that is not the one of its operator."""
    layer: str = ""
    """The innermost layer of the model whose code calls it, by its name in the model."""
    layer_class: str = ""
    """The name of its class."""
    is_layer: bool = False
    """Whether it is a layer that has no others."""

    @property
    def called(self) -> str:
        """What makes it, for a sentence: such a layer, or an operator and the layer whose code calls it."""
        operator = self.name.rpartition(".")[2].lstrip("_")
        where = f"{self.layer!r} ({self.layer_class})"
        return operator if not self.layer else f"layer {where}" if self.is_layer else f"{operator} in {where}"

    def result_shape(self) -> tuple[int, ...]:
        """That of this tensor."""
        return self.shape

    def shape_of(self, tensor: Source) -> tuple[int, ...]:
        """Size of a source."""
        return self.source_shapes[self.place_of(tensor)]

    def place_of(self, tensor: Source) -> int:
        """Where a tensor stands among the sources."""
        return self.sources.index(tensor.index)

    def call(self, tensors: Sequence[Tensor], **changed: Any) -> Tensor:
        """The operator on these tensors, in the order of ``sources``, with some arguments changed."""
        held = dict(zip(self.sources, tensors, strict=True))

        def put(value: Any) -> Any:
            return held[value.index] if isinstance(value, Source) else value

        arguments = self.arguments() | changed
        result = self.target(**{name: mapped(put, value) for name, value in arguments.items()})
        made: Tensor = result if self.result is None else result[self.result]
        return made


def listed(nodes: Iterable[Node]) -> str:
    """Some tensors by what makes them."""
    return first_few(node.called for node in nodes)


def first_few(words: Iterable[str]) -> str:
    """The first few of different words, and how many more there are."""
    names = list(dict.fromkeys(words))
    return ", ".join(names[:_MOST_NAMED]) + (
        f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else ""
    )
