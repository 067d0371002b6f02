"""Axes in parts: what a view merges stays apart, what it cuts comes together again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from outstride.models.graph import capture
from outstride.models.unmerging import unmerged
from outstride.models.unmerging.parts import meeting, plain, reshaped, sizes_of, strides_of
from tests.tiling.models_to_tile import Function


@pytest.mark.parametrize(
    ("shape", "views", "parts"),
    [
        ((2, 3, 4, 5), [(6, 20)], (2, 3, 4, 5)),
        ((2, 3, 4, 5), [(6, 20), (2, 3, 20)], (2, 3, 4, 5)),
        ((2, 12, 5), [(2, 3, 4, 5)], (2, 3, 4, 5)),
        ((2, 12, 5), [(2, 3, 4, 5), (24, 5)], (2, 12, 5)),
        ((2, 12, 5), [(2, 3, 4, 5), (2, 3, 20), (2, 60)], (2, 12, 5)),
        ((2, 12, 5), [(2, 3, 2, 2, 5), (24, 1, 5)], (2, 12, 1, 5)),
        ((4, 6), [(8, 3)], (4, 2, 3)),
        ((1, 6), [(6,), (1, 1, 6)], (1, 1, 6)),
    ],
)
def test_a_view_keeps_parts(shape: tuple[int, ...], views: list[tuple[int, ...]], parts: object) -> None:
    axes = plain(shape)
    for view in views:
        found = reshaped(axes, view)
        assert found is not None
        axes = found
    assert sizes_of(axes) == parts


def test_what_a_view_cuts_unevenly_has_no_parts() -> None:
    assert reshaped(plain((4, 3)), (6, 2)) is None


def test_tensors_meet_in_parts_that_both_have() -> None:
    assert meeting([(12,), (3, 4)], 12) == (3, 4)
    assert meeting([(2, 6), (6, 2)], 12) == (2, 3, 2)
    assert meeting([(3, 4), (4, 3)], 12) == (12,)
    assert meeting([(1,)], 1) == (1,)


def test_parts_lie_where_the_axis_does() -> None:
    axes = reshaped(plain((2, 12)), (2, 3, 4))
    assert axes is not None
    joined = reshaped(axes, (24,))
    assert joined is not None
    assert strides_of(joined, (5,)) == (60, 5)


def test_rows_of_pixels_stay_pixels() -> None:
    model = Function(lambda x: nn.functional.gelu(x.flatten(2).transpose(1, 2)).sum(2).view(x.shape[0], 4, 6))
    graph = unmerged(capture(model, (2, 3, 4, 6), torch.float32), (torch.float32,))
    assert [node.shape for node in graph.nodes] == [
        (2, 3, 4, 6), (2, 4, 6, 3), (2, 4, 6, 3), (2, 4, 6)
    ]  # fmt: skip
