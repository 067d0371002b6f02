"""Resized calls: a contraction on inputs of any size, for layers whose calls differ in nothing else.

What is checked of a layer, is checked: a size is legal if an output is left. Where a plan's blocks serve
other sizes, too, nothing but some numbers of the argument block changes with them, and what an earlier size
left ready runs. Python that has to be fetched anew between two kernels takes several times as long as Python
in a loop, so the fewer steps the better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, get_num_threads, is_grad_enabled

from outstride.engine.launch.call_cache import CallCache
from outstride.engine.launch.execute import GatherRun, Geometry, gather_run
from outstride.engine.launch.memory_format import contiguous_strides
from outstride.engine.planner.problem import coarse_size
from outstride.engine.runtime import chosen
from outstride.engine.torch_internals import is_intercepted_beyond_guard, tensor_guard

Ints = tuple[int, ...]


class ResizedCalls:
    """The contraction of a layer on inputs of any size, with operands that are else like the first ones."""

    def __init__(
        self,
        operator: Literal["conv", "conv_transpose"],
        geometry: Geometry,
        result_size: Callable[[Sequence[int]], Ints | None],
        *operands: Tensor,
    ) -> None:
        self._operator, self._geometry, self._result_size = operator, geometry, result_size
        self._count, self._transposed = len(operands), operator == "conv_transpose"
        self._guard = tensor_guard(*operands, free_axes=operands[0].dim() - 2)
        self._threads, self._instruction_set = get_num_threads(), chosen()
        self._differentiable = any(tensor.requires_grad for tensor in operands)
        #: What an earlier size left ready, by the size that stands for it in planning.
        self._ready: CallCache[Ints, GatherRun] = CallCache("resized calls")
        self._runs: CallCache[Ints, GatherRun] = CallCache("resized calls")
        self._latest: GatherRun | None = None

    def accepts(self, operands: Sequence[Tensor]) -> bool:
        """Whether operands are like the first ones in everything but the input's size."""
        return (
            len(operands) == self._count
            and self._guard is not None
            and self._guard(*operands)
            and operands[0].is_contiguous()
            and get_num_threads() == self._threads
            and chosen() == self._instruction_set
        )

    def learn(self, input: Tensor, result_size: Sequence[int], run: GatherRun) -> None:
        """Take over what an input left ready, if it serves others: its kernel was made for its strides."""
        if input.stride() == contiguous_strides(input.shape) and run.is_resizable:
            size = input.shape[2:]
            coarse = coarse_size(size if self._transposed else result_size)
            self._ready.keep(None, coarse, run)

    def __call__(self, *operands: Tensor) -> Tensor | None:
        """The result; None where the call is to be checked, recorded for backward, or guarded.

        A size that comes twice in a row is worth a guard.
        """
        if (
            not self.accepts(operands)
            or is_intercepted_beyond_guard()
            or (self._differentiable and is_grad_enabled())
        ):
            return None
        input = operands[0]
        shape = input.shape
        run = self._runs.get(shape)
        if run is None:
            size = shape[2:]
            result_size = self._result_size(size)
            if result_size is None:
                return None
            ready = self._ready.get(coarse_size(size if self._transposed else result_size))
            run = None if ready is None else ready.resized(size, result_size)
            if run is None:
                stride, padding, dilation, groups, algorithm = self._geometry
                numbers = (stride, padding, result_size, dilation, groups)
                run = gather_run(self._operator, input, operands[1], *numbers, algorithm)
                self.learn(input, result_size, run)
            self._runs.keep(None, shape, run)
        elif run is self._latest:
            return None
        self._latest = run
        return run(*operands)
