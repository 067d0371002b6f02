"""Instance norms of tensors as torch normalises them, bit for bit, on torch's own threads."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.normalisation import INSTANCE_NORM_INDEX, instance_norm_source
from outstride.engine.launch import step_check
from outstride.engine.launch.agreement import disagreement, trial
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.chain_operands import addresses, misfit
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.launches import At, Launch, Operand
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.planner.steps import Step, steps_name
from outstride.engine.runtime import chosen, decline, kernel, machine, scratch

_X, _Y, _WEIGHT, _BIAS, _OPERANDS, _SCRATCH = (
    INSTANCE_NORM_INDEX[n] for n in ("x_at", "y_at", "weight_at", "bias_at", "operands_at", "scratch_at")
)
#: Elements from which more than one thread is worth waking.
_PARALLEL = 1 << 15


def instance_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    steps: Sequence[Step] = (), operands: Sequence[Tensor] = (), out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Normalise each channel of each image, with the bits of torch's ``instance_norm``.

    There are no running values: statistics are those of the input.

    Args:
        x: (N, C, *size); ``instance_norm_declines`` must say nothing about it. What is not contiguous is
            copied first, as torch does.
        weight, bias: (C,), or None.
        eps: is added to the variance.
        steps: what is done to the result, with the bits of torch's operators.
        operands: those that the steps are given, in their order: vectors over the channels, and contiguous
            tensors of the shape of `x`.
        out: where the result goes, a contiguous tensor: it may be a contiguous `x`, or one of the operands.
    """
    return instance_norm_run(x, eps, tuple(steps))(x, weight, bias, operands, out)


def instance_norm_run(x: Tensor, eps: float, steps: tuple[Step, ...]) -> InstanceNormRun:
    """What normalises plain CPU tensors like this one, on as many threads as torch has now."""
    key = (steps, eps, x.shape, x.stride(), torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep((steps, x.shape[1]), key, InstanceNormRun(x, eps, steps))


def instance_norm_declines(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    steps: Sequence[Step] = (), operands: Sequence[Tensor] = (),
) -> str | None:  # fmt: skip
    """Why ``instance_norm`` does not take these arguments, or nothing."""
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    if x.dtype is not torch.float32:
        return "inputs are float32: of other types torch takes statistics in another order"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not x.numel() or prod(x.shape[2:]) < 2:
        return "channels have two elements or more"
    if not eps > 0:
        return "'eps' is greater than 0"
    for vector in (weight, bias):
        if vector is not None and (
            vector.dtype is not x.dtype or vector.shape != x.shape[1:2] or not vector.is_contiguous()
        ):
            return "weight and bias are contiguous float32 vectors over the channels"
    return (
        misfit(steps, x, contiguous_strides(x.shape), operands)
        or decline()
        or step_check.declined(steps, x.dtype, x.numel())
        or disagreement("instance norms of float32", _pairs)
    )


def _pairs() -> list[tuple[Tensor, Tensor]]:
    """A few numbers normalised by torch and by the kernel."""
    found = []
    for shape in ((2, 5, 3, 7), (1, 19, 40), (3, 11, 2, 3, 43), (1, 37, 259)):
        numbers = trial(*shape, dtype=torch.float32)
        numbers[:, 2:] = trial(*shape, dtype=torch.float32, seed=1)[:, 2:].nan_to_num(0.3, 2.0, -3.0)
        weight = trial(shape[1], dtype=torch.float32, seed=2).nan_to_num(0.5, 1.0, -2.0)
        for w, b in ((None, None), (weight, weight.flip(0))):
            theirs = F.instance_norm(numbers, weight=w, bias=b, eps=1e-5)
            found.append((theirs, InstanceNormRun(numbers, 1e-5, ())(numbers, w, b, (), None)))
    return found


class InstanceNormRun:
    """The kernel for one shape: `(x, weight, bias, operands, out)`."""

    def __init__(self, x: Tensor, eps: float, steps: tuple[Step, ...]) -> None:
        isa = machine().instruction_set
        lanes = isa.lanes(x.element_size())
        rows, threads = x.shape[0] * x.shape[1], torch.get_num_threads()
        workers = threads if x.numel() > _PARALLEL else 1
        group = min(lanes, -(-rows // workers))
        tasks = -(-rows // group)
        self._workers = min(workers, tasks)
        source = partial(instance_norm_source, steps, isa)
        self._kernel = kernel(f"instance_norm{steps_name(steps)}", source, isa, authorship())
        self._empty = fresh_result(x.shape, contiguous_strides(x.shape), x.dtype)
        self._copies = not x.is_contiguous()
        room = lanes * isa.vector_bytes
        self._scratch_bytes = room * self._workers
        (bits,) = struct.unpack("<q", struct.pack("<d", eps))
        scalars = {
            "tasks": tasks, "threads": self._workers, "rows": rows, "positions": prod(x.shape[2:]),
            "channels": x.shape[1], "group": group, "eps": bits, "scratch_bytes": room,
        }  # fmt: skip
        self._block = ArgumentBlock.of(INSTANCE_NORM_INDEX, scalars, {})

    def __call__(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, operands: Sequence[Tensor],
        out: Tensor | None,
    ) -> Tensor:  # fmt: skip
        if out is None:
            out = self._empty()
        if self._copies:
            x = x.contiguous()
        block: array[int] = self._block.fresh()
        block[_X], block[_Y], block[_SCRATCH] = x.data_ptr(), out.data_ptr(), scratch(self._scratch_bytes)
        if weight is not None:
            block[_WEIGHT] = weight.data_ptr()
        if bias is not None:
            block[_BIAS] = bias.data_ptr()
        if operands:
            table = addresses(operands)
            block[_OPERANDS] = address(table)
        self._kernel.launch(address(block), self._workers)
        return out

    def launch(
        self, x: At, weight: At | None, bias: At | None, operands: Sequence[At], y: At
    ) -> Launch | None:  # fmt: skip
        """What a call launches; None where it does more than that."""
        if self._copies:
            return None
        given = {"x_at": x, "y_at": y, "weight_at": weight, "bias_at": bias}
        return Launch(
            self._kernel, self._block, self._workers,
            {name: at for name, at in given.items() if at is not None},
            [Operand(operand, apart=False) for operand in operands],
            scratch_bytes=self._scratch_bytes, empty=self._empty,
        )  # fmt: skip


_calls: CallCache[tuple[Any, ...], InstanceNormRun] = CallCache("maps")
