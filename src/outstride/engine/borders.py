"""Padding modes as linear maps: ``pad`` and its exact adjoint ``fold``."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Pairs = Sequence[tuple[int, int]]
Place = tuple[int, int | None]
"""Start and end of a part of an axis; below zero counted from the end."""


def pad(input: Tensor, pairs: Pairs, mode: str) -> Tensor:
    """Continue a tensor beyond its borders.

    Args:
        input: (N, C, *size).
        pairs: one (low, high) pair per spatial axis, each 0 or more; below the size for "reflect", at most
            the size for "circular".
        mode: "zeros", "reflect" (the edge sample is not repeated), "replicate" or "circular".

    Returns:
        (N, C, *size + low + high): 1234 with (2, 2) becomes 321234 32 read as 32|1234|32 (reflect),
        11|1234|44 (replicate), 34|1234|12 (circular), 00|1234|00 (zeros).

    Example:
        >>> pad(torch.tensor([[[1, 2, 3, 4]]]), [(2, 1)], "circular").tolist()
        [[[3, 4, 1, 2, 3, 4, 1]]]
    """
    if not any(low or high for low, high in pairs):
        return input
    if mode == "zeros":
        return F.pad(input, [end for pair in reversed(pairs) for end in pair])
    for axis, (low, high) in enumerate(pairs, 2):
        input = _extend(input, axis, low, high, mode)
    return input


def fold(output: Tensor, pairs: Pairs, mode: str) -> Tensor:
    """Bring what lies beyond the borders back inside: the exact adjoint of ``pad``.

    Args:
        output: (N, C, *size + low + high).
        pairs, mode: as they were given to ``pad``.

    Returns:
        (N, C, *size): zeros drops the border, replicate adds it to the edge sample, reflect adds it mirrored,
        circular adds it at the other end. Law: <pad(x), y> = <x, fold(y)>.

    Example:
        >>> fold(torch.tensor([[[10, 20, 1, 2, 3, 4, 30]]]), [(2, 1)], "circular").tolist()
        [[[31, 2, 13, 24]]]
    """
    for axis, (low, high) in enumerate(pairs, 2):
        if low or high:
            output = _fold_axis(output, axis, low, high, mode)
    return output


def _extend(input: Tensor, axis: int, low: int, high: int, mode: str) -> Tensor:
    # Places are counted from the end that they are at, so that a recording of this knows no size.
    before = _border(input, axis, low, mode, ((1, 1 + low), (0, 1), (-low, None))) if low else []
    after = _border(input, axis, high, mode, ((-1 - high, -1), (-1, None), (0, high))) if high else []
    return torch.cat([*before, input, *after], axis) if before or after else input


def _border(
    input: Tensor, axis: int, width: int, mode: str, places: tuple[Place, Place, Place]
) -> list[Tensor]:
    reflect, replicate, circular = places
    if mode == "reflect":
        return [_part(input, axis, reflect).flip(axis)]
    if mode == "replicate":
        # One by one, so that the gradient adds them one by one: ``expand`` would leave the order of its sum
        # to the memory layout (law 4).
        return [_part(input, axis, replicate)] * width
    return [_part(input, axis, circular)]


def _part(tensor: Tensor, axis: int, place: Place) -> Tensor:
    index = [slice(None)] * axis + [slice(*place)]
    return tensor[tuple(index)]


def _fold_axis(output: Tensor, axis: int, low: int, high: int, mode: str) -> Tensor:
    inside = _part(output, axis, (low, -high or None))
    if mode == "zeros":
        return inside
    size = output.shape[axis] - low - high
    if low:
        border = _part(output, axis, (0, low))
        inside = inside + _moved_back(border, axis, size, mode, (1, 0, size - low))
    if high:
        border = _part(output, axis, (-high, None))
        inside = inside + _moved_back(border, axis, size, mode, (size - 1 - high, size - 1, 0))
    return inside


def _moved_back(border: Tensor, axis: int, size: int, mode: str, starts: tuple[int, int, int]) -> Tensor:
    """The border where ``pad`` read it from, zeros elsewhere."""
    reflect, replicate, circular = starts
    if mode == "reflect":
        border, start = border.flip(axis), reflect
    elif mode == "replicate":
        # In the order of the border, whatever the memory layout (law 4): ``sum`` has an order for each.
        border, start = functools.reduce(torch.add, border.split(1, axis)), replicate
    else:
        start = circular
    after = size - start - border.shape[axis]
    return F.pad(border, [0, 0] * (border.dim() - 1 - axis) + [start, after])
