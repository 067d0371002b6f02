"""Blocks cover a result once, are whole chunks of the source, and are stored in parts of themselves."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from outstride import tiling
from outstride.tiling.box import Box, elements, shape_of
from outstride.tiling.clusters import blocks

SIZES = st.lists(st.integers(1, 14), min_size=1, max_size=3)


@cache
def any_plan() -> tiling.TilePlan:
    return tiling.plan(nn.ReLU(), (1, 1, 4, 4))


@given(st.data())
def test_a_grid_covers_the_result_once(data: st.DataObject) -> None:
    sizes = data.draw(SIZES)
    plan = replace(any_plan(), output_shape=(2, 3, *sizes))
    block = tuple(data.draw(st.integers(1, n)) for n in sizes)
    chunks = blocks.grid(replace(plan, tile=block))
    boxes = [blocks.box_at(chunks, place) for place in blocks.places(chunks)]
    assert len(boxes) == blocks.count(chunks)
    assert boxes == list(replace(plan, tile=block).boxes())
    tile = tuple(data.draw(st.integers(1, n)) for n in block)
    for box in boxes:
        parts = list(blocks.cut(box, blocks.even(tile, block)))
        assert sum(map(elements, parts)) == elements(box)
        assert all(n <= max(t, 16) for n, t in zip(shape_of(parts[0])[2:], tile, strict=True))


@given(st.data())
def test_the_chunks_that_overlap_a_box_are_found(data: st.DataObject) -> None:
    chunks = tuple(tuple(data.draw(SIZES)) for _ in range(data.draw(st.integers(1, 2))))
    box: Box = tuple(
        (a, data.draw(st.integers(a, sum(sizes))))
        for sizes in chunks
        for a in [data.draw(st.integers(0, sum(sizes)))]
    )

    def shares(chunk: Box) -> bool:
        return all(max(a, c) < min(b, d) for (a, b), (c, d) in zip(chunk, box, strict=True))

    found = [place for place in blocks.places(chunks) if shares(blocks.box_at(chunks, place))]
    assert blocks.overlapping(chunks, box) == found


@given(st.integers(1, 9000), st.integers(1, 3))
def test_no_two_blocks_write_one_stored_chunk(size: int, number: int) -> None:
    (stored,) = blocks.stored(((size,) * number,), 1)
    assert number == 1 or size % stored == 0
    assert stored <= max(size, 1)


@pytest.mark.parametrize(
    ("model", "size", "chunks", "scale"),
    [
        (nn.Conv1d(1, 1, 9, padding=4), (10**9,), (100_000,), 1),
        (nn.Conv2d(3, 2, 3, padding=1), (60_000, 60_000), (1024, 1024), 1),
        (nn.Conv2d(3, 2, 4, 4), (60_000, 60_000), (1000, 2000), 1 / 4),
        (nn.ConvTranspose2d(3, 2, 2, 2), (30_000, 40_000), (256, 512), 2),
        (nn.Conv3d(1, 2, 3, padding=1), (2000, 2000, 2000), (64, 64, 64), 1),
    ],
    ids=["sound", "slide", "smaller", "larger", "volume"],
)
def test_a_block_is_chunks_of_the_source_within_what_it_may_take(
    model: nn.Module, size: tuple[int, ...], chunks: tuple[int, ...], scale: float
) -> None:
    channels = next(model.parameters()).shape[not isinstance(model, nn.ConvTranspose2d)]
    plan = tiling.plan(model, (1, channels, *size), memory="1GB")
    block = blocks.block_of(plan, chunks, (1, 4), 10**8)
    for n, chunk, whole_size in zip(block, chunks, plan.output_shape[2:], strict=True):
        assert n % (chunk * scale) == 0 or n == whole_size
    made, read = plan.output_shape[1], plan.input_shape[1]
    taken = prod(block) * (4 * made + read / scale ** len(size))
    assert 10**8 / 4 < taken <= 10**8
    huge = blocks.block_of(plan, size, (1, 4), 10**8)
    assert prod(huge) * (4 * made + read / scale ** len(size)) <= 10**8 or huge == plan.tile


def test_a_block_holds_a_tile() -> None:
    shape = (1, 1, 5000, 5000)
    plan = replace(any_plan(), input_shape=shape, output_shape=shape, tile=(900, 1300))
    block = blocks.block_of(plan, (100, 1000), (4, 4), 1000)
    assert all(n >= t for n, t in zip(block, plan.tile, strict=True))
