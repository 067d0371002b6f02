"""Zeros where tiles read what packing does not write: the lanes of a last tile behind its last pixel.

Nobody sees their sums. But scratch holds what other kernels left, tables among it, whose integers are tiny
numbers as floats; and a processor may take a hundred cycles for a multiply-add of such.
"""

from __future__ import annotations

from outstride.engine.codegen import elements
from outstride.engine.codegen.context import Kernel
from outstride.engine.codegen.ir import PTR, Function


def clear_function(kernel: Kernel) -> Function:
    """`clear(block, scratch)`: before a thread's first task, zeros behind every plane of its strip."""
    k = kernel.function("clear", ("scratch", PTR), rare=True)
    f, e, a = k.f, k.e, k.a
    (strip,) = k.parameters
    zeros = elements.zero(e, k.lanes)
    with (
        f.when(f.compare("ne", a["unwritten_vectors"], 0)),
        f.loop(0, a["strip_planes"]) as plane,
        f.loop(0, a["strip_channels"]) as channel,
    ):
        start = f.add(f.mul(plane, a["plane_pitch"]), f.mul(channel, a["channel_pitch"]))
        behind = f.at(strip, f.add(start, a["unwritten"]), e.accumulator)
        with f.loop(0, a["unwritten_vectors"]) as i:
            f.store(zeros, f.at(behind, f.mul(i, k.lanes), e.accumulator), e.accumulator_bytes)
    return f
