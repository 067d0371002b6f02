"""Which tensor is a view of which, and what becomes of the others when one is written to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from outstride.errors import UnsupportedError

aten = torch.ops.aten

Piece = tuple[Any, Sequence[Any], Mapping[str, Any]]
"""An operator that takes one view, and what it is given after the tensor."""


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


def pieces(
    func: Any, rest: Sequence[Any], given: Mapping[str, Any], views: Sequence[Tensor], parent: Tensor
) -> Iterator[Piece]:
    """Each view that an operator returns, by an operator that returns just this one."""
    name = func._schema.name  # noqa: SLF001 - torch has no other
    if name in (
        "aten::split",
        "aten::split_with_sizes",
        "aten::unsafe_split",
        "aten::unsafe_split_with_sizes",
    ):
        dim = given.get("dim", rest[1] if len(rest) > 1 else 0) % parent.dim()
        for view, stop in zip(views, accumulate(view.shape[dim] for view in views), strict=True):
            yield aten.slice.Tensor, (dim, stop - view.shape[dim], stop), {}
    elif name == "aten::unbind":
        dim = given.get("dim", rest[0] if rest else 0) % parent.dim()
        for place in range(len(views)):
            yield aten.select.int, (dim, place), {}
    elif len(views) == 1:
        yield func, rest, given
    else:
        raise UnsupportedError(
            f"'model' must take parts of a tensor by operators that are known: got {func}; "
            "legal: slices, split, chunk and unbind"
        )


class PutBack(NamedTuple):
    """What makes a tensor of its view that was written to; ``of_both``: and of what it was before."""

    target: Any
    rest: tuple[Any, ...]
    of_both: bool


def put_back(target: Any, rest: Sequence[Any], given: Mapping[str, Any], parent: Tensor) -> PutBack:
    """The way back from a view that ``target`` took of a tensor.

    Raises:
        UnsupportedError: there is none.
    """
    parameters = target._schema.arguments  # noqa: SLF001 - torch has no other
    name = target._schema.name.removeprefix("aten::")  # noqa: SLF001
    named = {a.name: a.default_value for a in parameters if a.has_default_value()}
    named |= dict(zip([a.name for a in parameters][1:], rest, strict=False)) | dict(given)
    if name in ("slice", "select", "diagonal"):
        scatter = getattr(aten, f"{name}_scatter").default
        return PutBack(scatter, tuple(named[a.name] for a in parameters[1:]), True)
    if name in ("alias", "detach", "lift_fresh"):
        return PutBack(aten.alias.default, (), False)
    if name in ("view", "_reshape_alias", "squeeze", "unsqueeze"):
        return PutBack(aten.reshape.default, (list(parent.shape),), False)
    if name in ("permute", "transpose", "t"):
        order = list(range(parent.dim()))
        if name == "permute":
            order = [dim % len(order) for dim in named["dims"]]
        elif len(order) > 1:
            a, b = (named["dim0"], named["dim1"]) if name == "transpose" else (0, 1)
            order[a], order[b] = order[b], order[a]
        return PutBack(aten.permute.default, ([order.index(axis) for axis in range(len(order))],), False)
    raise UnsupportedError(
        f"'model' must write to views that can be put back: got one by {target}; legal: slices, "
        "one index of an axis, axes in another order or another shape"
    )
