"""Calls of the weight-gradient kernel of a matrix that few rows went through."""

from __future__ import annotations

from functools import partial
from math import ceil

import torch
from torch import Tensor

from outstride.engine.codegen.arguments import FEW_ROWS_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.gradients.few_rows import few_rows_source
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.planner.gradients.plan import GradientProblem
from outstride.engine.runtime import kernel, machine
from outstride.engine.torch_internals import empty_strided

#: Rows up to which it is faster than packing them.
MOST_ROWS = 256
#: Outputs of a task, and weights from which more than one thread is worth waking.
_OUTPUTS, _PARALLEL = 64, 1 << 15
_X, _Y, _RESULT = (FEW_ROWS_INDEX[n] for n in ("x_at", "y_at", "result_at"))


def suits(problem: GradientProblem, strides: dict[str, int]) -> bool:
    """Whether a weight gradient is that of a matrix, of few rows whose channels lie side by side."""
    sizes = (problem.batch, problem.groups, *problem.kernel_size, *problem.input_size[:2], *problem.stride)
    rows = problem.input_size[2]
    is_matrix = set(sizes) == {1} and not any(problem.padding) and problem.output_size[2] == rows
    of_type = problem.dtype in ("float32", "float64")
    return is_matrix and of_type and rows <= MOST_ROWS and strides["x_stride_c"] == 1


class FewRowsCall:
    """The kernel for one problem and one set of strides."""

    def __init__(
        self, problem: GradientProblem, strides: dict[str, int], shape: tuple[int, ...], threads: int
    ) -> None:
        self.shape = shape
        tasks = ceil(problem.outputs / _OUTPUTS)
        self.workers = min(threads, tasks) if problem.outputs * problem.channels > _PARALLEL else 1
        isa = machine().instruction_set
        source = partial(few_rows_source, problem.dtype, isa)
        self._kernel = kernel(f"few_rows_{problem.dtype}", source, isa, authorship())
        scalars = {
            "tasks": tasks, "outputs_per_task": _OUTPUTS, "rows": problem.input_size[2],
            "channels": problem.channels, "outputs": problem.outputs, "x_stride": strides["x_stride_w"],
            "y_stride": strides["y_stride_w"], "y_stride_m": strides["y_stride_m"],
        }  # fmt: skip
        self._block = ArgumentBlock.of(FEW_ROWS_INDEX, scalars, {})
        self._strides = contiguous_strides(shape)
        self._dtype = getattr(torch, problem.dtype)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient, in the dtype of x."""
        result = empty_strided(self.shape, self._strides, self._dtype)
        block = self._block.fresh()
        block[_X], block[_Y], block[_RESULT] = x.data_ptr(), y.data_ptr(), result.data_ptr()
        self._kernel.launch(address(block), self.workers)
        return result
