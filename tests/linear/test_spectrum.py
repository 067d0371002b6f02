"""Singular values of layers, by iteration and by factoring, against dense ones and closed forms."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from scipy import fft, linalg

from outstride import ConvOperator, ConvSpec, nn
from outstride.linear import spectrum
from tests.linear.operators import gaussian, tensor
from tests.tolerance import (
    assert_close_to_reference,
    assert_within,
)

SPECTRA: dict[str, tuple[torch.nn.Module, int]] = {
    "square": (nn.Conv2d(2, 2, 3, padding=1), 14),
    "fewer outputs": (nn.Conv2d(2, 3, 5, stride=2, padding=2), 18),
    "more outputs": (nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1), 11),
    "patches: every value as often as there are patches": (nn.Conv2d(1, 4, 2, stride=2), 24),
    "circular: frequencies in pairs": (nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), 18),
    "reflect": (nn.Conv1d(2, 3, 5, padding=2, padding_mode="reflect"), 100),
    "holes: most values are zero": (nn.Conv2d(1, 2, 1, stride=2), 24),
    "three axes": (nn.Conv3d(1, 1, 3, padding=1), 6),
}


def assert_singular_values(found: np.ndarray, every: np.ndarray, which: str) -> None:
    """Weyl: rounding moves singular values by that of the matrix, whose norm is the largest one."""
    expected = every[: len(found)] if which == "largest" else every[-len(found) :]
    magnitude = np.full_like(expected, every[0])
    assert_close_to_reference(tensor(found), expected, magnitude, len(every), torch.float64)
    assert (np.diff(found) <= 0).all()


#: The values of one end of each layer, and of the other in the long run.
_ENDS = [
    pytest.param(name, which, marks=[pytest.mark.slow] if n % 2 == late else [])
    for late, which in enumerate(("largest", "smallest"))
    for n, name in enumerate(SPECTRA)
]


@pytest.mark.parametrize(("name", "which"), _ENDS)
def test_singular_values_found_by_iteration_are_the_dense_ones(
    name: str, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    layer, size = SPECTRA[name]
    operator = ConvOperator(layer, size, dtype=np.float64)
    every = linalg.svdvals(operator.to_sparse().toarray())
    assert_singular_values(operator.singular_values(5, which), every, which)
    monkeypatch.setattr(spectrum, "DENSE_ENTRIES", 0)
    assert_singular_values(operator.singular_values(5, which), every, which)


def test_a_smallest_value_far_below_the_root_of_rounding_is_still_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A blur of condition 1.6e8: its square's smallest eigenvalue lies below the rounding of the largest."""
    blur = ConvOperator(ConvSpec("conv", (9, 9), padding=4), 24, weight=gaussian(9, 1.5))
    every = linalg.svdvals(blur.to_sparse().toarray())
    assert every[0] / every[-1] > 1e7
    monkeypatch.setattr(spectrum, "DENSE_ENTRIES", 0)
    found = blur.singular_values(4, "smallest")
    assert_singular_values(found, every, "smallest")
    assert_within(found[-1] / every[-1], 1.0, 1e-6, "the dense one is rounded to the largest, 1.6e8 away")
    assert blur.condition_number() == blur.singular_values(1)[0] / blur.singular_values(1, "smallest")[0]


@pytest.mark.parametrize("dense_entries", [0, spectrum.DENSE_ENTRIES])
def test_a_singular_layer_has_a_smallest_value_of_rounding(
    dense_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The average of 4 x 4 around a circle of 16 kills every frequency that is a multiple of 4."""
    monkeypatch.setattr(spectrum, "DENSE_ENTRIES", dense_entries)
    spec = ConvSpec("conv", (4, 4), padding=((1, 2), (2, 1)), padding_mode="circular")
    box = ConvOperator(spec, 16, weight=np.full((1, 1, 4, 4), 1 / 16))
    every = np.sort(np.abs(fft.fft2(np.full((4, 4), 1 / 16), s=(16, 16))).ravel())[::-1]
    assert_singular_values(box.singular_values(6, "smallest"), every, "smallest")
    assert box.condition_number() > 1e14


@pytest.mark.parametrize(("channels", "size"), [((3, 2), (8, 6)), ((2, 5), (9, 12)), ((4, 4), (20, 24))])
def test_circular_layers_have_the_singular_values_of_their_transfer_matrices(
    channels: tuple[int, int], size: tuple[int, int]
) -> None:
    """Sedghi, Gupta and Long, arXiv:1805.10408, theorem 6: one small matrix for each frequency."""
    torch.manual_seed(2)
    layer = nn.Conv2d(*channels, 3, padding=1, padding_mode="circular", dtype=torch.float64)
    transfer = fft.fft2(layer.weight.detach().numpy(), s=size, axes=(2, 3))
    every = np.linalg.svd(np.moveaxis(transfer, (0, 1), (-2, -1)), compute_uv=False).ravel()
    every = np.sort(every)[::-1]
    operator = ConvOperator(layer, size)
    assert len(every) == min(operator.shape)
    assert_singular_values(operator.singular_values(7), every, "largest")
    assert_singular_values(operator.singular_values(7, "smallest"), every, "smallest")


def test_windows_that_do_not_overlap_have_the_singular_values_of_the_kernel_matrix() -> None:
    torch.manual_seed(3)
    layer = nn.ConvTranspose2d(3, 5, (2, 3), stride=(2, 3), dtype=torch.float64)
    own = np.linalg.svd(layer.weight.detach().numpy().reshape(3, -1), compute_uv=False)
    every = np.sort(np.repeat(own, 40 * 30))[::-1]
    operator = ConvOperator(layer, (40, 30))
    assert prod(operator.shape) > spectrum.DENSE_ENTRIES
    assert_singular_values(operator.singular_values(4), every, "largest")
    assert_singular_values(operator.singular_values(4, "smallest"), every, "smallest")
    assert_within(operator.condition_number(), own[0] / own[-1], 1e-10, "two values by iteration")


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_long_signals_have_their_singular_values_told_apart(scale: float) -> None:
    """The tridiagonal Toeplitz matrix: eigenvalues 3 + 2 cos(j pi / (n + 1)), the ends 6e-7 apart."""
    n = 4000
    spec = ConvSpec("conv", (3,), padding=1)
    operator = ConvOperator(spec, n, weight=scale * np.array([[[1.0, 3, 1]]]))
    every = 3 + 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    assert every[0] - every[1] < 2e-6
    for which in ("largest", "smallest"):
        assert_singular_values(operator.singular_values(3, which) / scale, every, which)


def test_operator_norm_is_not_the_norm_of_the_reshaped_weight() -> None:
    """What spectral_norm divides by is the largest singular value of another matrix."""
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(8, 8, 3, padding=1)
    reshaped = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
    norm = ConvOperator(layer, 12).singular_values(1)[0]
    assert norm > 1.2 * reshaped
