"""Calls of the weight-gradient kernels for groups of few outputs."""

from __future__ import annotations

from array import array
from functools import partial

import torch
from torch import Tensor

from outstride.engine.codegen.arguments import DOT_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.gradients.dots import dots_source
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.planner.gradients.dots import dot_scalars, plan_dots
from outstride.engine.planner.gradients.plan import GradientProblem
from outstride.engine.planner.tables import residue_planes
from outstride.engine.runtime import kernel, machine, scratch
from outstride.engine.torch_internals import empty_strided

_X, _Y, _W, _SCRATCH = (DOT_INDEX[n] for n in ("x_at", "y_at", "w_at", "scratch_at"))


class DotCall:
    """One kernel for one problem and one set of strides."""

    def __init__(
        self, problem: GradientProblem, strides: dict[str, int], shape: tuple[int, ...], threads: int
    ) -> None:
        self.plan = plan = plan_dots(problem, machine())
        self.shape = shape
        self.workers = min(threads, plan.tasks)
        scalars, taps, scratch_bytes = dot_scalars(plan)
        self._scratch_bytes = scratch_bytes * self.workers
        source = partial(dots_source, plan.recipe, plan.taps_at_once)
        name = f"dots_{plan.taps_at_once}_{plan.recipe.name}"
        self._kernel = kernel(name, source, plan.machine.instruction_set, authorship())
        tables = {"planes_at": array("q", residue_planes(plan.axes)), "taps_at": array("q", taps)}
        self._block = ArgumentBlock.of(DOT_INDEX, scalars | strides, tables)
        self._strides = contiguous_strides(shape)
        self._dtype = getattr(torch, problem.dtype)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The gradient, in the dtype of x."""
        result = empty_strided(self.shape, self._strides, self._dtype)
        block = self._block.fresh()
        block[_X], block[_Y], block[_W] = x.data_ptr(), y.data_ptr(), result.data_ptr()
        block[_SCRATCH] = scratch(self._scratch_bytes)
        self._kernel.launch(address(block), self.workers)
        return result
