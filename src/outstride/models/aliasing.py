"""Which tensor is a view of which, and what becomes of the others when one is written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from outstride.errors import UnsupportedError
from outstride.models.call import Call
from outstride.models.operation import parameters_of
from outstride.models.operators import indexing, views
from outstride.models.operators.describing import describe

aten = torch.ops.aten

Piece = tuple[Any, Sequence[Any], Mapping[str, Any]]
"""An operator that takes one view, and its arguments after the tensor."""


class View:
    """A tensor of a model: its node, and the tensor that it is a view of, if it has no memory of its own."""

    def __init__(
        self, tensor: Tensor, index: int, parent: View | None = None,
        take: Callable[[int], int] | None = None, back: Callable[[int, int], int] | None = None,
    ) -> None:  # fmt: skip
        self.tensor, self.index, self.parent = tensor, index, parent
        self.take, self.back = take, back
        self.root: View = self if parent is None else parent.root
        self.writes: int = 0 if parent is None else self.root.writes
        self._memory = _memory(tensor)

    @property
    def is_stale(self) -> bool:
        """Whether the memory has been written to since the node was made."""
        return self.writes != self.root.writes

    def settle(self, index: int) -> None:
        """The node that holds what the memory holds now."""
        self.index, self.writes = index, self.root.writes

    def written(self) -> None:
        """The memory has been written to."""
        self.root.writes += 1

    def is_of(self, tensor: Tensor) -> bool:
        """Whether a tensor has this memory, all of it and in this form."""
        return self._memory == _memory(tensor)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    return (
        tensor.untyped_storage()._cdata,  # noqa: SLF001 - what tells storages without numbers apart
        tensor.storage_offset(), tuple(tensor.shape), tensor.stride(),
    )  # fmt: skip


def pieces(call: Call) -> Iterator[Piece]:
    """Each view that an operator returns, by an operator that returns just this one."""
    kind = describe(call)
    if isinstance(kind, indexing.Split):
        sizes = [view.shape[kind.axis] for view in call.outputs]
        for size, stop in zip(sizes, accumulate(sizes), strict=True):
            yield aten.slice.Tensor, (kind.axis, stop - size, stop), {}
    elif isinstance(kind, indexing.Unbind):
        for place in range(len(call.outputs)):
            yield aten.select.int, (kind.axis, place), {}
    elif len(call.outputs) == 1:
        yield call.target, call.args[1:], call.kwargs
    else:
        raise UnsupportedError(
            f"'model' must take parts of a tensor by operators that are known: got {call.target}; "
            "legal: slices, split, chunk and unbind"
        )


class PutBack(NamedTuple):
    """What makes a tensor of its view that was written to; ``of_both``: and of what it was before."""

    target: Any
    rest: tuple[Any, ...]
    of_both: bool


def put_back(target: Any, rest: Sequence[Any], kwargs: Mapping[str, Any], parent: Tensor) -> PutBack:
    """The way back from a view that ``target`` took of a tensor.

    Raises:
        UnsupportedError: there is none.
    """
    call = Call(target, (parent, *rest), kwargs, ())
    if call.name in _SCATTERED:
        values = (call.argument(parameter.name) for parameter in parameters_of(target)[1:])
        return PutBack(_SCATTERED[call.name], tuple(values), True)
    kind = describe(call)
    if isinstance(kind, (views.Alias, views.Copy)):
        return PutBack(aten.alias.default, (), False)
    if isinstance(kind, (views.Reshape, views.Squeeze, views.Unsqueeze)):
        return PutBack(aten.reshape.default, (list(parent.shape),), False)
    if isinstance(kind, views.Permute):
        return PutBack(aten.permute.default, (kind.inverse,), False)
    raise UnsupportedError(
        f"'model' must write to views that can be put back: got one by {target}; legal: slices, "
        "one index of an axis, axes in another order or another shape"
    )


_SCATTERED = {
    "aten.slice": aten.slice_scatter.default,
    "aten.select": aten.select_scatter.default,
    "aten.diagonal": aten.diagonal_scatter.default,
}
