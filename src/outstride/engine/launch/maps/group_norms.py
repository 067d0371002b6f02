"""Group norms of tensors as torch normalises them, bit for bit, on torch's own threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.group_norms import GROUP_NORM_INDEX, group_norm_source
from outstride.engine.codegen.maps.moments import LEVELS, ROOM_BYTES, levels_of
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.maps.norm_run import EXACT, PARALLEL, NormRun, bits_of, unfit
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.launch.steps import check as step_check
from outstride.engine.launch.steps.agreement import disagreement, trial
from outstride.engine.launch.steps.chain_operands import misfit
from outstride.engine.planner.steps import Step, steps_name
from outstride.engine.runtime import chosen, decline, kernel, machine


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
    run = group_norm_run(x, groups, weight is None and bias is None, eps, tuple(steps))
    return run(x, weight, bias, operands, out)


def group_norm_run(x: Tensor, groups: int, is_plain: bool, eps: float, steps: tuple[Step, ...]) -> NormRun:
    """What normalises plain CPU tensors like this one, with a weight or a bias if it is not `is_plain`."""
    key = (steps, groups, eps, is_plain, x.shape, torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep((steps, x.shape[1]), key, _bound(x, groups, is_plain, eps, steps))


def group_norm_declines(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    steps: Sequence[Step] = (), operands: Sequence[Tensor] = (),
) -> str | None:  # fmt: skip
    """Why ``group_norm`` does not take these arguments, or nothing."""
    if x.dim() not in (3, 4, 5):
        return "inputs have a batch, channels and one to three axes"
    reason = unfit(x, eps, x.shape[1:2], weight, bias)
    if reason is not None:
        return reason
    if not x.is_contiguous():
        return "torch takes the moments of groups of such strides in another order"
    if not x.numel() or groups < 1 or x.shape[1] % groups:
        return "channels are as many in each group, and have elements"
    if x[0].numel() // groups >= EXACT:
        return "so many elements of a group are not exact in float32"
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
            ours = _bound(x, groups, w is None and b is None, 1e-5, ())
            found.append((F.group_norm(x, groups, w, b, 1e-5), ours(x, w, b, (), None)))
    return found


def _bound(x: Tensor, groups: int, is_plain: bool, eps: float, steps: tuple[Step, ...]) -> NormRun:
    """The kernel for one shape."""
    isa, threads = machine().instruction_set, torch.get_num_threads()
    tasks, width, positions = x.shape[0] * groups, x.shape[1] // groups, prod(x.shape[2:])
    workers = min(threads, tasks) if x.numel() > PARALLEL else 1
    source = partial(group_norm_source, steps, isa, is_plain)
    room = -(-ROOM_BYTES // 64) * 64
    levels = levels_of(width * positions)
    assert levels <= LEVELS, "elements of a group are exact in float32"
    scalars = {
        "tasks": tasks, "positions": positions, "groups": groups,
        "width": width, "levels": levels, "eps": bits_of(eps, "d"), "scratch_bytes": room,
    }  # fmt: skip
    return NormRun(
        kernel(f"group_norm{'_plain' if is_plain else ''}{steps_name(steps)}", source, isa, authorship()),
        ArgumentBlock.of(GROUP_NORM_INDEX, scalars, {}), workers,
        fresh_result(x.shape, contiguous_strides(x.shape), x.dtype), room * workers,
    )  # fmt: skip


_calls: CallCache[tuple[Any, ...], NormRun] = CallCache("maps")
