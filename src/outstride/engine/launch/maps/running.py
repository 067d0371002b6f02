"""Sums that go on from part to part, as torch takes norms and variances of maps."""

from __future__ import annotations

from array import array
from functools import partial

import torch
from torch import Tensor

from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.maps.running import running_source
from outstride.engine.launch.argument_block import address
from outstride.engine.launch.plans import DTYPES
from outstride.engine.runtime import Kernel, kernel, machine


def _kernel(kind: str, dtype: torch.dtype) -> Kernel:
    source = partial(running_source, kind, DTYPES[dtype])
    return kernel(f"running_{kind}_{DTYPES[dtype]}", source, machine().instruction_set, authorship())


def add_squares(part: Tensor, sums: Tensor) -> None:
    """sums = sums + x * x for each x of (groups, count, lanes), one after the other.

    ``sums``: (groups, lanes), contiguous and of the same type; the last axis of ``part`` is contiguous.
    """
    _run("squares", part, sums, sums, 0)


def add_moments(part: Tensor, before: int, means: Tensor, sums: Tensor) -> None:
    """Welford's means and sums of squares, of which so many elements were taken before.

    ``means`` and ``sums``: (groups, lanes), contiguous, of float64; ``part`` as in ``add_squares``.
    """
    _run("moments", part, sums, means, before)


def _run(kind: str, part: Tensor, sums: Tensor, means: Tensor, before: int) -> None:
    groups, count, lanes = part.shape
    if not part.numel():
        return
    assert part.stride(2) == 1 or lanes == 1
    assert sums.shape == means.shape == (groups, lanes)
    assert sums.is_contiguous()
    assert means.is_contiguous()
    block = array(
        "q",
        (
            *(part.data_ptr(), sums.data_ptr(), means.data_ptr()),
            *(groups, part.stride(0), lanes, part.stride(1), count, before),
        ),
    )
    _kernel(kind, part.dtype).alone(address(block))
