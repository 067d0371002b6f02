"""Cures: what they promise, judged by linear algebra, by the layers and on a network that was trained."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import outstride
from outstride import ConvSpec, artifacts, convert, geometry
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from tests.artifacts.test_artifacts import agree, seeded

CURABLE: dict[str, Any] = {
    "k3s2": lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
    "k5s3d2, groups": lambda: nn.ConvTranspose1d(4, 6, 5, stride=3, dilation=2, groups=2),
    "k4s2": lambda: nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1),
    "k34s23, 3-d": lambda: nn.ConvTranspose3d(2, 2, (3, 4, 1), stride=(2, 3, 1)),
    "strided convolution": lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1),
    "grouped strided convolution": lambda: nn.Conv1d(4, 6, 5, stride=3, groups=2),
    "sub-pixel": lambda: nn.Sequential(nn.Conv2d(4, 18, 3, padding=1, groups=2), nn.PixelShuffle(3)),
    "ours, same": lambda: outstride.nn.ConvTranspose2d(2, 2, 3, stride=2, padding="same"),
}


def weight_of(layer: nn.Module) -> Tensor:
    found = (layer[0] if isinstance(layer, nn.Sequential) else layer).weight
    assert isinstance(found, Tensor)
    return found


def gains_as_linear_map(layer: nn.Module) -> Tensor:
    """The gain of every pair and phase as a matrix over all weights: one weight after the other is set."""
    probe = copy.deepcopy(layer)
    weight = weight_of(probe)
    columns = []
    with torch.no_grad():
        for place in range(weight.numel()):
            weight.zero_()
            weight.view(-1)[place] = 1
            gain = torch.from_numpy(artifacts.ripple(probe).gain)
            columns.append(gain.reshape(*gain.shape[:2], -1))
    return torch.stack(columns, -1)


@pytest.mark.parametrize("name", CURABLE)
def test_equalize_is_the_projection_that_linear_algebra_finds(name: str) -> None:
    layer = seeded(CURABLE[name]())
    before = weight_of(layer).detach().clone()
    gains = gains_as_linear_map(layer)
    # The gains are equal where each differs from the first by nothing: project on the null space of the
    # differences.
    differences = (gains[:, :, 1:] - gains[:, :, :1]).reshape(-1, before.numel())
    nearest = before.view(-1) - torch.linalg.pinv(differences) @ (differences @ before.view(-1))
    artifacts.equalize_(layer)
    agree(weight_of(layer).detach().reshape(-1), nearest)
    assert artifacts.ripple(layer).value < 1e-14
    assert artifacts.ripple(layer).bias_pattern < 1e-14


@pytest.mark.parametrize("name", CURABLE)
def test_equalize_can_keep_the_brightness(name: str) -> None:
    layer = seeded(CURABLE[name]())
    gain = torch.from_numpy(artifacts.ripple(layer).gain).flatten(2)
    artifacts.equalize_(layer, keep="mean")
    found = artifacts.ripple(layer)
    assert found.value < 1e-14
    agree(found.gain.reshape(gain.shape).mean(-1), gain.mean(-1))


def test_equalizing_twice_changes_nothing_more() -> None:
    layer = artifacts.equalize_(seeded(CURABLE["k3s2"]()))
    once = layer.weight.detach().clone()
    agree(artifacts.equalize_(layer).weight.detach(), once)


def test_icnr_begins_as_nearest_neighbour_and_a_convolution() -> None:
    pair = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PixelShuffle(2)).double()
    assert artifacts.icnr_(pair) is pair
    conv: Any = pair[0]
    x = torch.rand(1, 3, 9, 9, dtype=torch.float64)
    small = F.conv2d(x, conv.weight[::4], conv.bias[::4], padding=1)
    agree(pair(x).detach(), F.interpolate(small, scale_factor=2, mode="nearest"))
    layer = artifacts.icnr_(nn.ConvTranspose2d(3, 2, 4, stride=2, bias=False).double())
    kernel = layer.weight[:, :, ::2, ::2]  # what all four phases share
    small = F.conv_transpose2d(x, kernel)
    agree(layer(x).detach(), F.interpolate(small, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize("name", [n for n in CURABLE if "strided" not in n])
def test_icnr_leaves_no_pattern_and_keeps_the_variance_of_the_initialiser(name: str) -> None:
    torch.manual_seed(1)
    layer = artifacts.icnr_(CURABLE[name]().double())
    assert artifacts.ripple(layer).value < 1e-14
    asked: list[torch.Size] = []

    def init(weight: Tensor) -> None:
        asked.append(weight.shape)
        nn.init.constant_(weight, 2.0)

    layer = artifacts.icnr_(CURABLE[name]().double(), init=init)
    assert weight_of(layer).abs().max() > 0
    assert len(asked) == 1


EXTENDED = [
    nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1),
    nn.ConvTranspose1d(2, 4, 5, stride=3, padding=1, output_padding=2, groups=2),
    nn.ConvTranspose1d(2, 2, 5, stride=4, dilation=3, padding=2),
    nn.ConvTranspose2d(2, 2, (3, 4), stride=(2, 3), padding=(0, 1)),
]


@pytest.mark.parametrize("layer", EXTENDED, ids=str)
def test_extending_keeps_the_function_and_evens_the_overlap(layer: nn.Module) -> None:
    layer = seeded(layer)
    longer = artifacts.extend(layer)
    assert not artifacts.overlap(layer).even
    assert artifacts.overlap(longer).even
    for size in (3, 7, 12):
        x = torch.rand(
            1, weight_of(layer).shape[0], *(size,) * (weight_of(layer).dim() - 2), dtype=torch.float64
        )
        agree(longer(x).detach(), layer(x))
    same = nn.ConvTranspose1d(1, 1, 4, stride=2)
    assert artifacts.extend(same) is same


SMOOTHED = [
    nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose1d(2, 4, 2, stride=3, groups=2),  # a hole
    nn.ConvTranspose1d(2, 2, 4, stride=2, dilation=2, padding=3),  # holes by dilation
]


@pytest.mark.parametrize("layer", SMOOTHED, ids=str)
def test_smoothing_removes_every_pattern_and_moves_nothing(layer: nn.Module) -> None:
    layer = seeded(layer)
    before, found = artifacts.ripple(layer), artifacts.smooth(layer)
    after = artifacts.ripple(found)
    assert before.value > 0.1 > 1e-14 > after.value
    flat = before.gain.reshape(*before.gain.shape[:2], -1).mean(-1)
    agree(
        after.gain,
        torch.from_numpy(flat).view(*flat.shape, *(1,) * (after.gain.ndim - 2)).expand(after.gain.shape),
    )
    nd = after.gain.ndim - 2
    stride = ConvSpec.of(layer).stride[0]
    x = torch.rand(1, weight_of(layer).shape[0], *(12,) * nd, dtype=torch.float64)
    apart = artifacts.smoothing(layer(x).shape[1], stride, nd, torch.float64)(layer(x))
    assert found(x).shape == apart.shape
    inside = (slice(None), slice(None), *(slice(2 * stride, -2 * stride),) * nd)
    agree(found(x)[inside].detach(), apart[inside])


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_the_smoothing_filter_removes_a_pattern_from_anything(stride: int) -> None:
    pattern = torch.rand(1, 2, stride, stride, dtype=torch.float64).repeat(1, 1, 12, 12)
    flat = artifacts.smoothing(2, stride, dtype=torch.float64)(pattern)[..., stride:-stride, stride:-stride]
    agree(flat, pattern.mean((2, 3), keepdim=True).expand_as(flat))


def test_what_cannot_be_cured_says_why() -> None:
    with pytest.raises(UnsupportedError, match="leaves 3 of 4 phases empty"):
        artifacts.equalize_(nn.ConvTranspose2d(1, 1, 1, stride=2))
    with pytest.raises(UnsupportedError, match="phases empty"):
        artifacts.icnr_(nn.ConvTranspose1d(1, 1, 4, stride=2, dilation=2))
    with pytest.raises(ArgumentError, match="must enlarge"):
        artifacts.icnr_(nn.Conv2d(1, 1, 2, stride=2))
    with pytest.raises(ArgumentError, match="must have weights"):
        artifacts.equalize_(nn.MaxPool2d(2))
    with pytest.raises(ArgumentError, match="'keep' must be one of"):
        artifacts.equalize_(nn.ConvTranspose2d(1, 1, 2, stride=2), keep="none")  # type: ignore[arg-type]
    normed = nn.utils.parametrizations.weight_norm(nn.ConvTranspose2d(1, 1, 3, stride=2))
    with pytest.raises(UnsupportedError, match="remove_parametrizations"):
        artifacts.equalize_(normed)
    with pytest.raises(UnsupportedError, match="common factor"):
        artifacts.extend(nn.ConvTranspose1d(1, 1, 4, stride=2, dilation=2))
    with pytest.raises(ArgumentError, match="must be a transposed convolution"):
        artifacts.smooth(nn.Conv1d(1, 1, 2))


class Scattered(nn.Module):
    """A pixel shuffle whose convolution is not beside it, as many published networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.shuffle = nn.PixelShuffle(2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.expand = nn.Conv2d(3, 12, 3, padding=1)
        self.up = nn.ConvTranspose2d(3, 3, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.up(self.shuffle(self.expand(self.pool(x))))
        return found


def test_inspect_finds_what_a_model_does_and_offers_what_keeps_its_sizes() -> None:
    torch.manual_seed(2)
    model = Scattered().train()
    found = artifacts.inspect(model, torch.rand(1, 3, 32, 32))
    assert model.training
    assert [one.name for one in found.findings] == ["pool", "shuffle", "up"]
    pool, shuffle, up = found.findings
    assert (pool.of, pool.verdict, pool.ripple) == ("gradient", "uneven overlap", None)
    assert shuffle.layer == "Conv2d(3, 12, 3, padding=1) + PixelShuffle(2)"
    assert shuffle.ripple == artifacts.ripple(model.expand, shuffle=2).value
    assert up.verdict == "uneven overlap"
    assert up.measured is not None
    assert up.measured.ratio > 10
    assert [period for period, _ in found.output] == [(2, 2), (4, 4)]
    assert {one.kind for one in up.suggestions} == {"weights", "same function", "filter", "same sizes"}
    for finding in found.findings:
        old = ConvSpec.parse(finding.layer.split(" + ")[0])
        for one in finding.suggestions:
            if one.kind == "same sizes":
                new = ConvSpec.parse(one.text)
                assert artifacts.overlap(new).even
                for size in range(8, 40):
                    assert geometry.output_size(new, size) == geometry.output_size(old, size)
    text, page, plain = str(found), found._repr_html_(), found.to_dict()
    assert "artifacts.equalize_(layer)" in text
    assert page.count("<tr>") == 4
    assert plain["findings"][2]["measured"]["ratio"] == up.measured.ratio


def test_inspect_without_an_input_sees_layers_and_sequentials() -> None:
    found = artifacts.inspect(
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2)), nn.ReLU())
    )
    assert [one.layer for one in found.findings] == ["Conv2d(3, 12, 3) + PixelShuffle(2)"]
    lone = artifacts.inspect(Scattered())
    assert "fed by no convolution" in next(one.layer for one in lone.findings if one.name == "shuffle")
    assert "nothing leaves a pattern" in str(artifacts.inspect(nn.Linear(2, 2)))
    assert artifacts.inspect(nn.ConvTranspose2d(1, 1, 1, stride=2)).findings[0].verdict == "75% holes"
    cured = artifacts.equalize_(nn.ConvTranspose2d(2, 2, 4, stride=2))
    assert artifacts.inspect(cured).findings[0].verdict == "even"
    assert artifacts.inspect(cured).findings[0].suggestions == ()
    with pytest.raises(ShapeError, match="'input' must be one that the model takes"):
        artifacts.inspect(Scattered(), torch.rand(1, 4, 32, 32))


class Functional(nn.Module):
    """Everything that changes the resolution is a function, and there is a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(4, 4, 3, 3))
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.skip = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 12, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        whole = self.first(x)
        half = F.max_pool2d(F.pad(whole, (1, 1, 1, 1)), 3, 2)
        back = F.conv_transpose2d(half, self.up, stride=2, padding=1, output_padding=1) + self.skip(whole)
        return {"out": F.pixel_shuffle(self.last(F.interpolate(back, scale_factor=2)), 2)}


def test_inspect_sees_functions_and_cures_act_on_the_model() -> None:
    torch.manual_seed(0)
    model = Functional()
    picture = torch.rand(1, 3, 32, 32)
    found = artifacts.inspect(model, picture)
    names = ["max_pool2d()", "conv_transpose2d()", "interpolate()", "pixel_shuffle()"]
    assert [one.name for one in found.findings] == names
    pool, up, resize, shuffle = found.findings
    assert pool.verdict == "uneven overlap"
    assert up.layer == "ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, bias=False)"
    assert (resize.verdict, resize.ripple, resize.suggestions) == ("even", 0.0, ())
    assert shuffle.ripple == artifacts.ripple(model.last, shuffle=2).value
    # What the transposed layer leaves has been enlarged by 4 since.
    assert [period for period, _ in found.output] == [(2, 2), (4, 4), (8, 8)]
    for one in (up, shuffle):
        artifacts.equalize_(one.module)
    again = artifacts.inspect(model, picture).findings
    assert [one.verdict for one in again[1:]] == ["uneven overlap, evened out by the weights", "even", "even"]
    assert all(one.suggestions == () for one in again[1:])
    assert "with an input, functions" in str(artifacts.inspect(model))


def test_a_patch_embedding_is_left_in_peace() -> None:
    found = artifacts.inspect(nn.Conv2d(3, 8, 4, stride=4)).findings[0]
    assert (found.verdict, found.suggestions) == ("even", ())
    wild = artifacts.inspect(nn.ConvTranspose2d(3, 8, 4, stride=4)).findings[0]
    assert {one.kind for one in wild.suggestions} == {"weights", "filter"}


def test_a_convolution_gets_an_even_gradient_by_padding_its_sides_differently() -> None:
    found = artifacts.inspect(nn.Conv2d(3, 4, 3, stride=2, padding=1)).findings[0]
    texts = [one.text for one in found.suggestions if one.kind == "same sizes"]
    assert texts
    assert all(text.startswith("outstride.nn.Conv2d") for text in texts)


def scenes(count: int, side: int, seed: int) -> Tensor:
    """Smooth random pictures with edges, in 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 1, 6, 6, generator=generator)
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    return (smooth + 0.4 * (smooth > 0.6)).clamp(0, 1.4) / 1.4


def trained(up: nn.Module, steps: int = 60) -> nn.Module:
    """A small network that learns to enlarge pictures by two, stopped early as a budget would."""
    torch.manual_seed(3)
    body = nn.Sequential(nn.Conv2d(1, 12, 5, padding=2), nn.PReLU(12))
    model = nn.Sequential(body, up)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    truth = scenes(16, 48, 4)
    small = F.avg_pool2d(truth, 2)
    for _ in range(steps):
        optimiser.zero_grad()
        F.mse_loss(model(small), truth).backward()
        optimiser.step()
    return model.eval()


def test_on_a_trained_network_the_cures_take_the_pattern_away_and_not_the_picture() -> None:
    torch.manual_seed(5)
    model = trained(nn.ConvTranspose2d(12, 1, 3, stride=2, padding=1, output_padding=1), steps=20)
    truth = scenes(8, 96, 9)
    small = F.avg_pool2d(truth, 2)
    flats = torch.linspace(0.1, 1, 5).view(-1, 1, 1, 1).expand(5, 1, 24, 24)

    def judged(network: nn.Module) -> tuple[float, float, float]:
        """The pattern in pictures, its largest on flat greys, and the error."""
        with torch.no_grad():
            found, flat = network(small), network(flats)[..., 12:-12, 12:-12]
        ripples = flat - flat.mean((1, 2, 3), keepdim=True)
        loss = float(F.mse_loss(found, truth))
        return artifacts.measure(found.numpy(), 2).amplitude, float(ripples.abs().max()), loss

    def cured(change: Any) -> tuple[float, float, float]:
        network: Any = copy.deepcopy(model)
        network[1] = change(network)
        return judged(network)

    before = judged(model)
    assert before[0] > 0.05
    assert before[1] > 0.05
    for after in (
        cured(lambda network: artifacts.equalize_(network[1], keep="mean")),
        cured(
            lambda network: artifacts.equalize_(
                network[1], features=artifacts.features(network, network[1], flats)
            )
        ),
        cured(lambda network: artifacts.smooth(network[1])),
    ):
        assert after[0] < before[0] / 3
        assert after[1] < 1e-5
        assert after[2] < before[2]
    # An exact rewrite is the same function: it cures nothing by itself.
    same = judged(convert.to_subpixel(model))
    agree(torch.tensor(same), torch.tensor(before), terms=2**31)


def test_equalizing_for_features_changes_no_more_than_needed() -> None:
    layer = seeded(nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2, bias=False))
    other = copy.deepcopy(layer)
    before = layer.weight.detach().clone()
    met = torch.rand(2, 6, dtype=torch.float64)
    artifacts.equalize_(layer, features=met)
    for constants in (met[0], met[1], 0.3 * met[0] - 2 * met[1]):
        assert artifacts.ripple(layer, constants).value < 1e-13
    assert artifacts.ripple(layer).value > 0.1
    artifacts.equalize_(other)
    assert (layer.weight - before).norm() < (other.weight - before).norm()
    # Features that span everything ask for everything.
    full = seeded(nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2, bias=False))
    agree(artifacts.equalize_(full, features=torch.eye(6)).weight.detach(), other.weight.detach())
    with pytest.raises(ShapeError, match="a column for each channel"):
        artifacts.equalize_(full, features=torch.ones(2, 5))
    with pytest.raises(ArgumentError, match="runs in the model"):
        artifacts.features(nn.Sequential(nn.Identity()), full, torch.ones(1, 6, 4, 4))


@pytest.mark.parametrize("name", CURABLE)
def test_constrained_layers_stay_even_while_they_learn(name: str) -> None:
    layer = seeded(CURABLE[name]())
    projected = weight_of(artifacts.equalize_(copy.deepcopy(layer))).detach()
    assert artifacts.constrain_(layer) is layer
    agree(weight_of(layer).detach(), projected)
    spec = ConvSpec.of(layer[0] if isinstance(layer, nn.Sequential) else layer)
    x = torch.rand(1, spec.in_channels or 1, *(9,) * spec.nd, dtype=torch.float64)
    optimiser = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(3):
        optimiser.zero_grad()
        layer(x).square().mean().backward()
        optimiser.step()
    learned = weight_of(layer).detach().clone()
    assert (learned - projected).norm() > 1e-6
    assert artifacts.ripple(layer).value < 1e-13
    assert artifacts.ripple(layer).bias_pattern < 1e-13
    conv = layer[0] if isinstance(layer, nn.Sequential) else layer
    nn.utils.parametrize.remove_parametrizations(conv, "weight")
    agree(weight_of(layer).detach(), learned)
