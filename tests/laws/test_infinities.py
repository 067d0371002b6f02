"""What is not finite, by short algorithms: infinities and NaN are those of the direct chain, sign and all.

Sums of inputs or weights may overflow where no product of the direct chain does: such outputs are finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from tests.cases import Case, case
from tests.environments import everything_short, one_of
from tests.laws.items import NARROW
from tests.operands import Operands, draw, run, torch_opinion
from tests.roundings import CONTRACTIONS, GATHERS, is_short, longest_chain, scales
from tests.tolerance import assert_close_to_reference, assert_same_bits

LAYERS = [
    case("conv1d", "conv", (21,), 3, (5, 7), padding=1),
    case("conv1d-even", "conv", (18,), 4, (3, 9), padding=2),
    case("conv2d", "conv", (9, 11), 3, (4, 8), padding=1),
    case("conv2d-strided", "conv", (9, 12), 5, (3, 4), padding=2, stride=2),
    case("conv3d", "conv", (4, 5, 6), 3, (2, 3), padding=1),
    case("transposed1d", "conv_transpose", (10,), 4, (3, 5), padding=1, stride=2),
    case("transposed2d", "conv_transpose", (5, 6), 4, (4, 8), padding=1, stride=2),
]
_every_layer = pytest.mark.parametrize(
    "layer", [replace(c, algorithm="short") for c in LAYERS], ids=lambda c: c.id
)
_GREATEST = torch.finfo(torch.float32).max
#: Every layer in float32 and in one narrow dtype, always the same, and in the long run in the other.
_every_layer_and_type = pytest.mark.parametrize(
    ("layer", "dtype"),
    [
        pytest.param(
            replace(layer, algorithm="short"),
            dtype,
            id=f"{layer.id}-{str(dtype).removeprefix('torch.')}",
            marks=[] if dtype in (torch.float32, one_of(NARROW, layer.id)) else [pytest.mark.slow],
        )
        for layer in LAYERS
        for dtype in (torch.float32, *NARROW)
    ],
)


@pytest.fixture(autouse=True, scope="module")
def _whatever_it_saves() -> Iterator[None]:
    with everything_short():
        yield


def _both(layer: Case, operands: Operands) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What short algorithms make and what the direct chain does, under one of the instruction sets."""
    with runtime.instruction_set(one_of(runtime.available(), layer.id, operands.input.dtype)):
        assert is_short(layer, "output", operands.input.dtype)
        return run(layer, operands), run(replace(layer, algorithm="direct"), operands)


@_every_layer_and_type
@pytest.mark.parametrize("side", ["input", "weight", "bias", "grad_output"])
def test_infinities_and_nan_are_those_of_the_direct_chain(layer: Case, side: str, dtype: torch.dtype) -> None:
    operands = draw(layer, "short", dtype)
    generator = torch.Generator().manual_seed(layer.seed)
    poisoned: Tensor = getattr(operands, side).clone()
    places = torch.randperm(poisoned.numel(), generator=generator)[:4]
    poisoned.view(-1)[places] = torch.tensor([torch.inf, -torch.inf, torch.nan, torch.inf], dtype=dtype)[
        : len(places)
    ]
    found, expected = _both(layer, replace(operands, **{side: poisoned}))
    for name in CONTRACTIONS:
        there = ~expected[name].isfinite()
        assert_same_bits(
            found[name].masked_fill(found[name].isfinite(), 0), expected[name].masked_fill(~there, 0), name
        )


@_every_layer
@pytest.mark.parametrize("side", ["input", "weight", "grad_output"])
def test_sums_that_overflow_are_made_by_the_direct_chain(layer: Case, side: str) -> None:
    operands = draw(replace(layer, bias=False), "reals", torch.float32)
    others = {"input", "weight", "grad_output"} - {side}
    signs = {name: getattr(operands, name).sign() for name in (side, *others)}
    operands = replace(
        operands,
        **{side: signs[side] * (0.9 * _GREATEST)},
        **{name: signs[name] * 2.0**-20 for name in others},
    )
    found, expected = _both(layer, operands)
    truth = torch_opinion(layer, operands)
    scale = scales(layer, operands, torch.float32)
    counts = {name: longest_chain(layer, name, torch.float32) for name in GATHERS}
    for name in GATHERS:
        assert bool(expected[name].isfinite().all())
        assert_close_to_reference(
            found[name], truth[name].numpy(), scale[name].numpy(), counts[name], torch.float32, name
        )
