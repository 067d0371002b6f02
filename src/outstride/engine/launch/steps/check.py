"""Whether a step's code has the bits of the torch that is there, tried once for each step.

Builds of torch differ in what they contract to fused multiply-adds (one that runs without any, for old
processors, does), and a later torch may compute an operator in another way. So before a step is first
used, some random numbers and all special ones go through torch's operator, in each layout and at lengths
that leave vectors unfilled, and through the code of the step. One that differs is declined.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.steps.alone import steps_source
from outstride.engine.launch.argument_block import address
from outstride.engine.launch.memory_format import FORMATS
from outstride.engine.launch.plans import DTYPES
from outstride.engine.launch.steps.agreement import plainly, same_bits
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.planner.steps import CONTIGUOUS, IN_VECTORS, Step, operand_forms, steps_name
from outstride.engine.runtime import Kernel, chosen, decline, kernel, machine

#: Shapes of the numbers tried, each in each memory format: vectors over the channels and along the width
#: that are full and that are not.
_SHAPES = ((2, 3, 53), (1, 37, 3, 5), (1, 5, 7, 13), (1, 2, 2, 3, 11))
#: Shapes of numbers that fill torch's vectors.
_FULL = ((2, 4, 64), (1, 32, 2, 8), (1, 2, 7, 32), (1, 2, 2, 4, 16))
#: Elements that torch's loops take at once, in two vectors of 64 bytes, and those worth another thread.
_AT_ONCE, _GRAIN = 32, 1 << 15


def declined(steps: Sequence[Step], dtype: torch.dtype, count: int | None = None) -> str | None:
    """Why steps on so many elements, if that is known, have not torch's own bits here, or nothing."""
    if reason := decline():
        return reason
    in_vectors = [step for step in steps if step.kind in IN_VECTORS]
    if in_vectors and dtype is not torch.float32:
        return f"torch computes {in_vectors[0].kind!r} of {dtype} by a routine of its own"
    with_ends = next((step.kind for step in in_vectors if step.has_ends), None)
    if with_ends is not None and count is not None and not _fills_vectors(count):
        return f"torch computes {with_ends!r} of elements that fill no vector by another routine"
    if reason := _gelu_declined(steps, dtype, count):
        return reason
    # What is rounded to 16 bits hides most of what float32 shows.
    dtypes = (dtype,) if dtype.itemsize > 2 else (torch.float32, dtype)
    plain = [replace(step, filled=False) for step in steps]
    reasons = (plainly(partial(_declined, step, each, chosen())) for step in plain for each in dtypes)
    return next((reason for reason in reasons if reason is not None), None)


def _gelu_declined(steps: Sequence[Step], dtype: torch.dtype, count: int | None) -> str | None:
    """Why a gelu is not one that torch has oneDNN compute, or not in this way, or nothing."""
    kinds = {step.kind for step in steps} & CONTIGUOUS
    if not kinds:
        return None
    if dtype is not torch.float32:
        return f"torch computes 'gelu' of {dtype} by a routine of its own"
    if count is not None and count < 2:
        return "torch computes 'gelu' of one element by a routine of its own"
    library: Any = torch.backends.mkldnn
    if not library.enabled:
        return "torch computes 'gelu' by oneDNN, which is switched off"
    if "gelu" in kinds and machine().instruction_set.name != "avx512":
        return "polynomials of 'gelu' are looked up with AVX-512"
    return None


def _fills_vectors(count: int) -> bool:
    """Whether each thread's share of so many float32 fills torch's vectors."""
    shares = 1 if count < _GRAIN else min(torch.get_num_threads(), -(-count // _GRAIN))
    share = -(-count // shares)
    return count % _AT_ONCE == 0 and (shares == 1 or share % _AT_ONCE == 0)


@lru_cache(maxsize=1024)
def _declined(step: Step, dtype: torch.dtype, instruction_set: str) -> str | None:
    del instruction_set  # what the kernel is compiled for
    code = steps_kernel((step,), dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for shape in _FULL if step.kind in IN_VECTORS else _SHAPES:
            formats = (torch.contiguous_format, FORMATS.get(len(shape)))
            for memory_format in formats[: 1 if step.kind in CONTIGUOUS else 2]:
                if memory_format is None:
                    continue
                x = _numbers(shape, dtype, generator).contiguous(memory_format=memory_format)
                operands = _operands(step, x, generator)
                if step.kind == "batch_norm":
                    x = _near_zeros(step, x, operands)
                expected = by_torch(x, (step,), operands)
                if not same_bits(run_alone(code, (step,), x, operands), expected):
                    return f"this build of torch computes {step.kind!r} of {dtype} with other bits"
    return None


def steps_kernel(steps: Sequence[Step], dtype: torch.dtype) -> Kernel:
    """The kernel of steps alone, for elements of one channel."""
    name, isa = DTYPES[dtype], machine().instruction_set
    source = partial(steps_source, tuple(steps), name, isa)
    return kernel(f"steps_{name}{steps_name(steps)}", source, isa, authorship())


def run_alone(code: Kernel, steps: Sequence[Step], x: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """The steps on a tensor (N, C, *size), a channel at a time."""
    rows = _rows(x)
    result = torch.empty_like(rows)
    forms = operand_forms(steps)
    given = [
        _rows(t) if form == "tensor" else t.contiguous() for form, t in zip(forms, operands, strict=True)
    ]
    for channel, (row, made) in enumerate(zip(rows, result, strict=True)):
        table = array("q", [t[channel].data_ptr() for t in given])
        block = array("q", (row.data_ptr(), made.data_ptr(), address(table), row.numel()))
        code.alone(address(block))
    return result.view(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


def _rows(x: Tensor) -> Tensor:
    """The elements of each channel, one behind the other."""
    return x.transpose(0, 1).reshape(x.shape[1], -1).contiguous()


def _numbers(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """Random numbers, every few of them a special one."""
    info = torch.finfo(dtype)
    small = (info.tiny, info.smallest_normal * 0.375, 1e-3, 1.0, 3.0, 6.0, info.max, float("inf"))
    special = torch.tensor([0.0, *small], dtype=torch.float64)
    special = torch.cat([special, -special, torch.tensor([float("nan")], dtype=torch.float64)])
    numbers = torch.randn(tuple(shape), generator=generator, dtype=torch.float64).mul_(4).flatten()
    places = torch.arange(0, numbers.numel(), 3)
    numbers[places] = special[torch.arange(places.numel()) % special.numel()]
    return numbers.reshape(tuple(shape)).to(dtype)


def _near_zeros(step: Step, x: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """In most places numbers near which a batch norm is 0: there each of its roundings shows, in any type."""
    given = iter(operands)
    mean, variance, weight, bias = (
        None if form is None else next(given).double() for form in step.operands
    )  # fmt: skip
    assert mean is not None, "a batch norm has a mean"
    assert variance is not None, "a batch norm has a variance"
    (eps,) = step.numbers
    assert eps is not None, "a batch norm has an eps"
    scale = (variance + eps).rsqrt() * (1.0 if weight is None else weight)
    zero = mean - (0.0 if bias is None else bias) / scale
    places = (torch.arange(x[0, 0].numel()) % 7).view(x.shape[2:])
    near = zero.view(-1, *[1] * (x.dim() - 2)) * (1.0 + places * 2.0**-12)
    return torch.where(places < 5, near.to(x.dtype), x).contiguous(memory_format=_format_of(x))


def _operands(step: Step, x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Operands of a step for a tensor: of a batch norm some that are large, and a variance of 0."""
    made = []
    for number, form in enumerate(step.operands):
        if form == "channel":
            vector = torch.randn(x.shape[1], generator=generator, dtype=torch.float64)
            if step.kind == "batch_norm":
                vector = vector * (100.0, 1e-2, 30.0, 30.0)[number]
            if step.kind == "batch_norm" and number == 1:
                vector = vector.abs()
                vector[0] = 0.0
            made.append(vector.to(x.dtype))
        elif form == "tensor":
            like = _numbers(x.shape, x.dtype, generator)
            order = torch.randperm(like.numel(), generator=generator)
            made.append(like.flatten()[order].view(x.shape).to(memory_format=_format_of(x)))
    return made


def _format_of(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else FORMATS[x.dim()]
