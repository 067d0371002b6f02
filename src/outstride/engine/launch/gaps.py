"""Contractions on axes with gaps: the used positions are gathered before, or spread among the bias after.

The terms of every output and their order stay the same, so its bits do, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from outstride.engine.launch.gather import GatherCall
from outstride.engine.launch.layout import result_format
from outstride.engine.launch.single import Operands
from outstride.engine.planner.gaps import Gaps, close_gaps

_Index: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Closing:
    """Which positions of the axes of a tensor are kept, and the geometry of what is left of them."""

    axes: tuple[Gaps | None, ...]
    #: Of the axes before: windows, taps, stride, padding and dilation.
    numbers: tuple[tuple[int, int, int, int, int], ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def kept(self, size: Sequence[int], device: torch.device) -> tuple[_Index, _Index]:
        """Indices of the kept positions in tensors of that size, and of the places that stand for them."""
        positions: list[Tensor] = []
        places: list[Tensor] = []
        for n, closed, axis, numbers in zip(size, self.size, self.axes, self.numbers, strict=True):
            at = stands_for = torch.arange(closed, device=device)
            if axis is not None and axis.classes:
                stands_for = axis.first + at * axis.classes
            elif axis is not None:
                stands_for = _windows(*numbers, device)
            there = (stands_for >= 0) & (stands_for < n)
            positions.append(stands_for[there])
            places.append(at[there])
        return _grid(positions), _grid(places)

    def room(self, large: Tensor, like: Tensor, device: torch.device | str) -> Tensor:
        """Memory for the kept positions, in the memory format of the result of such operands."""
        shape = (*large.shape[:2], *self.size)
        return torch.empty(shape, dtype=large.dtype, device=device, memory_format=result_format(large, like))

    def gather(self, tensor: Tensor) -> Tensor:
        """The kept positions of a tensor, zeros for those outside."""
        room = self.room(tensor, tensor, tensor.device).zero_()
        positions, places = self.kept(tensor.shape[2:], tensor.device)
        room[places] = tensor[positions]
        return room

    def spread(self, kept: Tensor, out: Tensor, bias: Tensor | None) -> None:
        """Write the kept positions into `out`, and the bias everywhere else."""
        fill_with_bias(out, bias)
        positions, places = self.kept(out.shape[2:], out.device)
        out[positions] = kept[places]


def fill_with_bias(out: Tensor, bias: Tensor | None) -> None:
    """What a sum of no terms is."""
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


def closing(
    large: Sequence[int], small: Sequence[int], kernel_size: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int],
) -> Closing | None:  # fmt: skip
    """How the large side of a contraction is closed up; None where that is not worth it."""
    axes = close_gaps(large, small, kernel_size, stride, padding, dilation)
    if axes is None:
        return None
    after = [
        axis or Gaps(*numbers) for axis, *numbers in zip(axes, large, stride, padding, dilation, strict=True)
    ]
    return Closing(
        axes,
        tuple(zip(small, kernel_size, stride, padding, dilation, strict=True)),
        *(tuple(column) for column in list(zip(*after, strict=True))[:4]),
    )


def closed(given: Operands) -> tuple[Operands, Closing | None]:
    """The operands of the contraction that runs, and how their large side is closed up, if it is.

    Of all operands only shapes, strides and dtype are looked at; the one that is closed up is a meta tensor.
    """
    forward = given.operator == "conv"
    large, small = (given.x, given.y) if forward else (given.y, given.x)
    kernel = given.w.shape[2:]
    how = closing(large.shape[2:], small.shape[2:], kernel, given.stride, given.padding, given.dilation)
    if how is None:
        return given, None
    kept = how.room(large, large, "meta")
    x, y = (kept, given.y) if forward else (given.x, kept)
    geometry = (how.stride, how.padding, how.dilation)
    return Operands(given.operator, x, given.w, y, *geometry, given.groups), how


@dataclass(frozen=True, slots=True)
class ClosedCall:
    """The call of a convolution or its adjoint on an axis with gaps."""

    operator: Literal["conv", "conv_transpose"]
    call: GatherCall
    closing: Closing

    @property
    def stretches(self) -> bool:
        """Whether other sizes may be served as well."""
        return False

    def resized(self, size: Sequence[int], result_size: Sequence[int]) -> None:
        """None: another size is closed up in another way."""

    def __call__(self, x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, *, inside: bool = False) -> bool:
        """Compute y, where the call does."""
        if self.operator == "conv":
            return self.call(self.closing.gather(x), w, bias, y, inside=inside)
        kept = self.closing.room(y, y, y.device)
        made = self.call(x, w, bias, kept, inside=inside)
        if made:
            self.closing.spread(kept, y, bias)
        return made
