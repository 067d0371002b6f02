"""Where branches meet: offsets of layers, and branches that do not lie on each other."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import nn

from tests.inspection.models_to_check import GRAPHS, HALF, Fn, last, quick


def test_offset_of_the_usual_layers() -> None:
    def offset(layer: nn.Module) -> Fraction:
        return last(quick(layer, 1, 1, 16)).fields[0].offset

    assert offset(nn.Conv1d(1, 1, 3, 2, 1)) == -HALF
    assert offset(nn.Conv1d(1, 1, 4, 2, 1)) == 0
    assert offset(nn.ConvTranspose1d(1, 1, 4, 2, 1)) == 0
    # output_padding costs half a pixel of the output, which is a quarter of one of the input.
    assert offset(nn.ConvTranspose1d(1, 1, 3, 2, 1, output_padding=1)) == Fraction(1, 4)
    assert offset(nn.Upsample(scale_factor=3)) == 0
    assert offset(nn.MaxPool1d(2)) == 0


def test_a_shifted_picture_moves_as_the_offset_says() -> None:
    """The middle of what an impulse becomes, against the declared place of it."""
    layer = nn.ConvTranspose1d(1, 1, 3, 2, 1, output_padding=1, bias=False).double()
    nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 21, dtype=torch.float64)
    x[0, 0, 10] = 1
    with torch.no_grad():
        out = layer(x)[0, 0]
    middle = Fraction(int((out * torch.arange(len(out))).sum()), int(out.sum()))
    field = last(quick(layer, 1, 1, 21)).fields[0]
    assert field.stride * middle + field.centre == 10


def test_misaligned_branches_are_named() -> None:
    model = Fn(lambda x, a, b: a(x) + b(x), a=nn.Conv2d(1, 1, 3, 2, 1), b=nn.AvgPool2d(2))
    report = quick(model, 1, 1, 16, 16)
    (row,) = report.misaligned
    assert row.kind == "add"
    assert [tuple(map(str, place)) for place in row.notes[0].places[0]] == [("2", "-1/2"), ("2", "0")]
    assert "misaligned:     add: middles -1/2, 0 pixels beside a plain rescaling by 2" in str(report)
    aligned = Fn(lambda x, a, b: a(x) + b(x), a=nn.Conv2d(1, 1, 4, 2, 1), b=nn.AvgPool2d(2))
    assert quick(aligned, 1, 1, 16, 16).misaligned == ()


def test_space_to_depth_is_no_misalignment() -> None:
    assert quick(GRAPHS["space to depth"], 1, 2, 40).misaligned == ()
