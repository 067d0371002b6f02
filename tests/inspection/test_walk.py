"""From layer to layer: borders that wrap, what is not understood, views that are written to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.inspection.models_to_check import Fn, conv, last, quick
from tests.probing import assert_reads, positive, read_by_nan


def test_circular_borders_and_rolls_are_named() -> None:
    for model in (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), Fn(lambda x: x.roll(1, 2))):
        report = quick(model, 1, 1, 8, 8)
        assert [note.kind for row in report.layers for note in row.notes] == ["wraps"]
        assert "wraps around:" in str(report)


def test_what_is_not_understood_is_named_and_nothing_behind_it_is_guessed() -> None:
    model = Fn(lambda x, a: a(x + torch.cdist(x, x)), a=nn.Conv2d(1, 1, 1))
    report = quick(model, 1, 1, 8, 8)
    assert report.not_understood == ("aten._cdist_forward: no rule for it",)
    assert last(report).unknown
    assert not last(report).fields
    assert not report.output_fields
    assert "not understood: aten._cdist_forward: no rule for it; figures after it are unknown" in str(report)
    assert all(halo.why == "an operation is not understood" for halo in report.halo)


def test_a_view_shows_what_is_written_into_its_tensor_later() -> None:
    def written(x: Tensor, a: nn.Module) -> Tensor:
        made = x.new_zeros(x.shape)
        seen, behind = made.view(made.shape), made[..., 1:]
        made[..., ::2] = a(x)[..., ::2]
        return seen[..., 1:] + 2 * behind

    model, shape = positive(Fn(written, a=conv(stride=1))), (1, 2, 20)
    report = quick(model, *shape)
    assert not report.not_understood
    assert assert_reads(dict(report.output_fields)[0], read_by_nan(model, shape, 2), 20) > 5
