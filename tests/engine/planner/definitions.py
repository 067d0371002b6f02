"""What the definitions say of a problem: which inputs an output sums, and a strip packed in plain loops.

The strip holds numbered inputs, so that the offsets of a plan can be looked up in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from outstride.engine.planner.dtypes import Unit
from outstride.engine.planner.gather_form import GatherAxis, PhaseGroup
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.plan import GatherPlan
from outstride.engine.planner.problem import Problem
from outstride.engine.planner.strip import Strip
from outstride.engine.planner.tables import residue_planes

Terms = list[tuple[int, int]]


def defined_terms(
    transposed: bool, output: int, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> Terms:
    """The (kernel index, input index) pairs of one output, from u = i * stride + k * dilation - padding."""
    if transposed:
        return [
            (k, i)
            for k in range(kernel)
            for i in range(size)
            if i * stride + k * dilation - padding == output
        ]
    pairs = ((k, output * stride + k * dilation - padding) for k in range(kernel))
    return [(k, u) for k, u in pairs if 0 <= u < size]


def read_taps(plan: GatherPlan, group: PhaseGroup, cell: Sequence[int]) -> list[int]:
    """The taps that a cell does not leave out: along axes that are cut, those that read the input."""
    axes = [(a, cut, at) for a, cut, at in zip(plan.axes, plan.blocking.cut, cell, strict=True)]
    return [
        tap
        for tap, offsets in enumerate(group.offsets)
        if all(
            not cut or 0 <= at * a.in_step + offset < a.input_size
            for (a, cut, at), offset in zip(axes, offsets, strict=True)
        )
    ]


def packed_strip(
    axes: Sequence[GatherAxis], strip: Strip, box: Sequence[range], overrun: int
) -> NDArray[np.int64]:
    """One channel of a box's strip: 1 + the number of the input at each place, 0 for padding, -1 for nothing.

    Vectors store `overrun` elements at a time; rows are written in the order in which the kernel writes them.
    """
    room = np.full(strip.plane_pitch * strip.planes + 64, -1)
    step = axes[2].in_step
    sizes = [a.input_size for a in axes]
    lows = [r.start + a.reach[0] for a, r in zip(axes, box[1:], strict=True)]
    depth, height, width = (len(r) + a.reach[1] - a.reach[0] for a, r in zip(axes, box[1:], strict=True))
    width += overrun
    planes = residue_planes(tuple(axes))
    residues = [tuple(planes[i : i + 6]) for i in range(0, len(planes), 6)]
    assert len(residues) * step == strip.planes
    for (plane, numbers), n, d, h in product(enumerate(residues), box[0], range(depth), range(height)):
        rd, before_d, behind_d, rh, before_h, behind_h = numbers
        if not (before_d <= d < depth - behind_d and before_h <= h < height - behind_h):
            continue
        ud = (lows[0] + d) * axes[0].in_step + rd
        uh = (lows[1] + h) * axes[1].in_step + rh
        image = (n - box[0].start) * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2]
        for residue in range(step):
            u = (lows[2] + np.arange(width)) * step + residue
            inside = (u >= 0) & (u < sizes[2]) & (0 <= ud < sizes[0]) & (0 <= uh < sizes[1])
            number = 1 + ((n * sizes[0] + ud) * sizes[1] + uh) * sizes[2] + u
            place = (plane * step + residue) * strip.plane_pitch + image
            room[place : place + width] = np.where(inside, number, 0)
    assert not (room[strip.plane_pitch * strip.planes :] >= 0).any(), "packing writes behind the last plane"
    return room[: strip.plane_pitch * strip.planes]


def all_channels(
    one: NDArray[np.int64], strip: Strip, channels: Iterable[int], inputs: int
) -> NDArray[np.int64]:
    """The strip of these channels of the input, each with numbers of its own."""
    listed = list(channels)
    full = np.full(strip.elements, -1)
    for i, channel in enumerate(listed):
        numbers = np.where(one > 0, one + channel * inputs, one)
        if strip.pixel_pitch > 1:
            full[i :: strip.pixel_pitch][: len(one)] = numbers
        else:
            assert len(one) <= strip.channel_pitch
            full[i * strip.channel_pitch :][: len(one)] = numbers
    return full


def overrun_of(unit: Unit, step: int, machine: Machine, item: int) -> int:
    """Elements of a store of the packing loop: a vector where the input is contiguous along the width."""
    return machine.instruction_set.lanes(item) if unit == "width" and step <= 4 else 1


def term_count(problem: Problem, output: Sequence[int]) -> int:
    """How many terms a channel has that read an input."""
    rows = zip(
        output,
        problem.input_size,
        problem.kernel_size,
        problem.stride,
        problem.padding,
        problem.dilation,
        strict=True,
    )
    return prod(len(defined_terms(problem.operator == "conv_transpose", *row)) for row in rows)


def input_read(problem: Problem, output: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...] | None:
    """The input position that an output reads through a kernel element, None for padding."""
    place = []
    for i, (o, k) in enumerate(zip(output, kernel, strict=True)):
        s, p, d = problem.stride[i], problem.padding[i], problem.dilation[i]
        u, left = divmod(o + p - k * d, s) if problem.operator == "conv_transpose" else (o * s + k * d - p, 0)
        if left or not 0 <= u < problem.input_size[i]:
            return None
        place.append(u)
    return tuple(place)
