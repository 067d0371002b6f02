"""SiLU, the sigmoid and ELU of tensors that do not fill torch's vectors, with torch's own bits.

Torch's loops take two vectors at a time, and what is left one element after the other, by an exponential of
the C library. The kernel calls the same function.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.steps.ends import ENDS_INDEX, ends_source
from outstride.engine.codegen.steps.operations import OF_SINGLE
from outstride.engine.launch.argument_block import ArgumentBlock, address
from outstride.engine.launch.fresh_result import fresh_result
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.steps.agreement import disagreement, trial
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.planner.steps import Step, steps_name
from outstride.engine.runtime import chosen, kernel, library_function, machine

_X, _Y = (ENDS_INDEX[name] for name in ("x_at", "y_at"))
#: Elements that torch's loops take at once, two vectors, by what it says that it computes with.
_AT_ONCE = {"AVX512": 32, "AVX2": 16}
#: Elements from which torch's threads share a tensor.
_MOST = 1 << 15
#: Lengths that are tried: shorter than all vectors, and with such an end behind some.
_TRIED = (1, 7, 12, 20, 28, 48, 144, 333)


def has_ends(steps: Sequence[Step], x: Tensor) -> bool:
    """Whether ``EndsRun`` does steps on a tensor without gaps as torch does."""
    if len(steps) != 1 or not steps[0].has_ends or x.dtype is not torch.float32:
        return False
    return 0 < x.numel() < _MOST and _disagreement(steps[0]) is None


def _disagreement(step: Step) -> str | None:
    """Why this torch has other bits, or nothing."""
    if _at_once() is None or library_function(OF_SINGLE[step.kind]) is None:
        return f"there is nothing that computes the ends of a {step.kind!r}"
    return disagreement(f"the ends of a {_told(step)} with {chosen()}", partial(_pairs, step))


def _told(step: Step) -> str:
    return f"{step.kind!r} of {step.numbers}" if step.numbers else repr(step.kind)


def _pairs(step: Step) -> list[tuple[Tensor, Tensor]]:
    tried = [trial(1, count, 1, dtype=torch.float32, seed=count) for count in _TRIED]
    return [(by_torch(x, (step,), ()), EndsRun(step, x)(x, (), None)) for x in tried]


def _at_once() -> int | None:
    return _AT_ONCE.get(torch.backends.cpu.get_cpu_capability())


class EndsRun:
    """The kernel for a step on tensors of one shape and strides: `(x, (), out)`."""

    def __init__(self, step: Step, x: Tensor) -> None:
        isa, at_once = machine().instruction_set, _at_once()
        function = library_function(OF_SINGLE[step.kind])
        assert at_once is not None, "a torch whose vectors are known"
        assert function is not None, "a C library that has the function"
        name = f"ends{steps_name((step,))}"
        self._kernel = kernel(name, partial(ends_source, step, isa), isa, authorship())
        self._empty = fresh_result(x.shape, x.stride(), x.dtype)
        count = x.numel()
        scalars = {"function_at": function, "whole": count - count % at_once, "count": count}
        self._block = ArgumentBlock.of(ENDS_INDEX, scalars, {})

    def __call__(self, x: Tensor, operands: Sequence[Tensor], out: Tensor | None) -> Tensor:
        del operands
        if out is None:
            out = self._empty()
        block: array[int] = self._block.fresh()
        block[_X], block[_Y] = x.data_ptr(), out.data_ptr()
        self._kernel.launch(address(block), 1)
        return out

    def launch(self, x: At, operands: Sequence[At], y: At) -> Launch:
        """What a call launches."""
        del operands
        return Launch(self._kernel, self._block, 1, {"x_at": x, "y_at": y}, empty=self._empty)
