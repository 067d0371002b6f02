"""Chains of pointwise operators on tensors in one pass, with torch's own bits, on torch's own threads."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.pointwise import POINTWISE_INDEX, pointwise_source
from outstride.engine.codegen.steps.chains import kept_rows
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.launches import At, Launch, Operand
from outstride.engine.launch.memory_format import FORMATS
from outstride.engine.launch.plans import DTYPES
from outstride.engine.launch.steps import check as step_check
from outstride.engine.launch.steps.chain_operands import addresses, misfit
from outstride.engine.launch.steps.ends import EndsRun, has_ends
from outstride.engine.planner.dtypes import ACCUMULATOR_BYTES
from outstride.engine.planner.steps import Step, operand_forms, steps_name
from outstride.engine.runtime import chosen, decline, kernel, machine, scratch

_X, _Y, _OPERANDS, _SCRATCH = (
    POINTWISE_INDEX[n] for n in ("x_at", "y_at", "operands_at", "scratch_at")
)  # fmt: skip
#: Elements from which more than one thread is worth waking, and those of a task: what it reads of a few
#: tensors and writes stays in the first-level cache.
_PARALLEL = 1 << 15
_PART = 1 << 12
#: The fewest positions of a task that prepares vectors over channels for them.
_POSITIONS = 32


def pointwise(
    steps: Sequence[Step], x: Tensor, operands: Sequence[Tensor] = (), out: Tensor | None = None
) -> Tensor:
    """Do steps to every element of a tensor, with the bits of torch's operators one after the other.

    Args:
        steps: in their order.
        x: (N, C, *size); ``pointwise_declines`` must say nothing about it.
        operands: those that the steps are given, in their order: vectors over the channels, and tensors of
            the shape and strides of `x`.
        out: where the result goes, of the shape and strides of `x`: it may be `x` or one of the operands.
    """
    return pointwise_run(tuple(steps), x)(x, operands, out)


def pointwise_run(steps: tuple[Step, ...], x: Tensor) -> PointwiseRun | EndsRun:
    """What does steps to plain CPU tensors like this one, on as many threads as torch has now."""
    key = (steps, x.shape, x.stride(), x.dtype, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep(steps, key, _made(steps, x))


def _made(steps: tuple[Step, ...], x: Tensor) -> PointwiseRun | EndsRun:
    fills = step_check.declined(steps, x.dtype, x.numel()) is None
    return PointwiseRun(steps, x) if fills else EndsRun(steps[0], x)


def pointwise_declines(steps: Sequence[Step], x: Tensor, operands: Sequence[Tensor] = ()) -> str | None:
    """Why ``pointwise`` does not take these arguments, or nothing."""
    if x.dtype not in DTYPES:
        return f"there are no steps on {x.dtype}"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not _is_dense(x):
        return "the elements of inputs lie without gaps"
    if "channel" in operand_forms(steps) and _channel_rows(x) is None:
        return "inputs with operands over channels are contiguous or channels_last"
    if any(step.kind == "batch_norm" for step in steps) and not _has_format(x):
        return "torch computes a batch norm of such strides in another way"
    reason = misfit(steps, x, x.stride(), operands) or decline()
    if reason is None and not has_ends(steps, x):
        reason = step_check.declined(steps, x.dtype, x.numel())
    return reason


def _is_dense(x: Tensor) -> bool:
    """Whether a tensor's elements fill the memory from its first to its last."""
    if not x.numel():
        return True
    expected = 1
    for stride, size in sorted((s, n) for n, s in zip(x.shape, x.stride(), strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _has_format(x: Tensor) -> bool:
    """Whether a tensor is contiguous or channels_last, which torch knows of two and three axes alone."""
    last = FORMATS.get(x.dim())
    return x.is_contiguous() or (last is not None and x.is_contiguous(memory_format=last))


def _channel_rows(x: Tensor) -> tuple[int, bool] | None:
    """The neighbours of one channel that lie side by side, and whether instead channels are neighbours.

    None where neither are: then a vector over channels has no place.
    """
    if x.dim() < 2:
        return None
    if x.is_contiguous():
        return max(1, prod(x.shape[2:])), False
    return (1, True) if x.stride(1) == 1 else None


class PointwiseRun:
    """The kernel for steps on tensors of one shape, strides and dtype: `(x, operands, out)`."""

    def __init__(self, steps: tuple[Step, ...], x: Tensor) -> None:
        rows = _channel_rows(x) if "channel" in operand_forms(steps) else None
        positions, together = rows or (max(1, x.numel()), False)
        channels = x.shape[1] if rows else 1
        isa, dtype = machine().instruction_set, DTYPES[x.dtype]
        part, pitch, item = _PART, 0, ACCUMULATOR_BYTES[dtype]
        if together:
            part = max(_POSITIONS, _PART // channels) * channels
            pitch = -(-channels // isa.lanes(item)) * isa.lanes(item)
        room = -(-kept_rows(steps) * pitch * item // 64) * 64
        name = f"pointwise_{dtype}{steps_name(steps)}{'_together' if together else ''}"
        source = partial(pointwise_source, steps, dtype, isa, together)
        self._kernel = kernel(name, source, isa, authorship())
        self._empty = fresh_result(x.shape, x.stride(), x.dtype)
        self._is_nothing = not x.numel()
        tasks = -(-x.numel() // part)
        self._workers = min(torch.get_num_threads(), tasks) if x.numel() > _PARALLEL else 1
        scalars = {
            "tasks": tasks, "elements": x.numel(), "part": part,
            "positions": positions, "channels": channels, "kept_pitch": pitch, "scratch_bytes": room,
        }  # fmt: skip
        self._scratch_bytes = room * self._workers
        self._block = ArgumentBlock.of(POINTWISE_INDEX, scalars, {})

    def __call__(self, x: Tensor, operands: Sequence[Tensor], out: Tensor | None) -> Tensor:
        if out is None:
            out = self._empty()
        if self._is_nothing:
            return out
        block: array[int] = self._block.fresh()
        block[_X], block[_Y] = x.data_ptr(), out.data_ptr()
        if self._scratch_bytes:
            block[_SCRATCH] = scratch(self._scratch_bytes)
        if operands:
            table = addresses(operands)
            block[_OPERANDS] = address(table)
        self._kernel.launch(address(block), self._workers)
        return out

    def launch(self, x: At, operands: Sequence[At], y: At) -> Launch | None:
        """What a call launches; None where it does not."""
        if self._is_nothing:
            return None
        return Launch(
            self._kernel, self._block, self._workers, {"x_at": x, "y_at": y},
            [Operand(operand, apart=False) for operand in operands],
            scratch_bytes=self._scratch_bytes, empty=self._empty,
        )  # fmt: skip


_calls: CallCache[tuple[Any, ...], PointwiseRun | EndsRun] = CallCache("maps")
