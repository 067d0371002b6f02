"""How fast this machine multiplies and adds, measured now: the limit to state a benchmark against."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from functools import partial

import torch

from outstride.engine.codegen.arguments import PEAK_INDEX
from outstride.engine.codegen.authorship import authorship
from outstride.engine.codegen.peak import chains, peak_source
from outstride.engine.launch.argument_block import address
from outstride.engine.runtime import kernel, machine

_TURNS = 1 << 17


def peak(dtype: str = "float32") -> float:
    """Measure the rate of fused multiply-adds in registers alone, in FLOP/s, on all of torch's threads.

    Args:
        dtype: "float32" or "float64"; narrower types are summed in float32.

    Returns:
        The best of several runs of a few milliseconds, all threads together.

    Example:
        >>> peak() > 1e9
        True
    """
    isa = machine().instruction_set
    name = "float64" if dtype == "float64" else "float32"
    item = 8 if name == "float64" else 4
    run = kernel(f"peak_{name}", partial(peak_source, name, isa), isa, authorship())
    data = torch.full((2 * isa.vector_bytes,), 0.5, dtype=getattr(torch, name))
    room = torch.rand(isa.registers * isa.vector_bytes // item, dtype=data.dtype)
    block = array("q", [0] * len(PEAK_INDEX))
    block[PEAK_INDEX["data_at"]], block[PEAK_INDEX["result_at"]] = data.data_ptr(), room.data_ptr()
    block[PEAK_INDEX["turns"]] = _TURNS
    threads = torch.get_num_threads()
    best = min(_seconds(run.launch, address(block), threads) for _ in range(9))
    return threads * _TURNS * chains(isa) * isa.lanes(item) * 2 / best


def _seconds(launch: Callable[[int, int], None], block: int, threads: int) -> float:
    start = time.perf_counter()
    launch(block, threads)
    return time.perf_counter() - start
