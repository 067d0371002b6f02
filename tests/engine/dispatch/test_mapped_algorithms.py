"""vmap is the loop by every algorithm: mapping changes which layer runs, and not what it is computed by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, func

from outstride import functional
from outstride.layer.shortening import FEWEST_OF_MUCH, choose
from tests.tolerance import assert_same_bits


@pytest.mark.parametrize("outputs", [FEWEST_OF_MUCH // 2, 2 * FEWEST_OF_MUCH])
@pytest.mark.parametrize("mapped", ["input", "weight", "both"])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_mapped_layers_are_computed_as_each_alone(name: str, mapped: str, outputs: int) -> None:
    """Three weights of few outputs are no layer of all of them, which would be short."""
    generator, transposed = torch.Generator().manual_seed(5), "transpose" in name
    channels = 2 * FEWEST_OF_MUCH
    x = torch.randn(3, 1, channels, 9, 9, generator=generator)
    w = torch.randn(
        3, *((channels, outputs) if transposed else (outputs, channels)), 3, 3, generator=generator
    )
    short = choose(transposed, (3, 3), (1, 1), (1, 1), channels, outputs, "float32").short
    assert short == (outputs == channels)
    function: Callable[..., Tensor] = getattr(functional, name)
    dims = (None if mapped == "weight" else 0, None if mapped == "input" else 0)
    given = [t if dim == 0 else t[0] for t, dim in zip((x, w), dims, strict=True)]
    found = func.vmap(lambda x, w: function(x, w, padding=1), dims)(*given)
    for n, result in enumerate(found):
        one = (t if dim is None else t[n] for t, dim in zip(given, dims, strict=True))
        assert_same_bits(result, function(*one, padding=1), f"example {n}")
