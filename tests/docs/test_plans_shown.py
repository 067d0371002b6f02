"""Plans that pages print: what in them depends on the layer alone is what a plan says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from outstride import plan
from tests import ROOT

#: The facts that no machine and no number of threads changes.
OF_THE_LAYER = ("result", "algorithm", "bound", "work")
SHOWN: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...]]] = {
    "README.md": (
        lambda: torch.nn.ConvTranspose2d(56, 1, 9, stride=3, padding=4, output_padding=2), (1, 56, 64, 64),
    ),
    "docs/guides/plans.md": (lambda: torch.nn.ConvTranspose2d(64, 32, 4, stride=2), (1, 64, 56, 56)),
}  # fmt: skip


@pytest.mark.parametrize("page", SHOWN)
def test_a_page_shows_what_a_plan_says(page: str) -> None:
    make, shape = SHOWN[page]
    head, *lines = str(plan(make(), shape)).splitlines()
    text = (ROOT / page).read_text(encoding="utf-8").splitlines()
    assert head in text
    told = [line for line in lines if line.split()[0] in OF_THE_LAYER]
    assert len(told) == len(OF_THE_LAYER)
    assert [line for line in told if line not in text] == []
