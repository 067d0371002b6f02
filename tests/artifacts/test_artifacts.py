"""Checkerboards: closed forms against layers that are fed constants, impulses and patterns."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import outstride
from outstride import ConvSpec, artifacts
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from outstride.models.operators.resizing import weights_of
from tests.tolerance import assert_close_to_reference, assert_within

LONG = 48
"""Inputs long enough that the middle does not know about the borders."""


def seeded(layer: nn.Module, seed: int = 0) -> Any:
    """Random weights and statistics in float64."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for values in layer.state_dict().values():
            if values.is_floating_point():
                values.copy_(torch.rand(values.shape, generator=generator, dtype=torch.float64) + 0.1)
                values.mul_(torch.where(torch.rand(values.shape, generator=generator) < 0.4, -1.0, 1.0))
        for name, values in layer.named_buffers():
            if name.endswith("running_var"):
                values.abs_()
    return layer


def agree(found: Any, expected: Tensor, terms: int = 4096) -> None:
    """Equal in float64, up to the rounding of sums of as many terms."""
    truth = expected.detach().double().numpy()
    scale = np.full_like(truth, max(float(np.abs(truth).max(initial=0.0)), 1.0))
    result = torch.from_numpy(np.ascontiguousarray(np.asarray(found, dtype=np.float64)))
    assert_close_to_reference(result, truth, scale, terms, torch.float64)


def middle(values: Tensor, period: tuple[int, ...]) -> Tensor:
    """One period of the middle, from a multiple of the period on."""
    for axis, length in enumerate(period, values.dim() - len(period)):
        start = values.shape[axis] // 2 // length * length
        values = values.narrow(axis, start, length)
    return values


GEOMETRIES = [
    (k, s, d, p)
    for k, s, d in itertools.product((1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3))
    for p in (0, 1)
    if p <= d * (k - 1)
]


@pytest.mark.parametrize("transposed", [True, False])
def test_overlap_counts_what_ones_through_a_layer_of_ones_give(transposed: bool) -> None:
    for k, s, d, p in GEOMETRIES:
        kind = nn.ConvTranspose1d if transposed else nn.Conv1d
        layer = kind(1, 1, k, stride=s, dilation=d, padding=p, bias=False).double()
        nn.init.ones_(layer.weight)
        x = torch.ones(1, 1, 17, dtype=torch.float64, requires_grad=True)
        y = layer(x)
        found = artifacts.overlap(layer, 17)
        expected = y if transposed else torch.autograd.grad(y.sum(), x)[0]
        assert found.of == ("output" if transposed else "gradient")
        assert found.counts.tolist() == expected[0, 0].long().tolist(), (k, s, d, p)
        far = artifacts.overlap(layer)
        long = torch.ones(1, 1, LONG, dtype=torch.float64, requires_grad=True)
        y = layer(long)
        full = y if transposed else torch.autograd.grad(y.sum(), long)[0]
        assert far.counts.tolist() == middle(full[0, 0], (s,)).long().tolist(), (k, s, d, p)


def test_overlap_is_even_exactly_if_the_stride_divides_the_kernel_and_is_coprime_to_the_dilation() -> None:
    for k, s, d in itertools.product(range(1, 9), range(1, 7), range(1, 7)):
        found = artifacts.overlap(ConvSpec("conv_transpose", k, s, dilation=d, nd=1))
        common = np.gcd(d, s)
        assert found.even == (s == 1 or (common == 1 and k % s == 0))
        if k >= s:
            assert round(found.holes * s) == s - s // common


def test_overlap_of_planes_pools_and_borders() -> None:
    plane = artifacts.overlap(ConvSpec.parse("ConvTranspose2d(1, 1, 3, stride=2, padding=1)"))
    assert plane.counts.tolist() == [[1, 2], [2, 4]]
    assert "uneven: 1 to 4" in str(plane)
    assert "[[1 2]" in plane._repr_html_()
    pool = artifacts.overlap(nn.MaxPool2d(3, stride=2), (5, 5))
    assert pool.of == "gradient"
    assert pool.counts.tolist() == np.multiply.outer([1, 1, 2, 1, 1], [1, 1, 2, 1, 1]).tolist()
    for mode in ("reflect", "replicate", "circular"):
        layer = outstride.nn.ConvTranspose1d(1, 1, 4, stride=2, padding=1, padding_mode=mode, bias=False)
        nn.init.ones_(layer.weight)
        expected = layer(torch.ones(1, 1, 6))[0, 0].long().tolist()
        assert artifacts.overlap(layer, 6).counts.tolist() == expected
    holes = artifacts.overlap(ConvSpec.parse("ConvTranspose1d(1, 1, 4, stride=2, dilation=2)"))
    assert holes.counts.tolist() == [4, 0]
    assert holes.holes == 0.5


ENLARGING: dict[str, Any] = {
    "1-d k3s2": lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1),
    "1-d k5s3d2": lambda: nn.ConvTranspose1d(2, 4, 5, stride=3, dilation=2, groups=2),
    "2-d k43s23": lambda: nn.ConvTranspose2d(3, 2, (4, 3), stride=(2, 3), padding=(1, 0)),
    "2-d k1s2, three holes in four": lambda: nn.ConvTranspose2d(3, 2, 1, stride=2),
    "3-d k2s2": lambda: nn.ConvTranspose3d(2, 2, 2, stride=2),
    "ours, a pair of paddings": lambda: outstride.nn.ConvTranspose1d(2, 3, 4, stride=2, padding=((0, 2),)),
    "ours, same": lambda: outstride.nn.ConvTranspose1d(2, 3, 5, stride=2, padding="same"),
    "sub-pixel": lambda: nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PixelShuffle(2)),
    "chain of two": lambda: nn.Sequential(
        nn.ConvTranspose1d(2, 3, 3, stride=2), nn.ConvTranspose1d(3, 2, 5, stride=3, padding=1)
    ),
    "chain with a convolution": lambda: nn.Sequential(
        nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2)
    ),
    "chain down and up": lambda: nn.Sequential(
        nn.Conv1d(2, 2, 3, stride=2), nn.ConvTranspose1d(2, 2, 5, stride=4), nn.AvgPool1d(2)
    ),
    "resize and convolve": lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=1)),
    "sub-pixel, padded, shuffled back": lambda: nn.Sequential(
        nn.ZeroPad2d((1, 1, 3, -1)), nn.Conv2d(2, 8, 3), nn.PixelShuffle(2), nn.PixelUnshuffle(3)
    ),
}


@pytest.mark.parametrize("name", ENLARGING)
def test_gain_is_what_a_constant_gives_far_from_the_borders(name: str) -> None:
    layer = seeded(ENLARGING[name]())
    found = artifacts.ripple(layer)
    assert found.of == "output"
    nd = found.gain.ndim - 2
    first = layer[0] if isinstance(layer, nn.Sequential) else layer
    channels = found.gain.shape[1] * getattr(first, "groups", 1)
    if isinstance(layer, nn.Sequential) and not hasattr(first, "in_channels"):
        channels = layer[1].in_channels
    size = (12 if nd == 3 else LONG // 2 * 3,) * nd
    with torch.no_grad():
        zero = layer(torch.zeros(1, channels, *size, dtype=torch.float64))
        pattern = middle(zero, found.gain.shape[2:])[0]
        agree(found.bias, pattern)
        gains = []
        for channel in range(channels):
            x = torch.zeros(1, channels, *size, dtype=torch.float64)
            x[:, channel] = 1
            gains.append(middle(layer(x), found.gain.shape[2:])[0] - pattern)
    expected = torch.stack(gains, 1)
    if getattr(first, "groups", 1) > 1:  # only a channel's own group can reach it
        per_group = expected.shape[0] // int(first.groups)  # type: ignore[arg-type]
        sources = found.gain.shape[1]
        starts = [channel // per_group * sources for channel in range(len(expected))]
        expected = torch.stack([row[at : at + sources] for row, at in zip(expected, starts, strict=True)])
    agree(found.gain, expected)


def test_gain_is_the_sum_of_the_impulse_response_over_its_phase() -> None:
    layer = seeded(
        nn.ConvTranspose2d(2, 3, (5, 4), stride=(3, 2), padding=(1, 2), dilation=(2, 1), bias=False)
    )
    x = torch.zeros(1, 2, 20, 20, dtype=torch.float64)
    x[0, 1, 10, 10] = 1
    answer = layer(x)[0]
    sums = [[answer[:, row::3, column::2].sum((1, 2)) for column in range(2)] for row in range(3)]
    expected = torch.stack([torch.stack(row, -1) for row in sums], 1)
    agree(artifacts.ripple(layer).gain[:, 1], expected)


@pytest.mark.parametrize("mode", ["nearest", "linear", "bilinear", "bicubic", "trilinear"])
def test_resampling_is_torchs_and_leaves_no_pattern_itself(mode: str) -> None:
    nd = {"linear": 1, "trilinear": 3}.get(mode, 2)
    layer = nn.Upsample(scale_factor=3, mode=mode)
    x = torch.rand(1, 1, *(12,) * nd, dtype=torch.float64)
    expected = x
    for axis in range(2, nd + 2):
        phases = [
            sum(w * torch.roll(expected, -o, axis) for o, w in weights_of(phase, 3, mode))
            for phase in range(3)
        ]
        expected = torch.stack(phases, axis + 1).flatten(axis, axis + 1)  # type: ignore[arg-type]
    inside = (slice(None), slice(None), *(slice(9, -9),) * nd)
    agree(layer(x)[inside], expected[inside])
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[nd - 1]
    assert artifacts.ripple(seeded(nn.Sequential(layer, conv(1, 1, 3, padding=1)))).value < 1e-14


class Branched(nn.Module):
    """Layers and functions, down and up, a skip, a concatenation, a crop."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.skip = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Conv2d(2, 3, 1)
        self.weight = nn.Parameter(torch.empty(3, 3, 4, 4))
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        up = F.conv_transpose2d(self.norm(self.down(x)), self.weight, stride=2, padding=1)
        both = torch.cat([up - 0.5 * self.skip(x), F.avg_pool2d(F.pad(up, (1, 1, 1, 1)), 3, 1)], 1)
        wide = F.interpolate(both[:, :, 1:, 1:], scale_factor=2, mode="bilinear")
        return F.pixel_shuffle(self.last(wide), 2) + 3


class Bent(Branched):
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(x), 0.2) * 2


def test_ripple_goes_through_any_model() -> None:
    model = seeded(Branched())
    found = artifacts.ripple(model)
    assert found.gain.shape == (2, 2, 8, 8)
    with torch.no_grad():
        pattern = middle(model(torch.zeros(1, 2, LONG, LONG, dtype=torch.float64)), (8, 8))[0]
        agree(found.bias, pattern)
        for channel in range(2):
            x = torch.zeros(1, 2, LONG, LONG, dtype=torch.float64)
            x[:, channel] = 1
            agree(found.gain[:, channel], middle(model(x), (8, 8))[0] - pattern)
    bent, constants = seeded(Bent()), torch.tensor([0.3, -0.8])
    with pytest.raises(UnsupportedError, match="got none with leaky_relu"):
        artifacts.ripple(bent)
    x = constants.double().view(1, 2, 1, 1).expand(1, 2, LONG, LONG)
    agree(artifacts.ripple(bent, constants).gain[:, 0], middle(bent(x), (8, 8))[0])
    slopes = artifacts.ripple(bent, constants, of="gradient")
    x = x.clone().requires_grad_()
    expected = torch.autograd.grad(bent(x)[:, 1].sum(), x)[0]
    agree(slopes.gain[:, 1], middle(expected, slopes.gain.shape[2:])[0])


class Asks(nn.Module):
    def __init__(self, what: Any) -> None:
        super().__init__()
        self.first, self.what = nn.Conv2d(1, 1, 3), what

    def forward(self, x: Tensor) -> Any:
        return self.what(self.first(x))


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (lambda x: x.mean((2, 3), keepdim=True), "got mean()"),
        (lambda x: F.interpolate(x, size=x.shape[2:]), "got a look at the size of a tensor"),
        (lambda x: x[..., -3:], "got a slice counted from the high side"),
        (lambda x: torch.cat([x, x], 2), "got cat() along another axis"),
        (lambda x: x * torch.rand(5, 5), "got mul() with a tensor that differs from place to place"),
        (lambda x: {"x": x}, "got a dict as the output"),
        (lambda x: x / x, "got none with div"),
    ],
)
def test_what_has_no_period_is_refused(what: Any, sentence: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(sentence)):
        artifacts.ripple(Asks(what))


def test_point_functions_need_the_constants_and_then_are_exact() -> None:
    chain = seeded(
        nn.Sequential(nn.ConvTranspose2d(2, 3, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(3, 1, 3))
    )
    with pytest.raises(UnsupportedError, match="'input' must be given"):
        artifacts.ripple(chain)
    constants = torch.tensor([0.7, -0.3])
    x = constants.double().view(1, 2, 1, 1).expand(1, 2, LONG, LONG)
    agree(artifacts.ripple(chain, constants).gain[:, 0], middle(chain(x), (2, 2))[0])
    with pytest.raises(ShapeError, match=r"legal: \(2,\)"):
        artifacts.ripple(chain, torch.ones(3))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 3, 3, stride=2, padding=1),
        nn.Conv2d(2, 4, (3, 5), stride=(2, 3), groups=2),
        nn.AvgPool2d(3, stride=2),
        nn.Sequential(nn.Conv1d(2, 3, 3, stride=2), nn.Conv1d(3, 2, 5, stride=3, padding=2)),
    ],
    ids=str,
)
def test_gradient_ripple_is_the_gradient_of_the_sum(layer: nn.Module) -> None:
    layer = seeded(layer)
    found = artifacts.ripple(layer)
    assert found.of == "gradient"
    channels = 1 if isinstance(layer, nn.AvgPool2d) else 2
    x = torch.zeros(
        1, channels, *(LONG + 24,) * (found.gain.ndim - 2), dtype=torch.float64, requires_grad=True
    )
    y = layer(x)
    groups = getattr(layer, "groups", 1)
    for source in range(found.gain.shape[1]):
        for group in range(groups):
            channel = group * found.gain.shape[1] + source
            slope = torch.autograd.grad(y[:, channel].sum(), x, retain_graph=True)[0]
            expected = middle(slope, found.gain.shape[2:])[0]
            own = slice(group * channels // groups, (group + 1) * channels // groups)
            agree(found.gain[own, source], expected[own])


def test_max_pool_gradients_fall_where_the_maxima_are() -> None:
    pool = nn.MaxPool1d(3, stride=2)
    with pytest.raises(UnsupportedError, match="not linear"):
        artifacts.ripple(pool)
    assert artifacts.ripple(pool, torch.ones(1)).gain.sum() == 1


def test_divisibility_is_neither_necessary_nor_sufficient() -> None:
    tent = nn.ConvTranspose1d(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        tent.weight.copy_(torch.tensor([[[0.5, 1, 0.5]]]))
    assert not artifacts.overlap(tent).even
    assert artifacts.ripple(tent).value == 0
    even = seeded(nn.ConvTranspose2d(4, 4, 4, stride=2, bias=False))
    assert artifacts.overlap(even).even
    assert artifacts.ripple(even).value > 0.5


def test_lines_are_the_frequency_response_at_multiples_of_one_over_the_stride() -> None:
    layer = seeded(nn.ConvTranspose1d(2, 3, 7, stride=3, padding=2, bias=False))
    response = torch.fft.fft(layer.weight, n=30)[:, :, ::10].abs()
    agree(artifacts.ripple(layer).lines, response.square().mean((0, 1)).sqrt() / 3)


def test_ripple_is_found_whatever_a_layer_is_computed_by() -> None:
    stock = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3, 2))
    auto, direct = (outstride.accelerate(stock, algorithm=algorithm) for algorithm in ("auto", "direct"))
    assert artifacts.ripple(auto).value == artifacts.ripple(direct).value > 0


def test_ripple_figures() -> None:
    layer = nn.ConvTranspose1d(1, 2, 2, stride=2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[1.0, 3.0], [2.0, 2.0]]]))
    found = artifacts.ripple(layer)
    agree(found.per_channel, torch.tensor([(1 / 5) ** 0.5, 0.0], dtype=torch.float64))
    agree(found.value, torch.tensor((2 / 18) ** 0.5, dtype=torch.float64))
    assert found.spread.tolist() == [[1.0], [0.0]]
    assert found.to_dict()["ripple"] == found.value
    assert "worst channel 0" in str(found)
    assert "worst channel 0" in found._repr_html_()


def test_a_sub_pixel_layers_bias_is_a_pattern_of_its_own() -> None:
    layer = seeded(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PixelShuffle(2)))
    found = artifacts.ripple(layer)
    assert found.bias_pattern > 0.1
    agree(found.bias, F.pixel_shuffle(layer[0].bias.view(1, 8, 1, 1), 2)[0])
    assert artifacts.ripple(layer[0], shuffle=2).value == found.value


def _scene(size: int = 160) -> np.ndarray:
    """Something with edges, slopes and noise, but no pattern."""
    rows, columns = np.indices((size, size))
    random = np.random.default_rng(3).normal(size=(size, size))
    return np.asarray(np.sin(rows / 19) + (columns > 70) + columns / size + 0.02 * random)


@pytest.mark.parametrize("stride", [2, 3, (4, 2)])
def test_measure_finds_a_pattern_of_known_strength_in_a_picture(stride: Any) -> None:
    scene = _scene()
    steps = stride if isinstance(stride, tuple) else (stride, stride)
    before = artifacts.measure(scene, stride)
    assert 0.5 < before.ratio < 2
    pattern = np.random.default_rng(5).normal(size=steps)
    pattern -= pattern.mean()
    pattern /= np.sqrt((pattern**2).mean())
    tiled = np.tile(pattern, (160 // steps[0] + 1, 160 // steps[1] + 1))[:160, :160]
    after = artifacts.measure(scene + 0.2 * tiled, stride)
    assert_within(after.amplitude, 0.2, 0.01, "the scene has a share in the period")
    assert after.ratio > 10
    assert_within(
        after.share, 0.04 / (scene + 0.2 * tiled).var(), 0.005, "the scene has a share in the period"
    )


def test_measure_is_the_amplitude_of_a_pure_pattern_and_of_one_whose_sign_changes() -> None:
    board = np.indices((128, 128)).sum(0) % 2 * 2.0 - 1
    agree(artifacts.measure(0.3 * board, 2).amplitude, torch.tensor(0.3, dtype=torch.float64))
    sign = np.where(np.indices((128, 128))[1] < 64, 1, -1)
    assert artifacts.measure(0.3 * board * sign, 2).amplitude > 0.25
    assert artifacts.measure(np.full((40, 40), 7.0), 2).amplitude == 0
    row = torch.rand(2, 3, 1, 64)
    assert artifacts.measure(row, (1, 2)).stride == (1, 2)
    assert artifacts.measure(row + 2 * (torch.arange(64) % 2 - 0.5), (1, 2)).amplitude > 0.9


def test_measure_does_not_take_a_slope_for_a_pattern() -> None:
    slope = np.indices((64, 64))[1] / 64.0
    phases = [slope[:, phase::2].mean() for phase in range(2)]
    assert abs(phases[1] - phases[0]) > 0.01  # what comparing the phases' means would report
    assert artifacts.measure(slope, 2).amplitude < 1e-4


def test_bad_input_is_refused_in_one_sentence() -> None:
    with pytest.raises(ShapeError, match="at least 8 periods"):
        artifacts.measure(np.zeros((15, 40)), 2)
    with pytest.raises(ShapeError, match="an axis for each entry"):
        artifacts.measure(np.zeros(40), 2)
    with pytest.raises(ArgumentError, match="finite real"):
        artifacts.measure(np.full((40, 40), np.nan), 2)
    with pytest.raises(ArgumentError, match="above 1"):
        artifacts.measure(np.zeros((40, 40)), 1)
    with pytest.raises(ArgumentError, match="'layer' must be a convolution"):
        artifacts.overlap(nn.Linear(2, 2))
    with pytest.raises(UnsupportedError, match="got Linear"):
        artifacts.ripple(nn.Sequential(nn.ConvTranspose1d(1, 1, 2, stride=2), nn.Linear(2, 2)))
    with pytest.raises(UnsupportedError, match="whole factors"):
        artifacts.ripple(nn.Sequential(nn.Upsample(scale_factor=1.5), nn.Conv2d(1, 1, 3)))
    with pytest.raises(UnsupportedError, match="evaluation mode"):
        artifacts.ripple(nn.Sequential(nn.ConvTranspose2d(1, 2, 2, stride=2), nn.BatchNorm2d(2)))
    with pytest.raises(ArgumentError, match="'shuffle' must be the factor"):
        artifacts.ripple(nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2)), shuffle=3)
