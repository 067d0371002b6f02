"""`verify` finds the seam of a tiling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from outstride import tiling
from outstride.errors import ArgumentError
from tests.tiling.models_to_tile import conv, image, whole_of


def test_verify_finds_the_seam() -> None:
    model, x = conv(1, 1, 3, padding=1), image(1, 1, 20, 40)

    def halves(x: Tensor) -> Tensor:
        return torch.cat([model(x[..., :16]), model(x[..., 16:])], -1)

    found = tiling.verify(halves, model, x)
    assert not found
    assert not found.rounding
    assert found.lines[-1] == (15, 16)
    assert "differ from the whole" in str(found)
    assert found.to_dict()["lines"][-1] == [15, 16]
    exact = tiling.verify(lambda x: tiling.tile_run(model, x, tile=7, progress=False), model, x)
    assert exact
    assert "every bit" in str(exact)
    nearly = tiling.verify(lambda x: whole_of(model, x) * (1 + 1e-6), model, x)
    assert not nearly
    assert nearly.rounding
    assert "no more than rounding" in str(nearly)
    with pytest.raises(ArgumentError, match="'fn' must return what the model does"):
        tiling.verify(lambda x: x[..., 1:], model, x)
