"""Calls of the weight-gradient kernels."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from outstride.codegen.arguments import GRADIENT_INDEX
from outstride.codegen.gradient import gradient_source
from outstride.ops.blocks import Block, address
from outstride.ops.dots import DotCall
from outstride.ops.plans import DTYPES, three
from outstride.planner.dots import DOT_OUTPUTS
from outstride.planner.gradient import GradientProblem, gradient_scalars, plan_gradient
from outstride.planner.tables import residue_planes
from outstride.runtime import kernel, machine, scratch

_X, _Y, _PARTIAL, _SCRATCH = (GRADIENT_INDEX[n] for n in ("x_at", "y_at", "partial_at", "scratch_at"))


def gradient_call(
    x: Tensor, y: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, threads: int,
) -> GradientCall | DotCall:  # fmt: skip
    """The kernel for these tensors: by dot products where a group has few outputs, else by outer products."""
    xs, ys = x.stride(), y.stride()
    channels, outputs = x.shape[1] // groups, y.shape[1] // groups
    problem = GradientProblem(
        DTYPES[x.dtype], x.shape[0], groups, channels, outputs,
        three(x.shape[2:], 1), three(y.shape[2:], 1), three(kernel_size, 1),
        three(stride, 1), three(padding, 0), three(dilation, 1),
        "width" if xs[-1] == 1 else "channel" if xs[1] == 1 else "any",
        "channel" if ys[1] == 1 and ys[-1] != 1 else "width" if ys[-1] == 1 else "any",
    )  # fmt: skip
    strides = {
        "x_stride_n": xs[0], "x_stride_g": channels * xs[1], "x_stride_c": xs[1],
        "y_stride_n": ys[0], "y_stride_g": outputs * ys[1], "y_stride_m": ys[1],
    }  # fmt: skip
    for axis, a, b in zip("dhw", three(xs[2:], 0), three(ys[2:], 0), strict=True):
        strides[f"x_stride_{axis}"], strides[f"y_stride_{axis}"] = a, b
    shape = (outputs * groups, channels, *(int(k) for k in kernel_size))
    return (DotCall if outputs <= DOT_OUTPUTS else GradientCall)(problem, strides, shape, threads)


class GradientCall:
    """One kernel for one problem and one set of strides."""

    def __init__(
        self, problem: GradientProblem, strides: dict[str, int], shape: tuple[int, ...], threads: int
    ) -> None:
        self.plan = plan = plan_gradient(problem, machine(), threads)
        self.shape = shape
        self.workers = min(threads, plan.tasks)
        scalars, taps, scratch_bytes = gradient_scalars(plan)
        self._scratch_bytes = scratch_bytes * self.workers
        name = f"gradient_{plan.recipe.name}_{plan.tile.name}"
        source = partial(gradient_source, plan.recipe, plan.tile)
        self._kernel = kernel(name, source, plan.machine.instruction_set)
        tables = {"planes_at": array("q", residue_planes(plan.axes)), "taps_at": array("q", taps)}
        self._block = Block(GRADIENT_INDEX, scalars | strides, tables)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient, in the dtype of x."""
        plan, p = self.plan, self.plan.problem
        rows = p.channels * self._block.scalar("taps")
        dtype = torch.float64 if p.dtype == "float64" else torch.float32
        sums = torch.empty((plan.splits, p.groups, plan.output_blocks, rows, plan.width), dtype=dtype)
        block = self._block.fresh()
        block[_X] = x.data_ptr()
        block[_Y] = y.data_ptr()
        block[_PARTIAL] = sums.data_ptr()
        block[_SCRATCH] = scratch(self._scratch_bytes)
        self._kernel.launch(address(block), self.workers)
        total = sums[0]
        for split in sums[1:]:
            total += split
        result = torch.empty(self.shape, dtype=x.dtype)
        turned = total.transpose(2, 3).reshape(p.groups, plan.output_blocks * plan.width, rows)[
            :, : p.outputs
        ]
        result.view(p.groups, p.outputs, rows).copy_(turned)
        return result
