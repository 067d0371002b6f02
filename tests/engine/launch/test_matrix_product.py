"""Layers of one position run as matrix products, with the bits that they have among other positions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod
from typing import Literal

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.launch import call_cache, gather
from outstride.engine.launch.execute import gather_run
from outstride.engine.launch.fused import fused_run
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.plans import MOST_READ, plan_of
from outstride.engine.planner.steps import Step
from tests.guard import Edge, GuardedPages
from tests.tolerance import assert_same_bits

_ONES, _NONE = (1, 1), (0, 0)
_DIRECT: Literal["direct"] = "direct"


@pytest.mark.parametrize("isa", runtime.available())
@pytest.mark.parametrize(("channels", "outputs"), [(150, 6), (64, 48), (10, 130), (1, 9)])
def test_one_position_has_the_bits_that_it_has_among_others(channels: int, outputs: int, isa: str) -> None:
    torch.manual_seed(2)
    x, w, bias = torch.randn(1, channels, 1, 2), torch.randn(outputs, channels, 1, 1), torch.randn(outputs)
    residual = torch.randn(1, outputs, 1, 1)
    with runtime.instruction_set(isa):
        both = gather_run("conv", x, w, _ONES, _NONE, (1, 2), _ONES, 1, "direct")(x, w, bias)
        one = x[..., 1:].contiguous()
        layer = (w, _ONES, _NONE, _ONES, _ONES, 1, _DIRECT)
        for lying in (one, one.to(memory_format=torch.channels_last), x[..., 1:]):
            assert_same_bits(gather_run("conv", lying, *layer)(lying, w, bias), both[..., 1:])
            steps = (Step("add", (), ("tensor",)), Step("relu"))
            found = fused_run("conv", lying, *layer, steps)(lying, w, bias, [residual])
            assert_same_bits(found, torch.relu(both[..., 1:] + residual))


@pytest.mark.parametrize("strides", [(64, 1, 1, 1), (64, 1, 64, 64)])
def test_sizes_of_one_do_not_tell_where_channels_lie(strides: tuple[int, ...]) -> None:
    x, w = torch.empty_strided((1, 64, 1, 1), strides), torch.empty(48, 64, 1, 1)
    plan = plan_of(Operands("conv", x, w, torch.empty(1, 48, 1, 1), _ONES, _NONE, _ONES, 1), 1)
    assert (plan.problem.in_unit, plan.problem.out_unit) == ("channel", "channel")
    assert plan.tile.rows == 1, "no lanes are lost to pixels that are not there"


#: Channels, outputs, images and maps: parts of vectors, rows of several images, more channels than are read.
_MATRICES = ((20, 33, 2, (5, 7)), (64, 48, 1, (9, 9)), (200, 16, 3, (4, 4)), (MOST_READ + 1, 9, 1, (3, 5)))
_EDGES: tuple[Edge, ...] = ("start", "end")
#: Bytes of the second-level cache: of little a pass takes some of the channels.
_CACHES = (1 << 20, 1 << 14)


@pytest.mark.parametrize("isa", runtime.available())
@pytest.mark.parametrize(("channels", "outputs", "images", "size"), _MATRICES)
@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_rows_of_a_matrix_are_read_where_they_lie(
    operator: Literal["conv", "conv_transpose"], channels: int, outputs: int, images: int,
    size: tuple[int, int], isa: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    torch.manual_seed(3)
    w = torch.randn(outputs, channels) if operator == "conv" else torch.randn(channels, outputs)
    w, bias = w[..., None, None], torch.randn(outputs)
    x, residual = (_beside(torch.randn(images, n, *size)) for n in (channels, outputs))
    apart = _beside(torch.zeros(images, channels, size[0], size[1] + 1))[..., :-1].copy_(x)
    layer = (w, _ONES, _NONE, size, _ONES, 1, _DIRECT)
    steps = (Step("add", (), ("tensor",)), Step("relu"))
    with runtime.instruction_set(isa):
        expected = gather_run(operator, x.contiguous(), *layer)(x.contiguous(), w, bias)
        assert_same_bits(gather_run(operator, apart, *layer)(apart, w, bias), expected)
        for edge, l2_bytes in product(_EDGES, _CACHES):
            small = replace(runtime.machine(), l2_bytes=l2_bytes)
            monkeypatch.setattr(gather, "machine", lambda here=small: here)
            call_cache.clear()
            with GuardedPages() as pages:
                own = pages.copy(x, edge)
                assert_same_bits(gather_run(operator, own, *layer)(own, w, bias), expected)
                found = fused_run(operator, own, *layer, steps)(own, w, bias, [residual])
                assert_same_bits(found, torch.relu(expected + residual))
    call_cache.clear()


def test_what_is_read_where_it_lies() -> None:
    """Rows behind each other; neither pixels with gaps nor planes, nor more than so many channels."""
    wide = _beside(torch.zeros(1, 32, 6, 7))
    for x, packs in (
        (_beside(torch.zeros(2, 32, 6, 6)), False), (wide, False), (wide[..., :-1], True),
        (torch.zeros(1, 32, 6, 6), True), (_beside(torch.zeros(1, MOST_READ + 1, 6, 6)), True),
        (_beside(torch.zeros(1, 32, 6, 6, dtype=torch.bfloat16)), True),
    ):  # fmt: skip
        y, w = (
            torch.zeros(n, dtype=x.dtype) for n in ((x.shape[0], 48, *x.shape[2:]), (48, x.shape[1], 1, 1))
        )
        plan = plan_of(Operands("conv", x, w, _beside(y), _ONES, _NONE, _ONES, 1), 1)
        assert plan.dataflow.lists_pixels
        assert plan.dataflow.packs(plan.problem) == packs, f"{x.shape}, {x.stride()}, {x.dtype}"


def _beside(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("isa", runtime.available())
@pytest.mark.parametrize("size", [(5, 7), (9, 1), (3, 4, 5)])
@pytest.mark.parametrize("operator", ["conv", "conv_transpose"])
def test_planes_without_gaps_are_rows(
    operator: Literal["conv", "conv_transpose"], size: tuple[int, ...], isa: str
) -> None:
    """The pixels of a channel are one row, wherever channels and images lie."""
    torch.manual_seed(4)
    channels, outputs, ones = 20, 33, (1,) * len(size)
    w = torch.randn(outputs, channels, *ones) if operator == "conv" else torch.randn(channels, outputs, *ones)
    bias, residual = torch.randn(outputs), torch.randn(2, outputs, *size)
    x = torch.randn(2, 2 * channels, *size)[:, ::2]
    apart = torch.zeros(2, channels, *size[:-1], size[-1] + 1)[..., :-1].copy_(x)
    layer = (w, ones, (0,) * len(size), size, ones, 1, _DIRECT)
    steps = (Step("add", (), ("tensor",)), Step("relu"))
    plan = plan_of(Operands(operator, x, w, residual, ones, (0,) * len(size), ones, 1), 1)
    assert plan.problem.input_size == (1, 1, prod(size))
    with runtime.instruction_set(isa):
        expected = gather_run(operator, apart, *layer)(apart, w, bias)
        assert_same_bits(gather_run(operator, x, *layer)(x, w, bias), expected)
        found = fused_run(operator, x, *layer, steps)(x, w, bias, [residual])
        assert_same_bits(found, torch.relu(expected + residual))
