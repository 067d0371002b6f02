"""Group norms of tensors as torch normalises them, bit for bit, on torch's own threads."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.group_norms import GROUP_NORM_INDEX, group_norm_source
from outstride.engine.codegen.moments import LEVELS, ROOM_BYTES, levels_of
from outstride.engine.launch import step_check
from outstride.engine.launch.agreement import disagreement, trial
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.chain_operands import addresses, misfit
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.planner.steps import Step, steps_name
from outstride.engine.runtime import chosen, decline, kernel, machine, scratch

_X, _Y, _WEIGHT, _BIAS, _OPERANDS, _SCRATCH = (
    GROUP_NORM_INDEX[n] for n in ("x_at", "y_at", "weight_at", "bias_at", "operands_at", "scratch_at")
)
GroupNormRun = Callable[
    [Tensor, Tensor | None, Tensor | None, Sequence[Tensor], Tensor | None], Tensor
]  # fmt: skip
#: Elements from which more than one thread is worth waking, and below which counts are exact.
_PARALLEL, _EXACT = 1 << 15, 1 << 24


def group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    steps: Sequence[Step] = (), operands: Sequence[Tensor] = (), out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Normalise each group of channels of each image, with the bits of torch's ``group_norm``.

    Args:
        x: (N, C, *size), contiguous; ``group_norm_declines`` must say nothing about it.
        groups: how many, each of as many channels.
        weight, bias: (C,), or None.
        eps: is added to the variance.
        steps: what is done to the result, with the bits of torch's operators.
        operands: those that the steps are given, in their order: vectors over the channels, and contiguous
            tensors of the shape of `x`.
        out: where the result goes, a contiguous tensor: it may be `x`, or one of the operands.
    """
    steps, is_plain = tuple(steps), weight is None and bias is None
    key = (steps, groups, eps, is_plain, x.shape, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    if run is None:
        run = _calls.keep((steps, x.shape[1]), key, group_norm_run(x, groups, is_plain, eps, steps))
    return run(x, weight, bias, operands, out)


def group_norm_run(
    x: Tensor, groups: int, is_plain: bool, eps: float, steps: tuple[Step, ...]
) -> GroupNormRun:
    """What normalises plain CPU tensors like this one: `(x, weight, bias, operands, out)`."""
    return _GroupNorm(x, groups, is_plain, eps, steps)


def group_norm_declines(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    steps: Sequence[Step] = (), operands: Sequence[Tensor] = (),
) -> str | None:  # fmt: skip
    """Why ``group_norm`` does not take these arguments, or nothing."""
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    if x.dtype is not torch.float32:
        return "inputs are float32"
    if x.device.type != "cpu" or x.layout is not torch.strided:
        return "inputs are dense and on the CPU"
    if not x.is_contiguous():
        return "torch takes the moments of groups of such strides in another order"
    if not eps > 0:
        return "'eps' is greater than 0"
    if not x.numel() or groups < 1 or x.shape[1] % groups:
        return "channels are as many in each group, and have elements"
    if x[0].numel() // groups >= _EXACT:
        return "so many elements of a group are not exact in float32"
    for vector in (weight, bias):
        if vector is not None and (
            vector.dtype is not x.dtype or vector.shape != x.shape[1:2] or not vector.is_contiguous()
        ):
            return "weight and bias are contiguous float32 vectors over the channels"
    return (
        misfit(steps, x, contiguous_strides(x.shape), operands)
        or decline()
        or step_check.declined(steps, x.dtype, x.numel())
        or disagreement("group norms of float32", _pairs)
    )


def _pairs() -> list[tuple[Tensor, Tensor]]:
    """A few numbers normalised by torch and by the kernel."""
    found = []
    for shape, groups in (((2, 6, 3, 7), 3), ((1, 4, 40), 4), ((1, 12, 2, 13, 43), 2), ((1, 3, 4159), 3)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(shape[1]), dtype=torch.float64)
        x = (x * 3 + 1).to(torch.float32)
        x[:, : shape[1] // groups] = trial(*x[:, : shape[1] // groups].shape, dtype=torch.float32)
        weight = trial(shape[1], dtype=torch.float32, seed=2).nan_to_num(0.5, 1.0, -2.0)
        for w, b in ((None, None), (weight, weight.flip(0)), (weight, None), (None, weight)):
            ours = _GroupNorm(x, groups, w is None and b is None, 1e-5, ())
            found.append((F.group_norm(x, groups, w, b, 1e-5), ours(x, w, b, (), None)))
    return found


class _GroupNorm:
    """The kernel for one shape."""

    def __init__(
        self, x: Tensor, groups: int, is_plain: bool, eps: float, steps: tuple[Step, ...]
    ) -> None:  # fmt: skip
        isa, threads = machine().instruction_set, torch.get_num_threads()
        tasks, width, positions = x.shape[0] * groups, x.shape[1] // groups, prod(x.shape[2:])
        self._workers = min(threads, tasks) if x.numel() > _PARALLEL else 1
        source = partial(group_norm_source, steps, isa, is_plain)
        name = f"group_norm{'_plain' if is_plain else ''}{steps_name(steps)}"
        self._kernel = kernel(name, source, isa, authorship())
        self._empty = fresh_result(x.shape, contiguous_strides(x.shape), x.dtype)
        room = -(-ROOM_BYTES // 64) * 64
        self._scratch_bytes = room * self._workers
        (bits,) = struct.unpack("<q", struct.pack("<d", eps))
        levels = levels_of(width * positions)
        assert levels <= LEVELS, "elements of a group are exact in float32"
        scalars = {
            "tasks": tasks, "threads": self._workers, "positions": positions, "groups": groups,
            "width": width, "levels": levels, "eps": bits, "scratch_bytes": room,
        }  # fmt: skip
        self._block = ArgumentBlock.of(GROUP_NORM_INDEX, scalars, {})

    def __call__(
        self, x: Tensor, weight: Tensor | None, bias: Tensor | None, operands: Sequence[Tensor],
        out: Tensor | None,
    ) -> Tensor:  # fmt: skip
        if out is None:
            out = self._empty()
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


_calls: CallCache[tuple[Any, ...], GroupNormRun] = CallCache("maps")
