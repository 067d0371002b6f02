"""The field that is declared is the field that is read: NaN and gradients show it."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from outstride.models.operators.resizing import MODES, reach_of
from tests.inspection.models_to_check import GRAPHS, HALF, Fn, conv, last, quick, up
from tests.probing import assert_reads, positive, read_by_gradient, read_by_nan

STRIDED_TRANSPOSED = [
    {"kernel_size": k, "stride": s, "padding": p, "dilation": d, "output_padding": o}
    for k in (1, 2, 3, 4, 5)
    for s in (1, 2, 3)
    for p in (0, 1, 2)
    for d in (1, 2)
    for o in (0, 1)
    if o < max(s, d) and p <= d * (k - 1)
]


@pytest.mark.parametrize("options", STRIDED_TRANSPOSED, ids=lambda o: "-".join(map(str, o.values())))
def test_field_of_a_strided_transposed_layer_between_strided_ones(options: dict[str, int]) -> None:
    model = positive(nn.Sequential(conv(stride=2), up(**options), conv()))
    report = quick(model, 1, 2, 41)
    measured = read_by_nan(model, (1, 2, 41), 2)
    assert assert_reads(last(report).fields[0], measured, 41) > 5
    assert read_by_gradient(model, (1, 2, 41), 2) == measured
    assert last(report).fields[0].stride == Fraction(2, options["stride"])


# What a maximum takes to another place leaves a zero, in which no NaN shows.
HIDDEN = ("unpooled",)


@pytest.mark.parametrize("name", GRAPHS)
def test_field_of_a_graph_is_what_nan_shows(name: str) -> None:
    model, shape = positive(GRAPHS[name]), (1, 2, 40)
    report = quick(model, *shape)
    assert report.not_understood == ()
    (field,) = (field for _, field in report.output_fields)
    measured = read_by_nan(model, shape, 2)
    margin = 20 if name in HIDDEN else 6
    inside = assert_reads(field, measured, 40, margin, folds=name == "borders")
    assert inside >= 3 or name in HIDDEN


@st.composite
def chains(draw: st.DrawFn) -> nn.Module:
    """Sequences of every layer that changes the grid, skips included."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "up", "up", "max", "avg", "nearest", "skip", "pad", "crop"]))
        k, s, d = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        p = draw(st.integers(0, d * (k - 1)))
        if kind == "conv":
            layers.append(nn.Conv1d(1, 1, k, s, p, d))
        elif kind == "up":
            extra = draw(st.integers(0, max(s, d) - 1))
            layers.append(nn.ConvTranspose1d(1, 1, k, s, p, extra, dilation=d))
        elif kind in ("max", "avg"):
            pool = nn.MaxPool1d if kind == "max" else nn.AvgPool1d
            layers.append(pool(k, s, min(p, k // 2), ceil_mode=draw(st.booleans())))
        elif kind == "nearest":
            layers.append(nn.Upsample(scale_factor=draw(st.sampled_from([2.0, 3.0, 1.5, 0.5]))))
        elif kind == "skip":
            odd = k + 1 - k % 2
            branch = nn.Conv1d(1, 1, odd, padding=d * (odd - 1) // 2, dilation=d)
            layers.append(Fn(lambda x, branch: x + branch(x), branch=branch))
        elif kind == "pad":
            layers.append(nn.ConstantPad1d((k, s), 0.0))
        else:
            layers.insert(0, Fn(lambda x, k=k: x[..., k:]))
    return nn.Sequential(*layers)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(chains(), st.integers(110, 160))
def test_field_of_a_random_chain_is_what_nan_shows(model: nn.Module, size: int) -> None:
    model = positive(model)
    try:
        measured = read_by_nan(model, (1, 1, size), 2)
    except RuntimeError:
        return  # too small for the chain
    report = quick(model, 1, 1, size)
    assert report.not_understood == ()
    assert_reads(dict(report.output_fields)[0], measured, size, margin=25)


@pytest.mark.parametrize("mode", ["linear", "nearest", "nearest-exact"])
@pytest.mark.parametrize("to", [7, 13, 20, 27, 40, 41, 60])
def test_resizing_reads_what_its_gradient_shows(mode: str, to: int) -> None:
    for aligned in (False, True) if mode == "linear" else (None,):
        model = Fn(lambda x, a=aligned: F.interpolate(x, size=to, mode=mode, align_corners=a))
        field = last(quick(model, 1, 1, 20)).fields[0]
        measured = read_by_gradient(model, (1, 1, 20), 2)
        assert_reads(field, measured, 20)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("scale", [2.0, 0.5, 0.25, 1.5])
def test_resizing_of_pictures(mode: str, antialias: bool, scale: float) -> None:
    model = Fn(lambda x: F.interpolate(x, scale_factor=scale, mode=mode, antialias=antialias))
    fields = last(quick(model, 1, 1, 20, 24)).fields
    for axis, size in ((2, 20), (3, 24)):
        assert_reads(fields[axis - 2], read_by_gradient(model, (1, 1, 20, 24), axis), size)
        assert fields[axis - 2].offset == 0


def test_every_mode_of_resizing_is_centred_on_average() -> None:
    for mode in set(MODES) - {"nearest"}:
        reach = reach_of(mode, 12, 24, HALF, False)
        assert (reach.scale, reach.shift) == (HALF, Fraction(-1, 4))


def test_two_axes_are_told_apart() -> None:
    model = positive(
        nn.Sequential(nn.Conv2d(1, 4, (3, 5), (2, 1), (1, 0)), nn.PixelShuffle(2), nn.Conv2d(1, 1, 3))
    )
    shape = (1, 1, 20, 24)
    fields = last(quick(model, *shape)).fields
    for axis in (2, 3):
        assert assert_reads(fields[axis - 2], read_by_nan(model, shape, axis), shape[axis]) > 5
    assert (fields[0].stride, fields[1].stride) == (Fraction(1), HALF)
