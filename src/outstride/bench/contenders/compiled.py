"""torch.compile, weights frozen and modules not guarded, by its own compiler and by this package."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from importlib import import_module
from types import FunctionType, MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn

from outstride.bench.contenders import Form
from outstride.bench.contenders.eager import CHANNELS_LAST, calls, direct, in_layout
from outstride.bench.work import Work
from outstride.errors import UnsupportedError

OURS = "outstride_compile"


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """The compiled module on a contiguous input and, where torch has it, on a channels_last one."""
    del threads
    ours = name == OURS
    if work.training and not ours:
        raise UnsupportedError("torch.compile is timed in inference, for freezing is for inference")
    if work.case is not None and ours:
        raise UnsupportedError("this backend is timed on whole models")
    # The switch has no public door, and the compiler reads it when it first compiles.
    vars(import_module("torch._inductor.config"))["freezing"] = not ours
    # Without this it stops compiling after a few layers, all of which share the code of one `forward`.
    import_module("torch._dynamo").reset()
    yield _form("NCHW", work.module, work.input, work, ours)
    if work.input.dim() in CHANNELS_LAST:
        layout = CHANNELS_LAST[work.input.dim()]
        module = in_layout(copy.deepcopy(work.module), layout)
        yield _form("NHWC", module, work.input.contiguous(memory_format=layout), work, ours)


def any_length(name: str, work: Work, threads: int) -> Callable[[Tensor], Any]:
    """The compiled module, which after the second length compiles itself for every length."""
    del name, threads
    return torch.inference_mode()(torch.compile(work.module))


def _form(name: str, module: nn.Module, x: Tensor, work: Work, ours: bool) -> Form:
    options: dict[str, Any] = {"frozen": not work.training} if ours else {}
    unguarded = getattr(torch.compiler, "skip_guard_on_all_nn_modules_unsafe", None)
    if unguarded is not None and not work.training:  # torch 2.8 and newer: nobody changes the model here
        options["guard_filter_fn"] = unguarded
    backend = "outstride" if ours else "inductor"
    module = _Own(module)
    compiled = torch.compile(module, dynamic=False, backend=backend, options=options)
    run, read = calls(cast(nn.Module, compiled), x, work)
    return Form(name, run, read, direct=direct(work) if ours else None)


class _Own(nn.Module):
    """A module whose `forward` is code of its own, with which torch keeps what it compiles.

    Without guards of modules another layout's module would run what was compiled for this one, for an input
    of one channel lies alike in both.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.forward = MethodType(FunctionType(_forward.__code__.replace(), globals()), self)


def _forward(self: _Own, x: Tensor) -> Any:
    return self.module(x)
