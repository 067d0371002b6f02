"""`outstride.check`: what it declares is what gradients, NaN, counting and running at every size show."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import outstride
from outstride import check
from outstride.cli import main
from outstride.errors import ArgumentError, ShapeError
from outstride.inspection import Report
from outstride.inspection.figures import LayerFigures
from outstride.inspection.gather import RESIZES, Gather
from tests.probing import assert_reads, positive, read_by_gradient, read_by_nan

HALF = Fraction(1, 2)


def quick(model: nn.Module, *shape: int, **options: Any) -> Report:
    return check(model, shape, sizes=False, **options)


def last(report: Report) -> LayerFigures:
    return report.layers[-1]


class Fn(nn.Module):
    """A function as a model, with layers of its own."""

    def __init__(self, function: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x, **self._modules)


def up(**options: Any) -> nn.Module:
    return nn.ConvTranspose1d(2, 2, **{"kernel_size": 4, "stride": 2, "padding": 1, **options})


def conv(**options: Any) -> nn.Module:
    return nn.Conv1d(2, 2, **{"kernel_size": 3, "padding": 1, **options})


# --- what is declared is what is read -----------------------------------------------------------------------

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


def pixel_shuffle(x: Tensor) -> Tensor:
    """Two channels a position to two positions."""
    n, c, length = x.shape
    return x.view(n, c // 2, 2, length).transpose(2, 3).reshape(n, c // 2, 2 * length)


def windows_of_attention(x: Tensor) -> Tensor:
    """Attention inside windows of four positions."""
    n, c, length = x.shape
    tokens = x.view(n, c, length // 4, 4).permute(0, 2, 3, 1)
    weights = (tokens @ tokens.transpose(-2, -1)).softmax(-1)
    return (weights @ tokens).permute(0, 3, 1, 2).reshape(n, c, length)


def interleave(x: Tensor, even: nn.Module, odd: nn.Module) -> Tensor:
    out = x.new_zeros(*x.shape[:2], 2 * x.shape[2])
    out[:, :, ::2] = even(x)
    out[:, :, 1::2] = odd(x)
    return out


def with_class_token(x: Tensor, after: nn.Module) -> Any:
    tokens = torch.cat([x.new_zeros(x.shape[0], 1, x.shape[1]), x.transpose(1, 2)], 1)
    return after((tokens * 2)[:, 1:].transpose(1, 2))


GRAPHS: dict[str, nn.Module] = {
    "residual": Fn(lambda x, a, b: b(a(x)) + x, a=conv(stride=2), b=up()),
    "unet": Fn(
        lambda x, a, b, c, d: d(torch.cat([a(x), c(b(a(x)))], 1)),
        a=conv(), b=conv(stride=2), c=up(), d=nn.Conv1d(4, 1, 3, padding=1),
    ),
    "max pool": nn.Sequential(nn.MaxPool1d(3, 2, 1), conv(), nn.MaxPool1d(2, ceil_mode=True)),
    "average pool": nn.Sequential(nn.AvgPool1d(4, 2), conv(), nn.Upsample(scale_factor=2)),
    "nearest by 3/2": nn.Sequential(conv(), nn.Upsample(scale_factor=1.5), conv()),
    "nearest to a size": nn.Sequential(conv(stride=2), nn.Upsample(size=33), conv(stride=2)),
    "pixel shuffle": nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), Fn(pixel_shuffle), conv(stride=3)),
    "shuffle at the end": Fn(lambda x, a: pixel_shuffle(a(x)), a=nn.Conv1d(2, 4, 3, padding=1)),
    "shuffle beside a skip": Fn(
        lambda x, a, b: pixel_shuffle(a(x)) + b(x).expand(-1, 2, -1),
        a=nn.Conv1d(2, 4, 3, padding=1), b=nn.ConvTranspose1d(2, 1, 4, 2, 1),
    ),
    "space to depth": Fn(lambda x, a: a(torch.cat([x[..., ::2], x[..., 1::2]], 1)), a=nn.Conv1d(4, 2, 3)),
    "space to depth by views": Fn(
        lambda x, a: a(x.view(x.shape[0], 2, -1, 2).transpose(2, 3).reshape(x.shape[0], 4, -1)),
        a=nn.Conv1d(4, 2, 3),
    ),
    "windows": nn.Sequential(conv(), Fn(windows_of_attention), conv(stride=2)),
    "crop": Fn(lambda x, a: a(x[..., 3:-2]), a=conv(stride=2)),
    "borders": nn.Sequential(nn.ConstantPad1d((3, 1), 0.0), conv(padding=0), nn.ReflectionPad1d(2), conv()),
    "same": nn.Sequential(outstride.nn.Conv1d(2, 2, 4, stride=3, padding="same"), conv()),
    "same up": nn.Sequential(
        outstride.nn.Conv1d(2, 2, 3, stride=2, padding=1), outstride.nn.ConvTranspose1d(2, 2, 5, 2, "same")
    ),
    "interleaved": Fn(interleave, even=conv(), odd=nn.Conv1d(2, 2, 5, padding=2)),
    "class token": Fn(with_class_token, after=conv()),
    "split and joined": Fn(lambda x, a: torch.cat([a(x[..., :22]), x[..., 20:]], 2), a=conv(padding=0)),
    "tensor unfold": Fn(lambda x: x.unfold(2, 5, 2).mean(-1)),
    "turned by halves": Fn(lambda x, a: torch.rot90(a(x)[:, :, None], 2, (2, 3))[:, :, 0], a=conv(stride=2)),
    "turned round": Fn(lambda x, a: a(x.flip(2)), a=conv(stride=2, padding=0)),
    "flat and back": Fn(lambda x, a: a(x.flatten(1).view(x.shape)), a=conv(dilation=2)),
    "normalised channels": nn.Sequential(
        conv(), Fn(lambda x: F.layer_norm(x.transpose(1, 2), (2,)).transpose(1, 2)), conv(stride=2)
    ),
    "unpooled": Fn(lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), [2])),
}  # fmt: skip
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
    for mode in set(RESIZES) - {"nearest"}:
        gather = Gather.resize(mode, 12, 24, HALF, False)
        assert (gather.scale, gather.shift) == (HALF, Fraction(-1, 4))


def test_two_axes_are_told_apart() -> None:
    model = positive(
        nn.Sequential(nn.Conv2d(1, 4, (3, 5), (2, 1), (1, 0)), nn.PixelShuffle(2), nn.Conv2d(1, 1, 3))
    )
    shape = (1, 1, 20, 24)
    fields = last(quick(model, *shape)).fields
    for axis in (2, 3):
        assert assert_reads(fields[axis - 2], read_by_nan(model, shape, axis), shape[axis]) > 5
    assert (fields[0].stride, fields[1].stride) == (Fraction(1), HALF)


# --- places -------------------------------------------------------------------------------------------------


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


# --- the whole image ----------------------------------------------------------------------------------------


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        return x * self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()


def self_attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    out = F.scaled_dot_product_attention(tokens, tokens, tokens)
    return out.transpose(1, 2).reshape(x.shape)


class Stretched(nn.Module):
    """Places computed from the image say where the image is read."""

    def forward(self, x: Tensor) -> Any:
        return F.grid_sample(x, x[:, 0, :, :2].unsqueeze(1), align_corners=False)


WHOLE: dict[str, tuple[nn.Module, str]] = {
    "global pooling": (nn.AdaptiveAvgPool2d(1), "mean"),
    "adaptive windows": (nn.AdaptiveAvgPool2d(3), "follow the size"),
    "instance norm": (nn.InstanceNorm2d(2), "instance norm"),
    "group norm": (nn.GroupNorm(1, 2), "group norm"),
    "attention": (Fn(self_attention), "attention"),
    "softmax over space": (Fn(lambda x: x.flatten(2).softmax(-1).view(x.shape)), "softmax"),
    "flatten and linear": (nn.Sequential(nn.Flatten(), nn.Linear(2 * 8 * 8, 5)), "flattened"),
    "squeeze and excite": (Gated(), "mean"),
    "running sum": (Fn(lambda x: x.cumsum(2)), "one after the other"),
    "fourier": (Fn(lambda x: torch.fft.rfft2(x).real), "Fourier"),
    "one position": (Fn(lambda x: x[:, :, 0, 0]), "one by one"),
    "norm over the image": (nn.LayerNorm((2, 8, 8)), "layer norm"),
    "sampled where the image says": (Stretched(), "wherever a grid of places says"),
    "sorted": (Fn(lambda x: x.flatten(2).sort()[0]), "in order"),
    "the largest": (Fn(lambda x: x.flatten(2).topk(3, -1)[0]), "in order"),
    "learned queries": (
        Fn(
            lambda x: F.scaled_dot_product_attention(
                x.new_zeros(1, 5, 2), *[x.flatten(2).transpose(1, 2)] * 2
            )
        ),
        "attention",
    ),
    "rows by a list": (Fn(lambda x: x.index_select(2, torch.arange(4, device=x.device)).sum(3)), "a list"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_layers_that_look_at_the_whole_image_are_named(name: str) -> None:
    model, why = WHOLE[name]
    report = quick(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), model), 1, 2, 8, 8)
    assert report.not_understood == ()
    texts = [note.text for row in report.global_layers for note in row.notes]
    assert any(why in text for text in texts), texts
    assert all(halo.low is None and halo.why for halo in report.halo) or name == "running sum"


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(2), nn.LayerNorm(8), nn.Dropout(), nn.GELU()])
def test_layers_that_do_not_are_not(layer: nn.Module) -> None:
    model = Fn(lambda x, a: a(x.transpose(1, 3)), a=layer) if isinstance(layer, nn.LayerNorm) else layer
    shape = (1, 8, 6, 2) if isinstance(layer, nn.LayerNorm) else (1, 2, 6, 8)
    assert quick(model, *shape).global_layers == ()


def test_a_gate_keeps_the_local_field() -> None:
    row = last(quick(Gated(), 1, 2, 8, 8))
    assert row.whole == (0, 1)
    assert row.fields[0].sizes == (3,)


def test_recurrent_layers_read_everything_before() -> None:
    report = check(nn.LSTM(3, 4, batch_first=True), (1, 10, 3), axes=(1,), sizes=False)
    assert report.layers[0].whole == (0,)
    assert report.layers[0].fields[0].sizes == (1,)


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


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Upsample(scale_factor=2, mode="linear"), ""),
        (nn.Upsample(scale_factor=2, mode="linear", align_corners=True), "at another size"),
        (nn.Upsample(size=40), "at another size"),
    ],
)
def test_no_halo_is_promised_where_the_grid_follows_the_size(layer: nn.Module, words: str) -> None:
    report = check(nn.Sequential(nn.Conv1d(1, 1, 4, 2, 1), layer), (1, 1, 40))
    (halo,) = report.halo
    assert words in halo.why
    assert (halo.low is None) == bool(words)
    if getattr(layer, "align_corners", False):
        # The stride is that of this size, 38/39; the sizes all the same come back as they went in.
        assert str(report.returning[0]) == "n = 0 mod 2, from 2"
        assert report.fit(41)[0].keep == 41


# --- multiply-adds ------------------------------------------------------------------------------------------


@st.composite
def contractions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    nd, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    k, s, d = (draw(st.integers(1, most)) for most in (4, 3, 2))
    options: dict[str, Any] = {
        "kernel_size": k, "stride": s, "dilation": d, "padding": draw(st.integers(0, k)), "groups": groups,
        "bias": False,
    }  # fmt: skip
    transposed = draw(st.booleans())
    if transposed:
        options["output_padding"] = draw(st.integers(0, max(s, d) - 1))
    layer = getattr(nn, f"Conv{'Transpose' if transposed else ''}{nd}d")
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    return layer(*channels, **options), (
        draw(st.integers(1, 2)),
        channels[0],
        *[draw(st.integers(3, 9))] * nd,
    )


@given(contractions())
def test_multiply_adds_are_the_products_that_are_formed(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    layer, shape = case
    layer = layer.double()
    with torch.no_grad():
        layer.weight.fill_(1)  # type: ignore[operator]
        try:
            products = layer(torch.ones(shape, dtype=torch.float64)).sum()
        except RuntimeError:
            return
    (row,) = quick(layer, *shape).layers
    assert row.multiply_adds == int(products)


def test_dense_counts_follow_the_papers() -> None:
    kernel, channels = 4 * 4, 8 * 6
    up = quick(nn.ConvTranspose2d(8, 6, 4, 2, 1), 1, 8, 16, 16).layers[0]
    assert up.multiply_adds_dense == 16 * 16 * kernel * channels
    assert up.multiply_adds == (15 + 15 + 16 + 16) ** 2 * channels
    down = quick(nn.Conv2d(6, 8, 4, 2, 1), 1, 6, 32, 32).layers[0]
    assert down.multiply_adds_dense == up.multiply_adds_dense
    assert down.multiply_adds == up.multiply_adds, "a layer and its adjoint form the same products"


def test_linear_layers_and_attention_are_counted() -> None:
    assert quick(nn.Linear(10, 7), 4, 10).multiply_adds == 280
    model = Fn(lambda x: F.scaled_dot_product_attention(x, x, x))
    assert quick(model, 1, 2, 5, 3).multiply_adds == 2 * 2 * 5 * 5 * 3


def test_parameters_and_memory() -> None:
    shared = nn.Conv2d(2, 2, 3, padding=1)
    report = quick(nn.Sequential(shared, nn.ReLU(), shared), 1, 2, 8, 8)
    assert [row.parameters for row in report.layers] == [38, 0, 0]
    assert (report.parameters, report.parameter_bytes) == (38, 152)
    assert report.peak_bytes == 2 * 2 * 64 * 4
    with_weights = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3))
    assert quick(with_weights, 1, 2, 8, 8).layers[0].kind == "ParametrizedConv2d"


# --- sizes and tiles ----------------------------------------------------------------------------------------


class Skips(nn.Module):
    """An encoder-decoder with skips that must fit."""

    def __init__(self, downs: Sequence[nn.Module], ups: Sequence[nn.Module]) -> None:
        super().__init__()
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for down in self.downs:
            kept.append(x)
            x = down(x)
        for up, skip in zip(self.ups, reversed(kept), strict=True):
            x = up(x) + skip
        return x


def skips(*strides: int, kernel: int = 2, extra: int = 0) -> nn.Module:
    return Skips(
        [nn.Conv1d(1, 1, kernel, s) for s in strides],
        [nn.ConvTranspose1d(1, 1, kernel, s, output_padding=min(extra, s - 1)) for s in reversed(strides)],
    )


SIZED: dict[str, tuple[nn.Module, int]] = {
    "one level": (skips(2), 16),
    "three levels": (skips(2, 2, 2), 32),
    "k3": (skips(2, 2, kernel=3), 31),
    "strides 2 and 3": (skips(2, 3, kernel=3), 25),
    "with output padding": (skips(2, 2, kernel=3, extra=1), 34),
    "five levels": (skips(2, 2, 2, 2, 2), 64),
    "no skip": (nn.Sequential(nn.Conv1d(1, 1, 5, 3), nn.ConvTranspose1d(1, 1, 5, 3)), 20),
    "crops to fit": (Fn(lambda x, a, b: b(a(x))[..., : x.shape[2]] + x, a=nn.Conv1d(1, 1, 3, 2, 1),
                        b=nn.ConvTranspose1d(1, 1, 4, 2, 1)), 16),
    "flattened": (nn.Sequential(nn.Conv1d(1, 1, 4, 4), nn.Flatten(), nn.Linear(8, 2)), 33),
    "patches": (Fn(lambda x, a: a(x).view(1, 1, -1, 4).mean(-1), a=nn.Conv1d(1, 1, 3, 2, 1)), 32),
}  # fmt: skip


def runs(model: nn.Module, size: int) -> bool:
    try:
        model(torch.zeros(1, 1, size))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("name", SIZED)
def test_admissible_sizes_are_those_at_which_the_model_runs(name: str) -> None:
    model, size = SIZED[name]
    report = check(model, (1, 1, size))
    (sizes,), (returning,) = report.sizes, report.returning
    assert sizes is not None
    assert [n for n in range(1, 140) if n in sizes] == [n for n in range(1, 140) if runs(model, n)], str(
        sizes
    )
    if returning is not None:
        stride = report.output_fields[0][1].stride
        whole = [
            n for n in range(1, 140) if runs(model, n) and model(torch.zeros(1, 1, n)).shape[-1] * stride == n
        ]
        assert [n for n in range(1, 140) if n in returning] == whole, str(returning)


def test_sizes_are_named_in_their_classes() -> None:
    sizes = [str(check(SIZED[name][0], (1, 1, SIZED[name][1])).sizes[0]) for name in ("three levels", "k3")]
    assert sizes == ["n = 0 mod 8, from 8", "n = 3 mod 4, from 7"]


def test_axes_may_take_different_sizes() -> None:
    model = Skips([nn.Conv2d(1, 1, (2, 3), (2, 3))], [nn.ConvTranspose2d(1, 1, (2, 3), (2, 3))])
    report = check(model, (1, 1, 8, 9))
    assert [str(sizes) for sizes in report.sizes] == ["n = 0 mod 2, from 2", "n = 0 mod 3, from 3"]


@pytest.mark.parametrize("name", ["three levels", "k3", "strides 2 and 3", "no skip"])
def test_padding_and_cropping_make_any_size_work(name: str) -> None:
    model, size = SIZED[name]
    report = check(model, (1, 1, size))
    for n in range(40, 80):
        (fit,) = report.fit(n)
        assert fit.pad is not None
        assert fit.crop is not None
        assert fit.keep is not None
        assert model(torch.zeros(1, 1, n - fit.crop)).shape[-1] == n - fit.crop
        padded = model(F.pad(torch.zeros(1, 1, n), (0, fit.pad)))
        assert padded[..., : fit.keep].shape[-1] == n


TILED = [
    "residual",
    "unet",
    "max pool",
    "average pool",
    "pixel shuffle",
    "space to depth",
    "windows",
    "same up",
]


@pytest.mark.parametrize("name", TILED)
def test_a_tile_with_its_halo_gives_the_same_outputs(name: str) -> None:
    model = GRAPHS[name].double().eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.mul(8).round()
    size = 96
    report = quick(model, 1, 2, size)
    ((low, high, step),) = [(halo.low, halo.high, halo.step) for halo in report.halo]
    assert low is not None
    assert high is not None
    stride = report.output_fields[0][1].stride
    x = torch.randint(-8, 9, (1, 2, size), generator=torch.Generator().manual_seed(2)).double()
    start, end = 4 * step, 6 * step
    before = -(-low // step) * step
    with torch.no_grad():
        whole, tile = model(x), model(x[..., max(start - before, 0) : end + -(-high // step) * step])
    at, skip = round(start / stride), round(min(before, start) / stride)
    length = round((end - start) / stride)
    assert torch.equal(tile[..., skip : skip + length], whole[..., at : at + length]) or name == "windows"
    torch.testing.assert_close(tile[..., skip : skip + length], whole[..., at : at + length])


# --- what it says and refuses -------------------------------------------------------------------------------


def test_the_engine_serves_what_accelerate_serves() -> None:
    class Own(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return F.conv2d(input, self.weight)

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Own(1, 1, 3), Fn(lambda x: F.conv2d(x, torch.ones(1, 1, 3, 3))))
    engine = [row.engine for row in quick(model, 1, 1, 16, 16).layers if row.engine]
    assert engine == ["served", "Own computes in its own way", "called as a function, not as a layer"]
    whole = quick(nn.Conv2d(1, 1, 3).to(torch.complex64), 1, 1, 16, 16)
    assert whole.layers[0].engine == "the engine computes float32, float64, bfloat16, float16, not complex64"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ConvTranspose2d(64, 32, 3, stride=2, padding=1)", "--input", "1,64,32,32"], "1x32x63x63"),
        (["MaxPool2d(3, padding=1)", "--input", "1x3x9x9", "--no-sizes"], "not looked for"),
        (["torch.nn:Identity", "--input", "1,3,9,9"], "output:         "),
    ],
)
def test_the_verb_prints_the_report(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", *arguments])
    assert stop.value.code == 0
    assert words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["check", *arguments, "--json"])
    assert set(json.loads(capsys.readouterr().out)) >= {"layers", "sizes", "halo", "multiply_adds"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "--input", "1,3"], "'MODEL' must be a layer or name a model"),
        (["Conv2d(3, 8, 3)", "--input", "abc"], "'--input' must be whole numbers"),
        (["Conv2d(3, 8, 3)"], "Missing option"),
        (["Conv2d(3, 8, 3)", "--input", "1,4,9,9"], "'model' must run at 'input_shape'"),
        (["no.such:model", "--input", "1,3,9,9"], "'MODEL' must name a callable that works"),
        (["ConvTranspose2d(2, 2, 2, output_padding=3)", "--input", "1,2,3,3"], "'output_padding'"),
    ],
)
def test_the_verb_refuses_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", *arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_the_report_prints_and_becomes_json() -> None:
    report = check(GRAPHS["unet"].float(), (1, 2, 40))
    text = str(report)
    assert "n = 0 mod 2" in text
    assert "multiply-adds" in text
    again = json.loads(json.dumps(report.to_dict()))
    assert again["output_fields"]["length"]["stride"] == "1"
    assert again["layers"][0]["fields"]["length"]["reads"] == [[-1, 1]]
    html = report._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") > 3


def test_the_model_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check(model, (1, 1, 8, 8))
    assert model.training
    assert model[0].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_looks_at_numbers_is_run_on_zeros() -> None:
    model = Fn(lambda x, a: a(x) if float(x.sum()) == 0 else x, a=nn.Conv2d(1, 1, 3))
    report = check(model, (1, 1, 8, 8))
    assert last(report).fields[0].sizes == (3,)
    assert "zeros" in str(report)


def test_further_arguments_are_given_by_name() -> None:
    class Timed(nn.Module):
        def forward(self, x: Tensor, time: Tensor, scale: float) -> dict[str, Tensor]:
            return {"sample": x * time.view(-1, 1, 1, 1) * scale}

    report = quick(Timed(), 1, 1, 8, 8, arguments={"time": torch.ones(1), "scale": 2.0})
    assert report.outputs == ((1, 1, 8, 8),)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, (1, 1, 8, 8)), ArgumentError, "'model' must be a torch module"),
        ((nn.Conv2d(1, 1, 3), (1, 0, 8, 8)), ArgumentError, "'input_shape' must be whole numbers"),
        ((nn.Conv2d(1, 1, 3), ()), ArgumentError, "'input_shape' must be whole numbers"),
        ((nn.Conv2d(1, 1, 3), (1, 1, 2, 2)), ShapeError, "'model' must run at 'input_shape'"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check(*arguments)


def test_axes_must_be_axes() -> None:
    with pytest.raises(ArgumentError, match="'axes' must be different axes"):
        check(nn.ReLU(), (1, 2, 3), axes=(1, 1))
    with pytest.raises(ArgumentError, match="'size' must have one number"):
        quick(nn.ReLU(), 1, 2, 3).fit((3, 3))
