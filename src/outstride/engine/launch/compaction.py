"""Contractions on axes of which few positions are used: those are compacted before, or spread out after.

The terms of every output and their order stay the same, so its bits do, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from outstride.engine.launch.gather import GatherCall
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.memory_format import result_format
from outstride.engine.planner.gaps import Gaps, close_gaps

_Index: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Compaction:
    """Which positions of a tensor's axes are used, and the geometry of the tensor of these alone."""

    axes: tuple[Gaps | None, ...]
    #: Of each axis before: windows, taps, stride, padding and dilation.
    numbers: tuple[tuple[int, int, int, int, int], ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def used(self, size: Sequence[int], device: torch.device) -> tuple[_Index, _Index]:
        """Indices of the used positions in tensors of that size, and of their places in the compact one."""
        positions: list[Tensor] = []
        places: list[Tensor] = []
        for n, compact, axis, numbers in zip(size, self.size, self.axes, self.numbers, strict=True):
            place = position = torch.arange(compact, device=device)
            if axis is not None and axis.classes:
                position = axis.first + place * axis.classes
            elif axis is not None:
                position = _windows(*numbers, device)
            inside = (position >= 0) & (position < n)
            positions.append(position[inside])
            places.append(place[inside])
        return _grid(positions), _grid(places)

    def empty(self, large: Tensor, device: torch.device | str) -> Tensor:
        """A compact tensor with nothing written yet, in the memory format of the large one."""
        shape = (*large.shape[:2], *self.size)
        memory_format = result_format(large, large)
        return torch.empty(shape, dtype=large.dtype, device=device, memory_format=memory_format)

    def compact(self, tensor: Tensor) -> Tensor:
        """The used positions of a tensor, zeros for those outside."""
        compact = self.empty(tensor, tensor.device).zero_()
        positions, places = self.used(tensor.shape[2:], tensor.device)
        compact[places] = tensor[positions]
        return compact

    def spread(self, compact: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """Write the used positions into `out`, and the bias everywhere else."""
        fill_with_bias(out, bias)
        positions, places = self.used(out.shape[2:], out.device)
        out[positions] = compact[places]


def fill_with_bias(out: Tensor, bias: Tensor | None) -> None:
    """Write what a sum without terms is: the bias, or zeros."""
    if bias is None:
        out.zero_()
    else:
        out.copy_(bias.view(-1, *[1] * (out.dim() - 2)).expand_as(out))


def _windows(
    windows: int, taps: int, stride: int, padding: int, dilation: int, device: torch.device
) -> Tensor:  # fmt: skip
    """The positions of all taps of all windows, one window behind the other."""
    first = torch.arange(windows, device=device) * stride - padding
    return (first[:, None] + torch.arange(taps, device=device) * dilation).flatten()


def _grid(along: Sequence[Tensor]) -> _Index:
    """The index of all combinations of positions along each axis, in all batches and channels."""
    last = len(along) - 1
    return slice(None), slice(None), *(at.view(-1, *[1] * (last - i)) for i, at in enumerate(along))


def compaction(
    large: Sequence[int], small: Sequence[int], kernel_size: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> Compaction | None:  # fmt: skip
    """How the large side of a contraction is compacted; None where that is not worth it."""
    axes = close_gaps(large, small, kernel_size, stride, padding, dilation)
    if axes is None:
        return None
    after = [
        axis or Gaps(*numbers) for axis, *numbers in zip(axes, large, stride, padding, dilation, strict=True)
    ]
    return Compaction(
        axes,
        tuple(zip(small, kernel_size, stride, padding, dilation, strict=True)),
        *(tuple(column) for column in list(zip(*after, strict=True))[:4]),
    )


def compacted(operands: Operands) -> tuple[Operands, Compaction | None]:
    """The operands of the contraction that runs, and how their large side is compacted, if it is.

    Of all operands only shapes, strides and dtype are looked at; the compact one is a meta tensor.
    """
    operator, x, w, y, stride, padding, dilation, groups, *_ = operands
    forward = operator == "conv"
    large, small = (x, y) if forward else (y, x)
    how = compaction(large.shape[2:], small.shape[2:], w.shape[2:], stride, padding, dilation)
    if how is None:
        return operands, None
    compact = how.empty(large, "meta")
    x, y = (compact, y) if forward else (x, compact)
    return Operands(operator, x, w, y, how.stride, how.padding, how.dilation, groups), how


@dataclass(frozen=True, slots=True)
class CompactedCall:
    """The call of a convolution or its adjoint with an axis of which few positions are used."""

    is_short: ClassVar[bool] = False
    operator: Literal["conv", "conv_transpose"]
    call: GatherCall
    compaction: Compaction

    @property
    def is_resizable(self) -> bool:
        """Whether other sizes may be served as well."""
        return False

    def resized(self, size: Sequence[int], result_size: Sequence[int]) -> None:
        """None: another size is compacted in another way."""

    def __call__(
        self, x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, operands: Sequence[Tensor] = (), *,
        inside: bool = False,
    ) -> bool:  # fmt: skip
        """Compute y, where the call does; operands are those of steps, which no spread result has."""
        if self.operator == "conv":
            return self.call(self.compaction.compact(x), w, bias, y, operands, inside=inside)
        compact = self.compaction.empty(y, y.device)
        computed = self.call(x, w, bias, compact, inside=inside)
        if computed:
            self.compaction.spread(compact, y, bias)
        return computed
