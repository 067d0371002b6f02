"""The memory format of a result: channels_last as soon as one operand is stored so, as in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""What torch calls channels_last, by the number of axes."""

Layout = Literal["contiguous", "channels_last"]
"""How a tensor lies, whatever its number of axes."""


def result_format(first: Tensor, second: Tensor) -> torch.memory_format:
    """Return the memory format of what a contraction of two operands returns.

    Args:
        first, second: the two operands, (N, C, *size) or (O, C/g, *kernel_size).

    Returns:
        channels_last (2-d, and 1-d as one row of it) or channels_last_3d where the strides of one operand say
        so, otherwise contiguous.
    """
    a, b = first.stride(), second.stride()
    rank = len(a)
    if rank == 2:  # no axis beside the channels: they are last as they are
        return torch.contiguous_format
    # Channels that lie further apart than neighbours, as they mostly do, settle it at once.
    if a[1] > a[-1] and b[1] > b[-1]:
        return torch.contiguous_format
    if rank == 3:
        # As torch: one row of a 2-d layer, the input copied first unless it is contiguous.
        rows = [tensor.unsqueeze(2) for tensor in ((first, second) if first.is_contiguous() else (second,))]
        return torch.channels_last if any(map(_is_channels_last, rows)) else torch.contiguous_format
    if _is_channels_last(first) or _is_channels_last(second):
        return FORMATS[rank]
    return torch.contiguous_format


def own_format(x: Tensor) -> torch.memory_format:
    """What torch takes a tensor's memory format for, by its strides; it may yet have gaps."""
    return result_format(x, x) if x.dim() > 3 else torch.contiguous_format


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a contiguous tensor with at least one element."""
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides))


def strides_of(shape: Sequence[int], layout: Layout) -> tuple[int, ...]:
    """The strides of a tensor (N, C, *size) with at least one element."""
    if layout == "contiguous":
        return contiguous_strides(shape)
    batch, *spatial, channel = contiguous_strides([shape[0], *shape[2:], shape[1]])
    return (batch, channel, *spatial)


def layout_of_result(x: Tensor) -> Layout | None:
    """How the result of a map of a tensor lies, as torch decides; None where the tensor does not lie so."""
    wanted = own_format(x)
    if not x.is_contiguous(memory_format=wanted):
        return None
    return "contiguous" if wanted is torch.contiguous_format else "channels_last"


def empty_result(shape: Sequence[int], first: Tensor, second: Tensor) -> Tensor:
    """Allocate a result in the memory format that its operands decide; too large a one fails here."""
    memory_format = result_format(first, second)
    if memory_format is torch.contiguous_format:
        return first.new_empty(shape)
    if len(shape) == 3:
        row = (*shape[:2], 1, shape[2])
        return torch.empty(row, dtype=first.dtype, device=first.device, memory_format=memory_format).squeeze(
            2
        )
    return torch.empty(shape, dtype=first.dtype, device=first.device, memory_format=memory_format)


def _is_channels_last(tensor: Tensor) -> bool:
    # Sizes of one fit every format, so the strides decide, read from the channels outwards as torch does.
    sizes, strides = tensor.shape, tensor.stride()
    if strides[1] == 0 or strides[1] > strides[-1]:
        return False
    least = 0
    for axis in (1, *range(tensor.dim() - 1, 1, -1), 0):
        if sizes[axis] == 0 or strides[axis] < least or (axis == 0 and least == strides[1]):
            return False
        least = strides[axis] * max(sizes[axis], 1)
    return True
