"""The sizes that a model accepts, how to pad to them, and tiles with their halo."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride import check
from tests.inspection.models_to_check import GRAPHS, Fn, quick
from tests.tolerance import assert_equal_values, assert_within_roundings


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
    found, expected = tile[..., skip : skip + length], whole[..., at : at + length]
    if name == "windows":
        assert_within_roundings(found, expected, 64, "matrix products, summed as torch pleases")
    else:
        assert_equal_values(found, expected)
