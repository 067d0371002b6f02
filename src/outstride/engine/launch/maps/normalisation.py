"""Instance norms of tensors as torch normalises them, bit for bit, on torch's own threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.normalisation import INSTANCE_NORM_INDEX, instance_norm_source
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.maps.norm_run import PARALLEL, NormRun, bits_of, unfit
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.launch.steps import check as step_check
from outstride.engine.launch.steps.agreement import disagreement, trial
from outstride.engine.launch.steps.chain_operands import misfit
from outstride.engine.planner.steps import Step, steps_name
from outstride.engine.runtime import chosen, decline, kernel, machine


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


def instance_norm_run(x: Tensor, eps: float, steps: tuple[Step, ...]) -> NormRun:
    """What normalises plain CPU tensors like this one, on as many threads as torch has now."""
    key = (steps, eps, x.shape, x.stride(), torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep((steps, x.shape[1]), key, _bound(x, eps, steps))


def instance_norm_declines(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    steps: Sequence[Step] = (), operands: Sequence[Tensor] = (),
) -> str | None:  # fmt: skip
    """Why ``instance_norm`` does not take these arguments, or nothing."""
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    if not x.numel() or prod(x.shape[2:]) < 2:
        return "channels have two elements or more"
    return (
        unfit(x, eps, x.shape[1:2], weight, bias)
        or misfit(steps, x, contiguous_strides(x.shape), operands)
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
            found.append((theirs, _bound(numbers, 1e-5, ())(numbers, w, b, (), None)))
    return found


def _bound(x: Tensor, eps: float, steps: tuple[Step, ...]) -> NormRun:
    """The kernel for one shape."""
    isa = machine().instruction_set
    lanes = isa.lanes(x.element_size())
    rows, threads = x.shape[0] * x.shape[1], torch.get_num_threads()
    workers = threads if x.numel() > PARALLEL else 1
    group = min(lanes, -(-rows // workers))
    tasks = -(-rows // group)
    workers = min(workers, tasks)
    source = partial(instance_norm_source, steps, isa)
    room = lanes * isa.vector_bytes
    scalars = {
        "tasks": tasks, "rows": rows, "positions": prod(x.shape[2:]),
        "channels": x.shape[1], "group": group, "eps": bits_of(eps, "d"), "scratch_bytes": room,
    }  # fmt: skip
    return NormRun(
        kernel(f"instance_norm{steps_name(steps)}", source, isa, authorship()),
        ArgumentBlock.of(INSTANCE_NORM_INDEX, scalars, {}), workers,
        fresh_result(x.shape, contiguous_strides(x.shape), x.dtype), room * workers, not x.is_contiguous(),
    )  # fmt: skip


_calls: CallCache[tuple[Any, ...], NormRun] = CallCache("maps")
