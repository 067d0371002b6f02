"""One operation of a run, with the tensors that went in and came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor

from outstride.models.operation import Operation


@dataclass(frozen=True, eq=False)
class Call(Operation):
    """One operation of a run with its tensors: what it was called with and what it made."""

    outputs: tuple[Tensor, ...]
    module: int = -1
    """The innermost layer that it belongs to, as an index into ``Trace.layers``; -1 outside of all."""
    wraps: bool = False
    """Whether this padding takes the far side of the image (circular), and not zeros."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors among its arguments."""
        return tuple(tensors((self.args, self.kwargs)))

    def result_shape(self) -> tuple[int, ...]:
        """That of the first tensor."""
        return tuple(self.outputs[0].shape)

    def shape_of(self, tensor: Tensor) -> tuple[int, ...]:
        """Size of any tensor."""
        return tuple(tensor.shape)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest of tuples, lists, mappings and dataclasses, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from tensors(entry)
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from tensors(entry)
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from tensors(getattr(value, entry.name))
