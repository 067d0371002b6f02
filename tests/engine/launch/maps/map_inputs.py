"""Tensors for maps: numbers of many magnitudes and special ones, in the layouts that torch's models have."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride.engine.launch.steps.agreement import trial
from outstride.engine.planner.steps import Step
from tests.engine.planner.chains import operands_for

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def numbers(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Numbers with zeros of both signs, infinities and NaN among them; none where the shape has none."""
    return trial(*shape, dtype=dtype, seed=seed) if 0 not in shape else torch.empty(shape, dtype=dtype)


def laid_out(tensor: Tensor, channels_last: bool) -> Tensor:
    """A tensor with its channels together, where it has axes for that and is asked to."""
    if channels_last and tensor.dim() in LAST:
        return tensor.contiguous(memory_format=LAST[tensor.dim()])
    return tensor


def operands_of(chain: tuple[Step, ...], x: Tensor, seed: int, channels_last: bool = False) -> list[Tensor]:
    """Operands of a chain on a tensor, laid out as it is."""
    made = operands_for(chain, x, lambda shape, dtype, number: numbers(shape, dtype, seed + number))
    return [laid_out(operand, channels_last) for operand in made]
