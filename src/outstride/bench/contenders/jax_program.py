"""JAX: a jitted program over arrays that lie on its device already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outstride.bench.contenders import Form
from outstride.bench.work import Work
from outstride.errors import UnsupportedError

SPATIAL = {1: "W", 2: "HW", 3: "DHW"}


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """The layer with the channels first and with the channels last."""
    # XLA takes the number of its threads from the cores that the process is bound to.
    del name, threads
    for last in (False, True):
        program, x = _program(work, last), _array(work.input.movedim(1, -1) if last else work.input)

        def run(program: Any = program, x: Any = x) -> Any:
            return program(x).block_until_ready()

        def read(output: Any, last: bool = last) -> tuple[Tensor, ...]:
            result = torch.from_numpy(np.array(output))
            return (result.movedim(-1, 1) if last else result,)

        yield Form("NHWC" if last else "NCHW", run, read)


def any_length(name: str, work: Work, threads: int) -> Callable[[Tensor], Any]:
    """The jitted program, which compiles itself anew for every new length."""
    del name, threads
    program = _program(work, last=False)
    return lambda x: program(x.numpy()).block_until_ready()


def _array(tensor: Tensor) -> Any:
    return import_module("jax").device_put(tensor.contiguous().numpy())


def _program(work: Work, last: bool) -> Callable[[Any], Any]:
    jax, lax, case = import_module("jax"), import_module("jax.lax"), work.case
    if case is None or work.training or work.dtype != torch.float32:
        raise UnsupportedError("JAX is timed on single layers, float32, inference")
    axes = SPATIAL[case.nd]
    outer = f"N{axes}C" if last else f"NC{axes}"
    weight = work.module.get_parameter("weight").detach()
    ones = (1,) * case.nd
    pads = [(p, p) for p in case.padding]
    if case.transposed:
        # The transposed layer as XLA has it: inputs spread by the stride, the kernel flipped.
        weight = _as_convolution(weight, case.groups)
        each = zip(case.kernel_size, case.padding, case.dilation, case.output_padding, strict=True)
        pads = [(d * (k - 1) - p, d * (k - 1) - p + extra) for k, p, d, extra in each]
    order = f"{axes}IO" if last else f"OI{axes}"
    weight = weight.movedim((1, 0), (-2, -1)) if last else weight
    kernel = _array(weight)
    bias = _array(work.module.get_parameter("bias").detach()) if case.bias else None
    bias = bias.reshape((-1,) if last else (-1, *ones)) if bias is not None else None

    def layer(x: Any) -> Any:
        y = lax.conv_general_dilated(
            x,
            kernel,
            window_strides=ones if case.transposed else case.stride,
            padding=pads,
            lhs_dilation=case.stride if case.transposed else ones,
            rhs_dilation=case.dilation,
            dimension_numbers=(outer, order, outer),
            feature_group_count=case.groups,
        )
        return y if bias is None else y + bias

    program: Callable[[Any], Any] = jax.jit(layer)
    return program


def _as_convolution(weight: Tensor, groups: int) -> Tensor:
    """The weight of the ordinary convolution that a transposed layer is on its spread input."""
    per_group = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    flipped: Tensor = per_group.flip(tuple(range(2, weight.dim())))
    return flipped
