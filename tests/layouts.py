"""How an operand may lie in memory: formats, crops, slices, offsets, and elements that stand for several."""

from __future__ import annotations

import torch
from torch import Tensor

#: Those that keep every value of a tensor.
FAITHFUL = (
    "contiguous", "channels_last", "permuted", "sliced", "offset", "cropped", "cropped_channels_last",
    "some_channels", "swapped", "batch_last",
)  # fmt: skip
#: Those that repeat what they keep.
REPEATING = ("expanded", "same_images", "same_columns", "same_channels", "one_element")


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The tensor in a layout, with NaN in the memory between and around its elements.

    Repeating layouts keep the first element of some axes in the place of all.
    """
    if not tensor.numel():
        return tensor
    if layout in REPEATING:
        first = tensor
        for axis in _REPEATED.get(layout, range(tensor.dim())):
            first = first.narrow(axis, 0, 1)
        return first.contiguous().expand(tensor.shape)
    if layout == "contiguous":
        return tensor.contiguous()
    if layout == "offset":
        room = tensor.new_full((tensor.numel() + 6,), torch.nan)
        return room[3 : 3 + tensor.numel()].view(tensor.shape).copy_(tensor)
    order = _order(layout, tensor.dim())
    margins = _MARGINS.get(layout)
    if margins is None:
        return tensor.permute(order).contiguous().permute(_inverse(order))
    before, after, step = margins
    spread = range(1, 2) if layout == "some_channels" else range(tensor.dim())
    if layout.startswith("cropped"):
        spread = range(2, tensor.dim())
    shape = [before + n * step + after if axis in spread else n for axis, n in enumerate(tensor.shape)]
    room = tensor.new_full([shape[axis] for axis in order], torch.nan).permute(_inverse(order))
    cut = tuple(
        slice(before, before + n * step, step) if axis in spread else slice(None)
        for axis, n in enumerate(tensor.shape)
    )
    return room[cut].copy_(tensor)


#: The axes of which the first element stands for all; the others do so of every axis.
_REPEATED = {"expanded": (0, 1), "same_images": (0,), "same_columns": (-1,), "same_channels": (1,)}
#: Elements before and after those of an axis, and the step from one to the next.
_MARGINS = {
    "sliced": (1, 0, 2), "cropped": (1, 2, 1), "cropped_channels_last": (2, 1, 1), "some_channels": (2, 3, 1),
}  # fmt: skip


def _order(layout: str, rank: int) -> tuple[int, ...]:
    """Axes from the slowest to the fastest in memory."""
    axes = tuple(range(rank))
    return {
        "channels_last": (0, *axes[2:], 1),
        "cropped_channels_last": (0, *axes[2:], 1),
        "permuted": tuple(reversed(axes)),
        "swapped": (*axes[:-2], *reversed(axes[-2:])),
        "batch_last": (*axes[1:], 0),
    }.get(layout, axes)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))
