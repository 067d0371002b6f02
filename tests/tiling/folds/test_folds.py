"""What folds add up part by part has the bits of torch's routine on the whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from outstride.engine.launch.maps.sum_orders import map_sum_orders
from outstride.tiling.barriers import deviations, norms
from outstride.tiling.box import whole
from outstride.tiling.folds.cascades import MapSums
from outstride.tiling.folds.chains import ChannelMoments
from outstride.tiling.folds.deviations import Norms, Variances
from outstride.tiling.folds.interface import Fold
from outstride.tiling.folds.moments import GroupMoments
from outstride.tiling.folds.sequences import added
from outstride.tiling.folds.windows import WindowMaxima, WindowMeans
from tests.engine.launch.agreed import assert_served
from tests.tolerance import assert_same_bits

_SIZES = ((7,), (3000,), (1, 9), (5, 7), (64, 65), (201, 333), (3, 4, 5), (33, 16, 20))


def wild(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Numbers of many magnitudes: sums of them in another order have other bits."""
    generator = torch.Generator().manual_seed(prod(shape) + seed)
    powers = torch.randint(-20, 20, shape, generator=generator)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * torch.exp2(powers)).to(dtype)


def folded(fold: Fold, x: Tensor, by_channels: bool = False) -> Any:
    """A fold over slabs of drawn heights, of all channels or of one after the other."""
    dice = np.random.default_rng(x.numel())
    channels = [(c, c + 1) for c in range(x.shape[1])] if by_channels else [(0, x.shape[1])]
    for walk in range(fold.walks):
        for image, (first, last) in product(range(len(x)), channels):
            start = 0
            while start < x.shape[2]:
                stop = min(start + int(dice.integers(1, max(x.shape[2] // 3, 2))), x.shape[2])
                box = ((image, image + 1), (first, last), (start, stop), *whole(x.shape[3:]))
                fold.take(walk, box, x[image : image + 1, first:last, start:stop])
                start = stop
    return fold.result()


def by_groups(fold: Fold, x: Tensor, channels: int) -> Any:
    """A fold over boxes of all positions of so many channels."""
    for image, first in product(range(len(x)), range(0, x.shape[1], channels)):
        last = min(first + channels, x.shape[1])
        box = ((image, image + 1), (first, last), *whole(x.shape[2:]))
        fold.take(0, box, x[image : image + 1, first:last])
    return fold.result()


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, *range(2, x.dim()), 1).contiguous().movedim(-1, 1)


def _needs(agrees: bool) -> None:
    """The test is of an order that this torch was found to have; where it has another, nothing is folded."""
    assert_served(None if agrees else "this build of torch sums in another order")


def test_sums_are_sequences_however_they_are_cut() -> None:
    terms = wild(3, 100_000).numpy()
    for dtype in (np.float32, np.float64):
        one_by_one = np.zeros(3, dtype)
        for row in range(3):
            for term in terms[row, :2000]:
                one_by_one[row] += dtype(term)
        got = np.zeros(3, dtype)
        for start in range(0, 2000, 307):
            got = added(got, terms[:, start : min(start + 307, 2000)])
        assert_same_bits(torch.from_numpy(got), torch.from_numpy(one_by_one))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", _SIZES, ids=str)
def test_moments_of_channels_are_those_of_batch_norm(size: Sequence[int], threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for images in (1, 3):
            x = wild(images, 5, *size)
            expected = torch.native_batch_norm(x, None, None, None, None, True, 0.1, 1e-5)[1:]
            for got, statistic in zip(folded(ChannelMoments(tuple(x.shape), 1e-5), x), expected, strict=True):
                assert_same_bits(got, statistic)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", _SIZES, ids=str)
def test_sums_and_means_are_torchs(size: Sequence[int], threads: int, dtype: torch.dtype) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for images, channels in ((1, 3), (2, 17), (1, 70)):
            drawn = wild(images, channels, *size, dtype=dtype)
            if drawn.numel() > 10**6:
                continue
            for x in (drawn, channels_last(drawn)):
                lanes = 32 // dtype.itemsize
                orders = map_sum_orders(x.shape, x.is_contiguous(), dtype.itemsize, lanes)
                assert orders is not None
                axes = tuple(range(2, x.dim()))
                for mean, expected in ((True, x.mean(axes)), (False, x.sum(axes))):
                    fold = MapSums(tuple(x.shape), dtype, orders, mean, tuple(expected.shape))
                    assert_same_bits(folded(fold, x), expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("size", _SIZES, ids=str)
def test_moments_of_groups_are_those_of_group_and_layer_norm(size: Sequence[int], groups: int) -> None:
    x = wild(2, 6, *size)
    _needs(norms._groups_agree() and norms._layers_agree())
    for of, wide_root in (("group", True), ("layer", False)):
        if wide_root:
            expected = torch.native_group_norm(x, None, None, 2, 6, prod(size), groups, 1e-5)[1:]
        else:
            rows = x.view(2, groups, -1)
            expected = torch.native_layer_norm(rows, [rows.shape[2]], None, None, 1e-5)[1:]
        for at_once in (0, *range(1, groups + 1)):
            fold = GroupMoments(tuple(x.shape), groups, 1e-5, wide_root)
            if groups == 6 or not at_once:
                got = folded(fold, x, by_channels=groups < 6)
            else:
                got = by_groups(fold, x, 6 // groups * at_once)
            for ours, torchs in zip(got, expected, strict=True):
                assert_same_bits(ours, torchs.view(2, groups), of)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "made"), [((33, 70), (2, 3)), ((7, 16), (3, 1)), ((9, 12, 5), (2, 3, 2))])
def test_windows_are_those_of_adaptive_pooling(
    size: Sequence[int], made: Sequence[int], dtype: torch.dtype
) -> None:
    x, nd = wild(2, 5, *size, dtype=dtype), len(size)
    means: Tensor = getattr(F, f"adaptive_avg_pool{nd}d")(x, made)
    assert_same_bits(folded(WindowMeans(tuple(x.shape), tuple(means.shape), dtype), x), means)
    largest: Tensor = getattr(F, f"adaptive_max_pool{nd}d")(x, made)
    assert_same_bits(folded(WindowMaxima(tuple(x.shape), tuple(means.shape), dtype), x), largest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", _SIZES)
def test_norms_and_variances_are_torchs(size: tuple[int, ...], dtype: torch.dtype) -> None:
    axes, one = tuple(range(2, 2 + len(size))), dict[str, Any](keepdim=True)
    for x in (wild(2, 5, *size, dtype=dtype), channels_last(wild(2, 5, *size, dtype=dtype))):
        shape, made, turned = tuple(x.shape), (2, 5, *(1 for _ in size)), not x.is_contiguous()
        _needs(deviations._variances_agree(dtype, not turned))
        lanes = 0 if turned else 32 // dtype.itemsize
        expected = torch.linalg.vector_norm(x, 2, axes, keepdim=True)
        assert_same_bits(folded(Norms(shape, dtype, lanes, made), x), expected)
        for wanted, theirs in (
            ("var", x.var(axes, correction=1, **one)), ("std", x.std(axes, correction=1, **one)),
            ("mean", torch.var_mean(x, axes, **one)[1]),
        ):  # fmt: skip
            assert_same_bits(folded(Variances(shape, dtype, turned, wanted, 1.0, made), x), theirs)


def test_rows_of_a_map_that_lies_otherwise_are_taken_in_order() -> None:
    """A slab may be a view whose positions lie apart."""
    x = wild(1, 8, 6, 12)
    turned = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    expected = torch.linalg.vector_norm(x, 2, (2, 3))
    assert_same_bits(folded(Norms((1, 8, 6, 12), torch.float32, 8, (1, 8)), turned), expected)
