"""Tiles as tasks of Dask make the whole."""

from __future__ import annotations

import pytest
import torch

from outstride import tiling
from outstride.errors import ArgumentError, DTypeError, UnsupportedError
from tests.tiling.models_to_tile import Function, UNet, image, seeded, whole_of
from tests.tolerance import assert_same_bits


@pytest.mark.parametrize("tile", [(16, 24), (40, 50)])
def test_dask_is_the_whole(tile: tuple[int, int]) -> None:
    da = pytest.importorskip("dask.array")
    model, x = seeded(UNet), image(2, 3, 32, 48)
    lazy = tiling.dask(model, da.from_array(x.numpy(), chunks=(1, 3, 20, 20)), tile=tile)
    assert lazy.shape == (2, 2, 32, 48)
    for scheduler in ("synchronous", "threads"):
        assert_same_bits(
            torch.from_numpy(lazy.compute(scheduler=scheduler, num_workers=2)), whole_of(model, x)
        )
    assert_same_bits(torch.from_numpy(tiling.dask(model, x, tile=tile).compute()), whole_of(model, x))
    with pytest.raises(UnsupportedError, match="must not need every pixel"):
        tiling.dask(Function(lambda x: x - x.mean()), x.numpy(), tile=tile)
    for arguments, error, text in (
        ((5, x), ArgumentError, "'model' must be a torch.nn.Module: got int"),
        ((model, 5), ArgumentError, "'array' must be an array or a tensor: got int"),
        ((model, x.bfloat16()), DTypeError, "'array' must have a type that NumPy has"),
    ):
        with pytest.raises(error, match=text):
            tiling.dask(*arguments)
