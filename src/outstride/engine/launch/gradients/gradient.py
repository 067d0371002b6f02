"""Calls of the weight-gradient kernels."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from outstride.engine.codegen.arguments import GRADIENT_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.gradients.gradient import gradient_source
from outstride.engine.codegen.gradients.partial_sums import PARTIAL_SUMS_INDEX, partial_sums_source
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.gradients.dots import DotCall
from outstride.engine.launch.gradients.few_rows import FewRowsCall, suits
from outstride.engine.launch.matrix_product import rows_as_width
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.launch.plans import DTYPES, three
from outstride.engine.planner.gradients.dots import DOT_OUTPUTS
from outstride.engine.planner.gradients.gradient import gradient_scalars, plan_gradient, tap_offsets
from outstride.engine.planner.gradients.plan import GradientPlan, GradientProblem
from outstride.engine.planner.tables import residue_planes
from outstride.engine.runtime import kernel, machine, scratch
from outstride.engine.torch_internals import empty_strided

_X, _Y, _PARTIAL, _RESULT, _SCRATCH = (
    GRADIENT_INDEX[n] for n in ("x_at", "y_at", "partial_at", "result_at", "scratch_at")
)  # fmt: skip
_PARTIAL_SUMS, _TOTAL = (PARTIAL_SUMS_INDEX[n] for n in ("partial_at", "result_at"))
_ROWS_PER_TASK = 1024
#: Partial sums from which more than one thread is worth waking to add them.
_PARALLEL = 1 << 16


def gradient_call(
    x: Tensor, y: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, threads: int, short: bool = False,
) -> GradientCall | DotCall | FewRowsCall:  # fmt: skip
    """The kernel for these tensors: by dot products where a group has few outputs, else by outer products.

    These are of operands as they lie where few rows went through a matrix.

    If it is `short` those are the products of short algorithms.
    """
    shape = (y.shape[1], x.shape[1] // groups, *(int(k) for k in kernel_size))
    if not kernel_size:
        x, y = rows_as_width(x), rows_as_width(y)
        kernel_size, stride, padding, dilation = (1,), (1,), (0,), (1,)
    xs, ys = x.stride(), y.stride()
    channels, outputs = x.shape[1] // groups, y.shape[1] // groups
    problem = GradientProblem(
        DTYPES[x.dtype], x.shape[0], groups, channels, outputs,
        three(x.shape[2:], 1), three(y.shape[2:], 1), three(kernel_size, 1),
        three(stride, 1), three(padding, 0), three(dilation, 1),
        "width" if xs[-1] == 1 else "channel" if xs[1] == 1 else "any",
        "channel" if ys[1] == 1 and ys[-1] != 1 else "width" if ys[-1] == 1 else "any",
        short and outputs > DOT_OUTPUTS,
    )  # fmt: skip
    strides = {
        "x_stride_n": xs[0], "x_stride_g": channels * xs[1], "x_stride_c": xs[1],
        "y_stride_n": ys[0], "y_stride_g": outputs * ys[1], "y_stride_m": ys[1],
    }  # fmt: skip
    for axis, a, b in zip("dhw", three(xs[2:], 0), three(ys[2:], 0), strict=True):
        strides[f"x_stride_{axis}"], strides[f"y_stride_{axis}"] = a, b
    kind = DotCall if outputs <= DOT_OUTPUTS else FewRowsCall if suits(problem, strides) else GradientCall
    return kind(problem, strides, shape, threads)


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
        self._kernel = kernel(name, source, plan.machine.instruction_set, authorship())
        planes, places = ("raw_planes_at", "input_places_at") if problem.short else ("planes_at", "taps_at")
        tables = {planes: array("q", residue_planes(plan.packed_axes)), places: array("q", taps)}
        if not problem.short:
            tables["tap_offsets_at"] = array("i", tap_offsets(plan.axes))
        self._block = ArgumentBlock.of(GRADIENT_INDEX, scalars | strides, tables)
        self._sums = None if plan.writes else _PartialSums(plan, scalars["taps"], self.workers)
        self._strides = contiguous_strides(shape)
        self._dtype = getattr(torch, problem.dtype)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient, in the dtype of x."""
        sums = self._sums
        block = self._block.fresh()
        block[_X], block[_Y] = x.data_ptr(), y.data_ptr()
        block[_SCRATCH] = scratch(self._scratch_bytes)
        if sums is None:
            result = empty_strided(self.shape, self._strides, self._dtype)
            block[_RESULT] = result.data_ptr()
            self._kernel.launch(address(block), self.workers)
            return result
        partial = sums.empty()
        block[_PARTIAL] = partial.data_ptr()
        self._kernel.launch(address(block), self.workers)
        result = empty_strided(self.shape, self._strides, self._dtype)
        sums.add_up(partial, result)
        return result


class _PartialSums:
    """The kernel that makes the gradient out of the partial sums of one plan."""

    def __init__(self, plan: GradientPlan, taps: int, workers: int) -> None:
        p = plan.problem
        rows = p.channels * taps
        block = p.groups * plan.output_blocks * rows * plan.width
        slabs = -(-rows // _ROWS_PER_TASK)
        self._elements = plan.splits * block
        self._dtype = torch.float64 if p.dtype == "float64" else torch.float32
        self._workers = workers if self._elements > _PARALLEL else 1
        isa = plan.machine.instruction_set
        self._kernel = kernel(
            f"partial_sums_{p.dtype}", partial(partial_sums_source, p.dtype, isa), isa, authorship()
        )
        scalars = {
            "tasks": p.groups * plan.output_blocks * slabs, "slabs": slabs, "rows_per_task": _ROWS_PER_TASK,
            "splits": plan.splits, "split_stride": block, "output_blocks": plan.output_blocks,
            "width": plan.width, "outputs": p.outputs, "rows": rows,
        }  # fmt: skip
        self._block = ArgumentBlock.of(PARTIAL_SUMS_INDEX, scalars, {})

    def empty(self) -> Tensor:
        """Memory for the partial sums."""
        return empty_strided((self._elements,), (1,), self._dtype)

    def add_up(self, partial: Tensor, result: Tensor) -> None:
        """Write the gradient."""
        block = self._block.fresh()
        block[_PARTIAL_SUMS], block[_TOTAL] = partial.data_ptr(), result.data_ptr()
        self._kernel.launch(address(block), self._workers)
