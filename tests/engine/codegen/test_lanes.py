"""Depthwise layers whose channels lie side by side: inputs are loaded once a row, bits are those of rows."""

from __future__ import annotations

import re
from typing import Literal

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.codegen.nest import gather_source
from outstride.engine.launch.execute import gather_run
from outstride.engine.launch.fused import fused_run
from outstride.engine.planner.dataflows.lanes import MOST_TAPS, TILES
from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.planner.recipe import Recipe
from outstride.engine.planner.steps import Step
from outstride.engine.planner.unrolled import RowTaps
from outstride.engine.runtime.compiler import compile_assembly
from tests.engine.codegen.assembly import FUSED, REGISTER, bodies_of
from tests.tolerance import assert_same_bits

_TAPS = (RowTaps(3, 1, 1), RowTaps(3, 2, 1), RowTaps(5, 1, -1), RowTaps(7, 1, 1), RowTaps(3, 1, 2))
_Sizes = tuple[int, ...]
#: Operator, input, kernel, stride, padding, dilation; more channels than vectors, and a part of one.
_LAYERS: dict[str, tuple[Literal["conv", "conv_transpose"], _Sizes, _Sizes, _Sizes, _Sizes, _Sizes]] = {
    "plain": ("conv", (2, 60, 9, 17), (3, 3), (1, 1), (1, 1), (1, 1)),
    "steps": ("conv", (1, 40, 11, 23), (5, 5), (2, 3), (2, 2), (1, 1)),
    "dilated": ("conv", (1, 33, 9, 20), (3, 4), (1, 2), (2, 3), (2, 2)),
    "wide": ("conv", (1, 24, 5, 13), (7, 7), (1, 1), (3, 3), (1, 1)),
    "long": ("conv", (1, 24, 3, 29), (1, MOST_TAPS + 2), (1, 1), (0, 5), (1, 1)),
    "sequence": ("conv", (2, 40, 31), (9,), (1,), (4,), (1,)),
    "single": ("conv", (1, 20, 6, 3), (3, 1), (1, 1), (1, 0), (1, 1)),
    "transposed": ("conv_transpose", (1, 40, 7, 12), (3, 5), (2, 1), (1, 2), (1, 2)),
    "spread": ("conv_transpose", (1, 40, 7, 12), (4, 4), (2, 2), (1, 1), (1, 1)),
}


@pytest.mark.parametrize("unrolled", _TAPS, ids=lambda taps: "_".join(map(str, taps.numbers)))
@pytest.mark.parametrize("isa", ["avx512", "avx2"])
def test_an_input_is_loaded_once_for_all_taps_of_a_row(isa: str, unrolled: RowTaps) -> None:
    """Products as many as pixels have taps; with a loop's sums written out and read there is nothing else."""
    tile, register = TILES[isa], REGISTER[isa]
    recipe = Recipe("float32", isa, "channel", "channel", unrolled.in_step, 1, ("lanes",), unrolled)
    bodies = bodies_of(compile_assembly(gather_source(recipe), INSTRUCTION_SETS[isa]))
    for vectors in range(1, tile.vectors + 1):
        body = bodies[f"tile_{vectors}"]
        products = [line for line in body if FUSED.match(line)]
        assert len(products) == tile.rows * unrolled.taps * vectors
        from_memory = sum("(" in line for line in products)
        loads = sum(bool(re.match(rf"vmov\S+\s.*\(.*%{register}\d+$", line)) for line in body)
        inputs, weights = len(unrolled.reads(tile.rows)), unrolled.taps
        waiting = tile.rows * vectors  # sums that are read where the epilogue is
        assert loads + from_memory <= (inputs + 2 * weights + 3) * vectors + waiting


@pytest.mark.parametrize("isa", runtime.available())
@pytest.mark.parametrize("name", _LAYERS)
def test_the_bits_are_those_of_rows(name: str, isa: str) -> None:
    operator, shape, kernel, stride, padding, dilation = _LAYERS[name]
    torch.manual_seed(3)
    channels, groups = shape[1], shape[1]
    x, w = torch.randn(shape), torch.randn(channels, 1, *kernel)
    middle, last = (0, 1, *(n // 2 for n in shape[2:])), tuple(n - 1 for n in shape)
    x[middle], x[last] = float("nan"), float("inf")
    axes = zip(shape[2:], kernel, stride, padding, dilation, strict=True)
    if operator == "conv":
        size = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes)
    else:
        size = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in axes)
    lying = x.movedim(1, -1).contiguous().movedim(-1, 1)
    numbers = (stride, padding, size, dilation, groups)
    with runtime.instruction_set(isa):
        expected = gather_run(operator, x, w, *numbers, "direct")(x, w, None)
        out = torch.empty(shape[0], *size, channels).movedim(-1, 1)
        assert_same_bits(
            gather_run(operator, lying, w, *numbers, "direct", out)(lying, w, None, out), expected
        )
        if expected.numel() % 32 == 0:
            steps = (Step("silu"),)
            found = fused_run(operator, lying, w, *numbers, "direct", steps, out)(lying, w, None, [], out)
            assert_same_bits(found, torch.nn.functional.silu(expected))
