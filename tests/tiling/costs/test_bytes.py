"""Bytes of boxes: what lies in memory at a time, views and packed weights included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from outstride.models.node import Node
from outstride.tiling.rules import products
from outstride.tiling.running import TileRun
from tests.tiling.models_to_tile import Function, conv, seeded

_MAP = 4 * 10 * 40 * 50


@pytest.mark.parametrize(
    ("function", "maps"),
    [
        (lambda x: x + 1, 2),
        (lambda x: ((x + 1) * 2).abs(), 2),
        (lambda x: (x + 1).movedim(1, 3), 2),
        (lambda x: x.movedim(1, 3) + x.relu().movedim(1, 3), 5),  # which an addition copies
    ],
)  # fmt: skip
def test_views_take_nothing_and_keep_their_sources(function: Callable[[Tensor], Tensor], maps: int) -> None:
    run = TileRun(Function(function), torch.zeros(1, 10, 40, 50), 1000)
    assert run.plan.taken == (maps * _MAP, 0)


def test_kernels_are_part_of_what_is_taken() -> None:
    run = TileRun(conv(64, 64, 3), torch.zeros(1, 64, 20, 20), 1000)
    weights = 4 * 64 * 64 * 9
    assert run.plan.taken.kept > weights
    assert run.plan.peak_bytes == run.plan.taken.peak == run.plan.taken.tensors + run.plan.taken.kept
    assert run.plan.to_dict()["kernel_bytes"] == run.plan.taken.kept


def test_a_source_of_another_type_is_there_beside_its_numbers() -> None:
    model = seeded(nn.ReLU)
    plain, wide = (
        TileRun(model, torch.zeros(1, 4, 100, 100).numpy().astype(name), 1000).plan.peak_bytes
        for name in ("uint8", "int64")
    )
    assert (plain, wide) == ((4 + 4) * 40_000, (8 + 4) * 40_000)


class Tokens(nn.Module):
    """A layer on the pixels of a map as tokens."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        if isinstance(self.layer, nn.MultiheadAttention):
            made = self.layer(tokens, tokens, tokens)[0]
        else:
            made = self.layer(tokens)
        return made.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]  # torch says no more


@pytest.mark.parametrize(
    ("layer", "matrices"),
    [
        (nn.MultiheadAttention(8, 2, batch_first=True), 3),  # of each head, and their average
        (nn.TransformerEncoderLayer(8, 4, 16, batch_first=True), 4),
    ],
    ids=["alone", "in an encoder"],
)
def test_scores_of_attention_in_one_call_are_counted(layer: nn.Module, matrices: int) -> None:
    tokens = 24 * 20
    peak_bytes = TileRun(Tokens(layer).eval(), torch.zeros(1, 8, 24, 20), 1000).plan.peak_bytes
    assert 0 < peak_bytes - matrices * 4 * tokens**2 < 16 * 4 * 8 * tokens


def by_pixels(x: Tensor) -> Tensor:
    """Attention of all pixels to each other."""
    t = x.flatten(2).mT
    return ((t @ t.mT).softmax(-1) @ t).mT.reshape(x.shape)


@pytest.mark.parametrize(("height", "tried"), [(2, 8), (24, 2), (60, 0)])
def test_products_are_tried_in_little_memory(
    height: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run took 525 MB where 87 were planned: eight matrices of scores had been made three times."""
    made = list[Tensor]()
    called = products._called

    def noted(node: Node, parts: list[Tensor]) -> Tensor:
        made.append(called(node, parts))
        return made[-1]

    monkeypatch.setattr(products, "_called", noted)
    products._are_apart.cache_clear()
    TileRun(Function(by_pixels), torch.zeros(1, 8, height, 40), 1000)
    products._are_apart.cache_clear()
    assert len(made) >= tried
    assert max((each.shape[0] for each in made), default=0) == tried
    assert all(each.numel() <= products._MOST_TRIED for each in made)
