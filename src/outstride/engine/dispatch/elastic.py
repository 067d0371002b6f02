"""Elastic calls: an operator on inputs of any size, for layers whose calls differ in nothing else.

What is checked of a layer, is checked: a size is legal if an output is left. Where a plan's blocks serve
other sizes, too, nothing but some numbers of the argument block changes with them, and what an earlier size
left ready runs. Python that has to be fetched anew between two kernels takes several times as long as Python
in a loop, so the fewer steps the better.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, get_num_threads, is_grad_enabled

from outstride.engine.autograd.contractions import Conv, ConvTranspose
from outstride.engine.dispatch.call import Call
from outstride.engine.launch.execute import GatherRun
from outstride.engine.launch.kept import keep
from outstride.engine.launch.layout import contiguous_strides
from outstride.engine.planner.problem import coarse_size
from outstride.engine.runtime import chosen
from outstride.engine.torch_internals import nobody_listens_unseen, recognizer
from outstride.layer.axis import Axis

_MOST_RUNS = 64
#: Results that no memory holds are left to the check, which says so.
_MOST_RESULTS = 1 << 40


class Elastic:
    """The calls of a layer, and their runs by the input's shape."""

    def __init__(self, contraction: type[Conv | ConvTranspose], call: Call, *operands: Tensor) -> None:
        weight = operands[1]
        self._contraction, self._geometry = contraction, call.geometry
        self._count, self._transposed = len(operands), call.transposed
        self._recognizes = recognizer(*operands, free_axes=call.nd)
        self._threads, self._instruction_set = get_num_threads(), chosen()
        self._differentiable = any(tensor.requires_grad for tensor in operands)
        kernel = weight.shape[2:]
        numbers = zip(kernel, call.stride, call.dilation, call.pairs, call.output_padding, strict=True)
        self._axes = [
            Axis(i, call.transposed, False, False, "zeros", k, s, d, d * (k - 1) + 1, low, high, extra)
            for i, (k, s, d, (low, high), extra) in enumerate(numbers)
        ]
        self._ready: dict[tuple[int, ...], GatherRun] = {}
        self._runs: dict[tuple[int, ...], GatherRun] = {}
        self._latest: GatherRun | None = None

    def recognizes(self, operands: Sequence[Tensor]) -> bool:
        """Whether operands are like the first ones in everything but the input's size."""
        return (
            len(operands) == self._count
            and self._recognizes is not None
            and self._recognizes(*operands)
            and operands[0].is_contiguous()
            and get_num_threads() == self._threads
            and chosen() == self._instruction_set
        )

    def learn(self, input: Tensor, result_size: Sequence[int], run: GatherRun) -> None:
        """Take over what an input left ready, if it serves others: its kernel was made for its strides."""
        if input.stride() == contiguous_strides(input.shape) and run.stretches:
            size = input.shape[2:]
            self._ready[coarse_size(size if self._transposed else result_size)] = run

    def __call__(self, *operands: Tensor) -> Tensor | None:
        """The result; None where the call is to be checked, recorded for backward, or bound.

        A size that comes twice in a row is worth binding.
        """
        if (
            not self.recognizes(operands)
            or not nobody_listens_unseen()
            or (self._differentiable and is_grad_enabled())
        ):
            return None
        input, weight = operands[:2]
        run = self._runs.get(input.shape)
        if run is None:
            run = self._new(input, weight)
            if run is None:
                return None
            keep(self._runs, input.shape, run, _MOST_RUNS)
        elif run is self._latest:
            return None
        self._latest = run
        return run(*operands)

    def _new(self, input: Tensor, weight: Tensor) -> GatherRun | None:
        size = input.shape[2:]
        result = tuple(axis.output(n) for axis, n in zip(self._axes, size, strict=True))
        if min(result) < 1 or min(size) < 1 or prod(result) > _MOST_RESULTS:
            return None
        ready = self._ready.get(coarse_size(size if self._transposed else result))
        run = None if ready is None else ready.resized(size, result)
        if run is None:
            run = self._contraction.run(input, weight, result, self._geometry)
            self.learn(input, result, run)
        return run
