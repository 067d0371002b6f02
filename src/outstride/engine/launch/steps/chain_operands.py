"""The operands of a chain of steps: whether they fit a result, and their addresses for a call."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from outstride.engine.planner.steps import Step, operand_forms


def misfit(
    steps: Sequence[Step], x: Tensor, strides: Sequence[int], operands: Sequence[Tensor]
) -> str | None:  # fmt: skip
    """Why operands do not fit steps on a result that is as `x` but for its strides, or nothing."""
    forms = operand_forms(steps)
    if len(forms) != len(operands):
        return "there are other operands than the steps take"
    for form, operand in zip(forms, operands, strict=True):
        if operand.dtype is not x.dtype or operand.device != x.device or operand.layout is not torch.strided:
            return "operands are dense, of the type of the input, and where it is"
        if form == "channel" and (operand.shape != x.shape[1:2] or not operand.is_contiguous()):
            return "operands over channels are contiguous vectors"
        if form == "tensor" and (operand.shape != x.shape or not _lie_alike(operand, strides)):
            return "operands that are tensors have the shape and the strides of the result"
    return None


def _lie_alike(operand: Tensor, strides: Sequence[int]) -> bool:
    """Whether elements lie as by other strides; that of a single one says nothing."""
    axes = zip(operand.shape, operand.stride(), strides, strict=True)
    return all(left == right for size, left, right in axes if size > 1)


def addresses(operands: Sequence[Tensor]) -> array[int]:
    """The table of the addresses of operands; it must live as long as the call."""
    return array("q", [operand.data_ptr() for operand in operands])
