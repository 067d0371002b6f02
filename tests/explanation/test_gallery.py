"""The gallery: its lines are torch's, its pictures and page are what the code makes, nothing is cut off."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outstride.cli import main
from outstride.errors import ArgumentError
from outstride.explanation.drawing import Cell, Layout, Words, text_width
from outstride.explanation.gallery import GALLERY, Exhibit, exhibits, save_gallery
from outstride.explanation.scene import Scene
from outstride.explanation.svg import split
from tests import ROOT
from tests.tolerance import assert_equal_values, assert_within_roundings

PICTURES = ROOT / "docs" / "pictures" / "gallery"
MOST_BYTES = 60_000
explained = cache(Exhibit.explained)
NAMED = [pytest.param(name, exhibit, id=name) for name, exhibit in exhibits().items()]


def built(exhibit: Exhibit) -> Any:
    """The layer of the line, evaluated as torch would, with the weights that are shown."""
    layer = eval(exhibit.line, {**vars(torch.nn)})
    if hasattr(layer, "weight"):
        layer.double().requires_grad_(False)
        layer.weight.copy_(torch.arange(1.0, layer.weight.numel() + 1).view_as(layer.weight))
        layer.bias.zero_()
    return layer


@pytest.mark.parametrize(("name", "exhibit"), NAMED)
def test_a_line_is_one_of_torchs_and_shows_what_it_gives(name: str, exhibit: Exhibit) -> None:
    del name
    layer, shown = built(exhibit), explained(exhibit)
    x = torch.arange(1.0, np.prod(exhibit.size) + 1, dtype=torch.float64).view(1, 1, *exhibit.size)
    if shown.spec.is_pool:
        first = shown.views["gradient"].frames[0].grids
        slices = [grid.values for grid in first if grid.title.startswith("input")]
        x = torch.from_numpy(np.stack(slices)).view(1, 1, *exhibit.size)
    elif exhibit.view == "channels":
        count = layer.in_channels * int(np.prod(exhibit.size))
        x = torch.arange(1.0, count + 1, dtype=torch.float64).view(1, layer.in_channels, *exhibit.size)
        made = [
            g.values
            for g in explained(exhibit).views[exhibit.view].frames[-1].grids
            if g.title.startswith("output")
        ]
        assert_equal_values(np.stack(made).ravel(), layer(x).flatten().numpy())
        return
    assert_within_roundings(shown.output, layer(x)[0, 0].numpy(), 10, "averages are divided")


@pytest.mark.parametrize(("name", "exhibit"), NAMED)
def test_a_picture_is_what_the_code_draws(name: str, exhibit: Exhibit) -> None:
    kept = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    assert kept == explained(exhibit).svg(exhibit.view), f"{name}.svg: run docs/pictures/gallery.py"
    assert len(kept) <= MOST_BYTES


def test_the_page_is_what_the_code_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "pictures"))
    monkeypatch.delitem(sys.modules, "gallery", raising=False)
    page = __import__("gallery").page()
    assert (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8") == page
    assert {path.stem for path in PICTURES.iterdir()} == exhibits().keys()


def boxes(scene: Scene) -> Iterator[tuple[Layout, Cell | Words]]:
    layout = Layout(scene)
    for frame in scene.frames:
        for part in layout.parts(frame):
            yield layout, part


@pytest.mark.parametrize(("name", "exhibit"), NAMED)
def test_nothing_is_cut_off(name: str, exhibit: Exhibit) -> None:
    del name
    for layout, part in boxes(explained(exhibit).views[exhibit.view]):
        wide = part.width if isinstance(part, Cell) else text_width(part.text)
        assert part.x >= 0
        assert part.x + wide <= layout.width
        assert part.y < layout.height
        if isinstance(part, Cell):
            assert text_width(part.text) < part.width


@pytest.mark.parametrize(("name", "exhibit"), NAMED)
def test_what_is_shared_and_a_frames_own_make_up_the_frame(name: str, exhibit: Exhibit) -> None:
    del name
    scene = explained(exhibit).views[exhibit.view]
    layout = Layout(scene)
    frames = [list(layout.parts(frame)) for frame in scene.frames]
    shared, differing = split(frames)
    for own, frame in zip(differing, frames, strict=True):
        seen = {(part.x, part.y): part for part in (*shared, *own)}
        assert seen == {(part.x, part.y): part for part in frame}


@pytest.mark.parametrize(("name", "exhibit"), NAMED)
def test_nothing_moves_but_what_is_told(name: str, exhibit: Exhibit) -> None:
    del name
    scene = explained(exhibit).views[exhibit.view]
    layout = Layout(scene)
    places = [{part.x for part in layout.parts(f) if isinstance(part, Cell)} for f in scene.frames]
    assert all(columns == places[0] for columns in places[:-1])


def test_the_gallery_has_what_the_classic_one_has_and_more() -> None:
    assert len(exhibits()) == sum(map(len, GALLERY.values())) >= 30
    lines = [exhibit.line for exhibit in exhibits().values()]
    for kind in ("Conv", "ConvTranspose", "MaxPool", "AvgPool"):
        assert any(line.startswith((f"{kind}1d(", f"{kind}2d(")) for line in lines)
    for word in ("stride", "padding", "dilation", "output_padding", "groups", "ceil_mode", "3d("):
        assert any(word in line for line in lines), word
    shown = {exhibit.view for exhibit in exhibits().values()}
    assert shown == {
        *("window", "stamps", "zeros", "matrix", "short", "phases", "channels", "gradient", "pair", "unpool")
    }


def test_the_command_saves_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"One": dict(list(exhibits().items())[:2])}
    monkeypatch.setattr("outstride.explanation.gallery.GALLERY", few)
    for suffix in ("svg", "gif"):
        with pytest.raises(SystemExit) as stopped:
            main(["explain", "--gallery", str(tmp_path / suffix), "--format", suffix])
        assert stopped.value.code == 0
        assert sorted(path.name for path in (tmp_path / suffix).iterdir()) == [
            f"{name}.{suffix}" for name in sorted(few["One"])
        ]
    assert "saved: 2 pictures in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "'LAYER' must be given"),
        (
            ["--gallery", "x", "--format", "jpg"],
            "'--format' must be one of pictures: got 'jpg'; legal: gif, svg, html, png",
        ),
        (["--gallery", "/proc/x"], "'--gallery' must be one that can be made"),
        (["Conv2d(1, 1, 3)", "--gallery", "x"], "'LAYER' must be left out"),
        (["Conv2d(1, 1, 3)", "--format", "gif"], "'--format' must be left out"),
    ],
)
def test_bad_commands_get_one_sentence(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["explain", *arguments])
    assert stopped.value.code == 2
    assert text in capsys.readouterr().err


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="'suffix' must be one of pictures"):
        save_gallery(tmp_path, "jpg")
