"""What a single process can see of itself: its first call, its memory, its way with new lengths."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from outstride.bench.contenders import Contender, Form
from outstride.bench.work import Work
from outstride.errors import UnsupportedError


def first_call(contender: Contender, work: Work, threads: int) -> dict[str, Any]:
    """Time from the loaded library to the first result of the first form, then a second call.

    Everything that happens once is in the first figure: building, compiling, packing weights.
    """
    for package in contender.packages:
        import_module(package)
    begin = time.perf_counter()
    form = next(iter(contender.forms(work, threads)))
    form.run()
    first = time.perf_counter() - begin
    form.run()
    return {"first_seconds": first, "second_seconds": time.perf_counter() - begin - first}


def memory(contender: Contender, work: Work, threads: int) -> dict[str, Any]:
    """The highest resident memory during a repeated call, above what lay there before the layer came.

    The library lay there, warm from the same layer on its smallest input, and so did input and weights; the
    output is subtracted. What is left is packed weights, scratch and whatever else the library keeps.
    """
    assert work.case is not None
    least = tuple(d * (k - 1) + 1 for k, d in zip(work.case.kernel_size, work.case.dilation, strict=True))
    small = replace(work.case, batch=1, input_size=(2,) * work.case.nd if work.case.transposed else least)
    warm = Work({"case": small.to_dict()}, "float32", False)
    form = next(iter(contender.forms(warm, threads)))
    form.run()
    del warm, form
    settle()
    before = _resident("VmRSS")
    form = next(iter(contender.forms(work, threads)))
    output = form.run()
    results = form.read(output)
    output_bytes = sum(result.numel() * result.element_size() for result in results)
    del output, results
    settle()
    form.run()
    peak = _resident("VmHWM")
    weights = sum(p.numel() * p.element_size() for p in work.module.parameters())
    return {"extra_bytes": peak - before - output_bytes, "weight_bytes": weights}


def resident(work: Work) -> int | None:
    """The bytes that lie in memory with this work's module; None where the system does not tell."""
    assert isinstance(work.module, torch.nn.Module)  # built again where it was let go
    try:
        settle()
    except UnsupportedError:
        return None
    return _resident("VmRSS")


def highest(form: Form, work: Work, before: int | None) -> int | None:
    """The highest resident memory during a repeated call, above `before`, that of the loaded library.

    The model's own weights lay there before: they are counted, once, whoever computes with a copy of his own.
    """
    if before is None:
        return None
    weights = work.weight_bytes()
    work.let_go()
    settle()
    form.run()
    return _resident("VmHWM") - before + weights


def settle() -> None:
    """Give freed memory back and start a new high-water mark.

    Raises:
        UnsupportedError: the system keeps none, or one that nobody can reset.
    """
    gc.collect()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise UnsupportedError("the peak of the memory can be reset on Linux alone") from error


def _resident(line: str) -> int:
    found = re.search(rf"^{line}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


@cache
def _any_length(contender: Contender, work: Work, threads: int) -> Any:
    call = contender.any_length(work, threads)
    call(work.input)
    return call


def lengths(contender: Contender, work: Work, threads: int, sizes: Sequence[int]) -> dict[str, Any]:
    """Time one call at every length in turn, then all of them again, in the same order.

    The two passes do the same work on the same inputs; only the first meets every length for the first time.
    """
    call = _any_length(contender, work, threads)
    shape = work.input.shape
    inputs = [torch.randn(*shape[:-1], size) for size in sizes]
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        for x in inputs:
            call(x)
        seconds.append((time.perf_counter() - begin) / len(inputs))
    return {"new_seconds": seconds[0], "repeated_seconds": seconds[1]}
