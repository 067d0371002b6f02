"""A layer at work, in numbers, as stamps, zeros in between, a matrix and shared products, in every form."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outstride import ConvSpec, explain, reference
from outstride.cli import main
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from outstride.explanation.drawing import LETTER, Cell, Layout, Words, text_width
from outstride.explanation.scene import in_cell, number
from tests.tolerance import assert_equal_values, assert_within, assert_within_roundings

STAMPS = "ConvTranspose2d(1, 1, 3, stride=2)"


@st.composite
def specs(draw: st.DrawFn) -> tuple[ConvSpec, tuple[int, ...]]:
    nd = draw(st.integers(1, 2))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(nd))

    kind: Literal["conv", "conv_transpose"] = draw(st.sampled_from(["conv", "conv_transpose"]))
    kernel, stride, dilation, padding = each(1, 3), each(1, 3), each(1, 2), each(0, 3)
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    if kind == "conv_transpose":
        options["output_padding"] = tuple(
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
        )
    else:
        options["padding_mode"] = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    return ConvSpec(kind, kernel, **options), each(1, 5)


@settings(max_examples=120, deadline=None)
@given(specs())
def test_every_view_ends_with_the_result(drawn: tuple[ConvSpec, tuple[int, ...]]) -> None:
    spec, size = drawn
    x = np.arange(1.0, np.prod(size) + 1).reshape(1, 1, *size)
    w = np.arange(1.0, np.prod(spec.kernel_size) + 1).reshape(1, 1, *spec.kernel_size)
    options: dict[str, Any] = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation}
    try:
        if spec.kind == "conv":
            expected = reference.conv(x, w, **options, padding_mode=spec.padding_mode)
        else:
            expected = reference.conv_transpose(x, w, **options, output_padding=spec.output_padding)
    except (ShapeError, ArgumentError, ValueError):
        with pytest.raises((ShapeError, ArgumentError, ValueError)):
            explain(spec, size)
        return
    shown = explain(spec, size)
    assert_equal_values(shown.output, expected[0, 0])
    for name, scene in shown.views.items():
        if name not in ("gradient", "pair"):
            last = scene.frames[-1].grids[-1]
            assert last.title == "output"
            assert_equal_values(last.values.ravel(), shown.output.ravel())


@pytest.mark.parametrize(
    ("layer", "x", "expected"),
    [
        ("ConvTranspose1d(1, 1, 3)", [1, 1, 1, 1], [1, 3, 6, 6, 5, 3]),
        ("ConvTranspose1d(1, 1, 3, stride=2)", [1, 1, 1, 1], [1, 2, 4, 2, 4, 2, 4, 2, 3]),
        ("ConvTranspose1d(1, 1, 3, dilation=2)", [1, 1, 1, 1], [1, 1, 3, 3, 5, 5, 3, 3]),
        ("ConvTranspose1d(1, 1, 3, padding=1)", [1, 1, 1, 1], [3, 6, 6, 5]),
        ("Conv2d(1, 1, 2)", np.arange(9).reshape(3, 3), [[27, 37], [57, 67]]),
    ],
)
def test_the_figures_of_the_tutorials(layer: str, x: Any, expected: Any) -> None:
    assert explain(layer, x).output.tolist() == expected


def test_a_trained_layer_shows_its_own_numbers() -> None:
    layer = torch.nn.Conv2d(2, 3, 3, padding=1, dtype=torch.float64)
    x = torch.rand(1, 2, 4, 5, dtype=torch.float64)
    shown = explain(layer, x)
    assert layer.bias is not None
    alone = torch.nn.functional.conv2d(x[:, :1], layer.weight[:1, :1], layer.bias[:1], padding=1)
    assert_within_roundings(shown.output, alone[0, 0].detach().numpy(), 10, "nine products and a bias")
    assert "first of the input and the first of the output" in shown.text()


def test_of_many_channels_pictures_and_figures_say_which_are_shown() -> None:
    said = "channel 0 of 3 and channel 0 of 8; the layer sums over 3."
    shown = explain("Conv2d(3, 8, 3)")
    assert said in shown.text()
    assert all(said in scene.notes[0] for name, scene in shown.views.items() if name != "channels")
    for drawn in (shown.svg("matrix"), shown.html(), shown._repr_html_()):
        assert "the layer sums over 3." in " ".join(drawn.split())
    assert explain("Conv2d(1, 1, 3)").notes == ()
    assert explain("Conv2d(4, 4, 3, groups=4)").notes[0].endswith("channel 0 of 4 and channel 0 of 4.")
    assert "Shown is image 0 of 5." in explain("Conv1d(1, 1, 3)", np.ones((5, 1, 4))).notes


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e12, 1e-200])
@pytest.mark.parametrize(
    "layer", ["Conv2d(3, 8, 3, padding=1)", "ConvTranspose2d(3, 8, 3, stride=2, padding=1)"]
)
def test_numbers_stay_in_their_cells(layer: str, scale: float) -> None:
    spec = ConvSpec.parse(layer)
    trained = getattr(torch.nn, layer.partition("(")[0])(3, 8, 3, spec.stride, 1, dtype=torch.float64)
    shown = explain(trained, -scale * torch.rand(1, 3, 3, 3, dtype=torch.float64))
    for scene in shown.views.values():
        layout = Layout(scene)
        for frame in scene.frames:
            cells = [part for part in layout.parts(frame) if isinstance(part, Cell)]
            assert all(len(cell.text) * LETTER < cell.width for cell in cells)
            assert max(cell.x + cell.width for cell in cells) <= layout.width
            words = [part for part in layout.parts(frame) if isinstance(part, Words)]
            assert max(word.y for word in words) < layout.height
            assert max(word.x + text_width(word.text) for word in words) <= layout.width


def test_numbers_are_short_and_right() -> None:
    for value in (0.1, -0.0123456, -1.23456e-5, 1234567.8, 3e20, -1e-300, 0.00999, 99999.4, -0.5, 0.0, -7.0):
        assert_within(float(in_cell(value)), value, 0.051 * abs(value), "two digits are shown")
        assert_within(float(number(value)), value, 0.0051 * abs(value), "three digits are shown")
        assert len(in_cell(value)) <= 8
    assert [in_cell(value) for value in (np.inf, -np.inf, np.nan)] == ["inf", "-inf", ""]
    assert "output 0 = 1·(-2) + 2·4 = 6" in explain("Conv1d(1, 1, 2)", [-2, 4]).text()


def test_the_last_stamps_show_what_they_speak_of() -> None:
    for layer, cropped in ((STAMPS, False), ("ConvTranspose2d(1, 1, 3, stride=2, padding=1)", True)):
        last = explain(layer, (2, 2)).views["stamps"].frames[-1]
        borders = [grid for grid in last.grids if "border" in grid.marks.values()]
        assert ("crops" in last.caption) == cropped == bool(borders)
        assert "grey" not in last.caption


def test_stamps_add_up_input_by_input() -> None:
    scene = explain(STAMPS, (2, 2)).views["stamps"]
    assert len(scene.frames) == 2 * 2 + 1
    assert "input (0, 1) = 2 stamps at (0, 2)" in scene.frames[1].caption
    assert scene.frames[1].grids[2].values[0].tolist() == [1, 2, 5, 4, 6]


def test_zeros_lie_between_and_around() -> None:
    source = explain("ConvTranspose1d(1, 1, 3, stride=2)", (3,)).views["zeros"].frames[0].grids[0]
    assert source.values[0].tolist() == [0, 0, 1, 0, 2, 0, 3, 0, 0]
    assert source.role_of((0, 3)) == "border"
    assert source.role_of((0, 4)) == "input"


def test_the_matrix_of_the_transposed_layer_is_the_convolutions_turned_over() -> None:
    def matrix(layer: str, size: tuple[int, ...]) -> Any:
        grids = explain(layer, size).views["matrix"].frames[-1].grids
        return next(grid.values for grid in grids if grid.title == "matrix")

    down = matrix("Conv1d(1, 1, 3, stride=2, padding=1)", (5,))
    assert_equal_values(matrix("ConvTranspose1d(1, 1, 3, stride=2, padding=1)", (3,)), down.T)


def test_text_is_what_it_was() -> None:
    assert explain("Conv1d(1, 1, 3, padding=1)", (3,)).text("window").split("\n\n")[3].splitlines() == [
        "input, padded     kernel      output",
        "·0 [1][2][3]·0     1  2  3      8 <14>",
        "output 1 = 1·1 + 2·2 + 3·3 = 14",
    ]


def test_svg_moves_and_stands(tmp_path: Path) -> None:
    shown = explain(STAMPS, (2, 2))
    root = ElementTree.fromstring(shown.svg())
    frames = [group for group in root.iter() if group.get("class") == "frame"]
    assert len(frames) == 5
    assert [frame.get("visibility") for frame in frames] == ["hidden"] * 4 + ["visible"]
    delays = [(frame.get("style") or "").removeprefix("animation-delay:") for frame in frames]
    assert delays == ["-6s", "-5s", "-4s", "-3s", "-2s"]
    assert "prefers-reduced-motion:no-preference" in shown.svg()
    assert shown.save(tmp_path / "x.svg").read_text(encoding="utf-8") == shown.svg()


def test_a_page_has_every_view_and_needs_nothing_else() -> None:
    page = explain(STAMPS).html()
    assert page.count("<figure") == page.count("role='tab'") == 7
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_gifs_have_a_picture_for_each_step(tmp_path: Path) -> None:
    shown = explain(STAMPS, (2, 2))
    with Image.open(shown.save(tmp_path / "x.gif")) as picture:
        assert getattr(picture, "n_frames", 1) == 5
    with Image.open(io.BytesIO(shown.save(tmp_path / "x.png").read_bytes())) as picture:
        assert picture.height > 3 * 100


@pytest.mark.parametrize(
    ("layer", "given_input", "error", "text"),
    [
        (
            *(ConvSpec("conv_transpose", 3, padding=1, padding_mode="reflect", nd=1), None),
            *(UnsupportedError, "padded with zeros"),
        ),
        ("Conv3d(1, 1, 3)", (9, 9, 9), ShapeError, "at most 8 cells an axis"),
        ("MaxPool2d(2, padding=2)", None, ArgumentError, "'padding' must be at most half the window"),
        ("Conv2d(1, 1, 3)", (64, 64), ShapeError, "'input' must be small enough"),
        ("Conv2d(1, 1, 3)", (3,), ArgumentError, "'input' must have one positive size"),
        ("Conv2d(1, 1, 3)", [1, 2, 3], ArgumentError, "'input' must have the layer's 2 axes"),
        (
            "Conv2d(1, 1, 2)",
            [[1, 2], [3]],
            ArgumentError,
            "'input' must be real numbers in rows of one length",
        ),
        ("Conv2d(1, 1, 3)", "4x4", ArgumentError, "'input' must be real numbers in rows of one length"),
        ("Conv2d(1, 1, 3)", (100_000, 100_000), ShapeError, "'input' must be small enough"),
        ("Conv2d(1, 1, 3)", (10**30, 10**30), ShapeError, "'input' must be small enough"),
        ("Conv2d(1, 1, 3, padding=1000000000)", (3, 3), ShapeError, "small enough"),
        ("Conv2d(1, 1, 1000000)", None, ShapeError, "'input' must be small enough"),
        ("ConvTranspose2d(1, 1, 3, stride=1000000)", (2, 2), ShapeError, "'input' must be small enough"),
        ("ConvTranspose1d(1, 1, 1000003, padding=500000)", (2,), ShapeError, "'input' must be small enough"),
        ("Conv9d(1, 1, 3)", None, ArgumentError, "'layer' must name a convolution"),
    ],
)
def test_bad_input_gets_one_sentence(layer: str, given_input: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        explain(layer, given_input)
    assert "legal: " in str(caught.value)


def test_files_and_views_that_do_not_exist(tmp_path: Path) -> None:
    shown = explain(STAMPS)
    assert repr(shown).startswith(f"<{shown.spec!r} at work: stamps, zeros, ")
    with pytest.raises(ArgumentError, match="'path' must be a file of"):
        shown.save(tmp_path / "x.jpg")
    with pytest.raises(ArgumentError, match="'view' must be one that this layer has: got 'window'"):
        shown.text("window")


def test_the_command_prints_saves_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            main(["explain", *arguments])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    assert run(STAMPS, "2x2", "--view", "stamps") == 0
    assert "the stamps added up" in capsys.readouterr().out
    assert run(STAMPS, "--out", str(tmp_path / "x.html")) == 0
    assert (tmp_path / "x.html").exists()
    capsys.readouterr()
    assert run(STAMPS, "2", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["views"] == ["stamps", "zeros", "matrix", "short", "phases", "gradient", "pair"]
    assert content["frames"][-1]["grids"]["output"][0] == [1, 2, 5, 4, 6]
    assert run(STAMPS, "99") == 2
    assert "'SIZE' must be small enough" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layer", "size", "products"),
    [
        ("Conv1d(1, 1, 3, padding=1)", (4,), ["4 products instead of 6"] * 2),
        ("Conv2d(1, 1, 3, padding=1)", (4, 4), ["16 products instead of 36"] * 4),
        ("ConvTranspose1d(1, 1, 4, stride=2, padding=1)", (2,), ["3 products instead of 4"] * 2),
    ],
)
def test_outputs_that_share_products(layer: str, size: tuple[int, ...], products: list[str]) -> None:
    frames = explain(layer, size).views["short"].frames
    assert [frame.caption.partition(": ")[2] for frame in frames] == products


@pytest.mark.parametrize("layer", ["Conv2d(1, 1, 1)", "ConvTranspose2d(1, 1, 2, stride=2)"])
def test_what_shares_no_products_has_no_such_view(layer: str) -> None:
    assert "short" not in explain(layer).views
