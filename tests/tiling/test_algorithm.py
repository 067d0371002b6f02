"""Tiles and streams are computed by what the whole is computed by."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from outstride import accelerate, functional, nn, tiling
from outstride.layer.shortening import ALGORITHMS
from tests.asking import asked
from tests.tiling.models_to_tile import image
from tests.tolerance import assert_same_bits

_either = pytest.mark.parametrize("algorithm", ALGORITHMS)


class _ByFunctions(torch.nn.Module):
    def __init__(self, algorithm: str) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.w = torch.nn.Parameter(image(3, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        up = functional.conv_transpose2d(x, self.w, None, 2, algorithm=self.algorithm)
        return functional.conv2d(up, self.w, padding=1, algorithm=self.algorithm)


def _models(algorithm: str) -> dict[str, Any]:
    torch.manual_seed(0)
    stock = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ConvTranspose2d(4, 3, 4, 2)).eval()
    return {
        "accelerated": accelerate(stock, algorithm=algorithm),
        "layers": nn.Conv2d(3, 4, 3, padding="same", algorithm=algorithm).eval(),
        "functions": _ByFunctions(algorithm).eval(),
    }


@_either
@pytest.mark.parametrize("kind", ["accelerated", "layers", "functions"])
def test_tiles_ask_for_what_the_model_asks_for(kind: str, algorithm: str) -> None:
    model, x = _models(algorithm)[kind], image(1, 3, 20, 24)
    with torch.no_grad():
        whole = model(x)
    with asked() as names:
        made = tiling.tile_run(model, x, tile=(7, 8), progress=False)
    assert set(names) == {algorithm}
    assert_same_bits(torch.as_tensor(made), whole)


@_either
def test_streams_ask_for_what_the_model_asks_for(algorithm: str) -> None:
    torch.manual_seed(0)
    stock = torch.nn.Sequential(torch.nn.Conv1d(2, 4, 3), torch.nn.ConvTranspose1d(4, 2, 4, 2)).eval()
    model, x = accelerate(stock, algorithm=algorithm), image(1, 2, 40)
    with torch.no_grad():
        whole = model(x)
    with asked() as names:
        stream = tiling.stream(model, x.shape)
        parts = [*(stream.push(chunk) for chunk in x.split(9, -1)), stream.close()]
    assert set(names) == {algorithm}
    assert_same_bits(torch.cat(parts, -1), whole)
