"""Layer norms of tensors as torch normalises them, bit for bit, on torch's own threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.layer_norms import (
    LAYER_NORM_INDEX,
    LAYER_NORM_ROOM_BYTES,
    layer_norm_source,
)
from outstride.engine.codegen.maps.moments import ROOM_BYTES, WIDTH, levels_of
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.maps.norm_run import EXACT, PARALLEL, NormRun, bits_of, unfit
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.launch.steps.agreement import disagreement, trial
from outstride.engine.runtime import chosen, decline, kernel, machine


def layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Normalise the last axes of a tensor, with the bits of torch's ``layer_norm``.

    Args:
        x: any axes, and `shape`; ``layer_norm_declines`` must say nothing about it. What is not contiguous is
            copied first, as torch does.
        shape: the sizes of the axes that are normalised together.
        weight, bias: of that shape, or None; a bias has a weight beside it.
        eps: is added to the variance.
        out: where the result goes, a contiguous tensor: it may be a contiguous `x`.
    """
    return layer_norm_run(x, shape, weight is not None, bias is not None, eps)(x, weight, bias, (), out)


def layer_norm_run(x: Tensor, shape: Sequence[int], weight: bool, bias: bool, eps: float) -> NormRun:
    """What normalises plain CPU tensors like this one, with a weight, and a bias, if there are."""
    sizes = tuple(shape)
    key = (sizes, weight, bias, eps, x.shape, x.stride(), torch.get_num_threads(), chosen())
    run = _calls.get(key)
    return run or _calls.keep(sizes, key, _bound(x, sizes, weight, bias, eps))


def layer_norm_declines(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> str | None:  # fmt: skip
    """Why ``layer_norm`` does not take these arguments, or nothing."""
    reason = unfit(x, eps, shape, weight, bias)
    if reason is not None:
        return reason
    if not shape or x.shape[-len(shape) :] != tuple(shape) or not x.numel():
        return "inputs have elements, and end with the shape that is normalised"
    if prod(shape) >= EXACT:
        return "so many elements are not exact in float32"
    if bias is not None and weight is None:
        return "torch fuses a bias without a weight in another way"
    return decline() or disagreement("layer norms of float32", _pairs)


def _pairs() -> list[tuple[Tensor, Tensor]]:
    """A few numbers normalised by torch and by the kernel."""
    found = []
    # Where torches join chunks in other ways, only some rows show it: there are many of two levels or more.
    for rows, shape in ((19, (5,)), (9, (96,)), (40, (17, 61)), (3, (4159,))):
        x = torch.randn(rows, *shape, generator=torch.Generator().manual_seed(rows)) * 3 + 1
        x[:2] = trial(2, *shape, dtype=torch.float32)
        weight = trial(*shape, dtype=torch.float32, seed=2).nan_to_num(0.5, 1.0, -2.0)
        for w, b in ((None, None), (weight, weight.flip(0)), (weight, None)):
            ours = _bound(x, shape, w is not None, b is not None, 1e-5)
            found.append((F.layer_norm(x, shape, w, b, 1e-5), ours(x, w, b)))
    return found


def _bound(x: Tensor, shape: tuple[int, ...], weight: bool, bias: bool, eps: float) -> NormRun:
    """The kernel for one shape."""
    isa, threads = machine().instruction_set, torch.get_num_threads()
    positions = prod(shape)
    rows = x.numel() // positions
    tasks = -(-rows // WIDTH)
    workers = min(threads, tasks) if x.numel() > PARALLEL else 1
    source = partial(layer_norm_source, isa, weight, bias)
    room = -(-LAYER_NORM_ROOM_BYTES // 64) * 64
    scalars = {
        "tasks": tasks, "rows": rows, "positions": positions,
        "levels": levels_of(positions), "eps": bits_of(eps, "f"), "scratch_bytes": room,
        "room_pitch": ROOM_BYTES,
    }  # fmt: skip
    name = f"layer_norm{'_weight' if weight else ''}{'_bias' if bias else ''}"
    return NormRun(
        kernel(name, source, isa, authorship()), ArgumentBlock.of(LAYER_NORM_INDEX, scalars, {}), workers,
        fresh_result(x.shape, contiguous_strides(x.shape), x.dtype), room * workers, not x.is_contiguous(),
    )  # fmt: skip


_calls: CallCache[tuple[Any, ...], NormRun] = CallCache("maps")
