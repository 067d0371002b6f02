"""Plans of the weight gradient by dot products: every input is found."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod

import numpy as np
from hypothesis import given, settings

from outstride.engine.planner.gradients.dots import dot_scalars, plan_dots
from outstride.engine.planner.machine import DOT_BYTES, Machine
from outstride.engine.planner.problem import Problem
from tests.engine.planner.definitions import input_read, overrun_of, packed_strip
from tests.engine.planner.problems import CHOICES, boxes_of, gradient_of


@given(*CHOICES)
@settings(max_examples=60)
def test_dot_products_find_every_input(problem: Problem, machine: Machine, threads: int) -> None:
    plan = plan_dots(gradient_of(problem), machine)
    p, strip = plan.problem, plan.strip
    scalars, taps, scratch_bytes = dot_scalars(plan)
    item = 8 if p.dtype == "float64" else 4
    assert strip.elements * item <= scalars["sums_bytes_offset"]
    assert DOT_BYTES * p.outputs * prod(p.kernel_size) <= scratch_bytes - scalars["sums_bytes_offset"]
    assert scalars["tasks"] == p.groups * p.channels
    boxes = list(boxes_of(plan, plan.box))
    assert len(boxes) == scalars["boxes"]
    assert sum(prod(map(len, box)) for box in boxes) == p.batch * prod(p.output_size)
    kernel = list(product(*(range(k) for k in p.kernel_size)))
    overrun = overrun_of(p.in_unit, plan.axes[2].in_step, machine, item)
    for box in boxes:
        one = packed_strip(plan.axes, strip, box, overrun)
        for n, d, h, w in product(*(range(len(r)) for r in box)):
            place = n * strip.image_pitch + (d * strip.extent[1] + h) * strip.extent[2] + w
            output = [r[i] for r, i in zip(box[1:], (d, h, w), strict=True)]
            for tap, k in zip(taps, kernel, strict=True):
                u = input_read(replace(problem, operator="conv"), output, k)
                number = 0
                if u is not None:
                    number = 1 + int(np.ravel_multi_index((box[0][n], *u), (p.batch, *p.input_size)))
                assert one[place + tap] == number
