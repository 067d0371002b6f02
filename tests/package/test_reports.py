"""What answers with figures answers in every way: printed, in a notebook, and as values for a program."""

from __future__ import annotations

import inspect
import json
from html import unescape
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

import outstride
from outstride import artifacts, convert, geometry, tiling
from outstride.planning import KernelPlan

MODULES = ("outstride", *(f"outstride.{name}" for name in ("artifacts", "geometry", "inspection", "tiling")))
UP = "ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)"


def reports() -> dict[str, Any]:
    """One of each."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)
    survey = artifacts.inspect(nn.Sequential(layer))
    found = [
        survey,
        *survey.findings,
        survey.findings[0].suggestions[0],
        artifacts.overlap(layer),
        artifacts.ripple(layer),
        artifacts.measure(torch.rand(32, 32).numpy(), 2),
        convert.compare(layer, (1, 8, 9, 9)),
        geometry.solve(14, 28)[0],
        geometry.solve_chain((16, 8, 16))[0],
        geometry.judge(UP, 14, 28),
        outstride.check(layer, (1, 8, 9, 9)),
        outstride.plan(layer, (1, 8, 9, 9)),
        tiling.plan(layer, (1, 8, 90, 90), tile=16),
        tiling.verify(lambda x: layer(x) + (x[:, :1, :1, :1] > 0), layer, torch.rand(1, 8, 9, 9)),
    ]
    return {type(one).__name__: one for one in found}


def test_every_public_report_is_among_these() -> None:
    public: list[type] = [KernelPlan, type(convert.compare(nn.Conv2d(1, 1, 2, 2), (1, 1, 4, 4)))]
    for name in MODULES:
        public += (cls for _, cls in inspect.getmembers(import_module(name), inspect.isclass))
    assert {cls.__name__ for cls in public if hasattr(cls, "to_dict")} == reports().keys()


@pytest.mark.parametrize("name", list(reports()))
def test_it_prints_itself_shows_itself_and_gives_its_figures(name: str) -> None:
    one = reports()[name]
    text, page, figures = str(one), one._repr_html_(), one.to_dict()
    assert not text.startswith(f"{name}(")
    assert page.startswith("<")
    for word in text.replace("(", " ").split()[:4]:
        assert word in unescape(page)
    assert json.loads(json.dumps(figures, default=str)).keys() == figures.keys()
