"""Views of every kind of layer end with what the reference computes, gradients with what torch does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from outstride import explain, reference
from outstride.explanation.explaining import Explanation
from outstride.explanation.scene import Frame, Grid, Scene
from tests.tolerance import assert_equal_values, assert_within_roundings

WAYS_BACK = ("gradient", "pair", "unpool")


def shown_as(frame: Frame, title: str) -> Any:
    """What a frame shows under a title, its slices or channels put together."""
    found = [grid.values for grid in frame.grids if grid.title.startswith(title)]
    return np.stack(found) if len(found) > 1 else found[0]


def assert_views_end_with(shown: Explanation, expected: Any) -> None:
    assert_within_roundings(shown.output, expected, 10, "sums of a window")
    for name, scene in shown.views.items():
        if name not in (*WAYS_BACK, "channels"):
            made = shown_as(scene.frames[-1], "output")
            assert_within_roundings(made.ravel(), expected.ravel(), 10, "sums of a window")


@st.composite
def pools(draw: st.DrawFn) -> tuple[str, dict[str, Any], tuple[int, ...]]:
    nd = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(nd))
    options: dict[str, Any] = {
        "stride": tuple(draw(st.integers(1, 3)) for _ in range(nd)),
        "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel),
        "ceil_mode": draw(st.booleans()),
    }
    kind = draw(st.sampled_from(["MaxPool", "AvgPool"]))
    if kind == "MaxPool":
        options["dilation"] = tuple(draw(st.integers(1, 2)) for _ in range(nd))
    else:
        options["count_include_pad"] = draw(st.booleans())
    if nd == 3:  # few enough outputs to be followed
        options["stride"] = (2, 2, options["stride"][2])
    size = tuple(draw(st.integers(5, 6 if nd < 3 else 5)) for _ in range(nd))
    return f"{kind}{nd}d", {"kernel_size": kernel, **options}, size


@settings(max_examples=30, deadline=None)
@given(pools())
def test_pooling_is_torchs(drawn: tuple[str, dict[str, Any], tuple[int, ...]]) -> None:
    name, options, size = drawn
    x = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    layer = getattr(torch.nn, name)(**options)
    shown, expected = explain(layer, x.detach()), layer(x)
    assert_views_end_with(shown, expected[0, 0].detach().numpy())
    behind = torch.arange(1.0, expected.numel() + 1, dtype=torch.float64).view_as(expected)
    expected.backward(behind)
    assert x.grad is not None
    made = shown_as(shown.views["gradient"].frames[-1], "gradient of the input")
    assert_within_roundings(made.ravel(), x.grad.flatten().numpy(), 20, "a few parts are added up")


def test_pooling_says_how_in_numbers() -> None:
    x = [[9, 4, 15, 10], [5, 16, 11, 6], [1, 12, 7, 2], [13, 8, 3, 14]]
    line = "AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False)"
    counted = explain(line, x).views["window"]
    assert counted.frames[0].caption == "output (0, 0) = (9 + 4 + 5 + 16) / 4 = 8.5"
    assert counted.notes == ("Empty cells do not count.",)
    with_zeros = explain("AvgPool2d(3, stride=2, padding=1)", x).views["window"]
    assert with_zeros.frames[0].caption.endswith("(0 + 0 + 0 + 0 + 9 + 4 + 0 + 5 + 16) / 9 = 3.78")
    assert with_zeros.notes == ()
    largest = explain("MaxPool2d(2)", x).views["window"]
    assert largest.frames[1].caption == "output (0, 1) = max(15, 10, 11, 6) = 15"
    assert largest.frames[1].grids[0].role_of((0, 2)) == "result"
    assert "never win" in explain("MaxPool2d(3, stride=2, padding=1)").views["window"].notes[0]


def test_a_window_may_see_padding_alone() -> None:
    shown = explain("MaxPool1d(2, stride=1, dilation=3, padding=1)", (2,))
    assert shown.output.tolist() == [-np.inf]
    for scene in shown.views.values():
        assert len(scene.frames) == 1
    assert shown_as(shown.views["matrix"].frames[0], "output").tolist() == [[-np.inf]]
    assert "saw padding alone" in shown.text("unpool")
    assert "output 0 = -inf" in shown.text("window")
    assert "<svg" in shown.html()


def test_unpooling_is_torchs() -> None:
    shown = explain("MaxPool2d(2)", (4, 4))
    x = torch.from_numpy(shown_as(shown.views["window"].frames[0], "input")).view(1, 1, 4, 4)
    values, indices = torch.nn.MaxPool2d(2, return_indices=True)(x)
    last = shown.views["unpool"].frames[-1]
    assert_equal_values(shown_as(last, "indices"), indices[0, 0].numpy())
    assert_equal_values(shown_as(last, "unpooled"), torch.nn.MaxUnpool2d(2)(values, indices)[0, 0].numpy())


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        ("Conv3d(1, 1, 2)", (3, 3, 3)),
        ("Conv3d(1, 1, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1))", (2, 3, 3)),
        ("ConvTranspose3d(1, 1, 2, stride=2)", (1, 2, 2)),
        ("ConvTranspose3d(1, 1, 3, stride=(1, 2, 2), padding=1, output_padding=(0, 1, 0))", (2, 2, 2)),
    ],
)
def test_three_axes_are_shown_by_slices(layer: str, size: tuple[int, ...]) -> None:
    shown = explain(layer, size)
    spec = shown.spec
    x, w = (np.arange(1.0, np.prod(s) + 1).reshape(1, 1, *s) for s in (size, spec.kernel_size))
    options: dict[str, Any] = {"stride": spec.stride, "padding": spec.padding}
    if spec.kind == "conv":
        expected = reference.conv(x, w, **options)
    else:
        expected = reference.conv_transpose(x, w, **options, output_padding=spec.output_padding)
    assert_views_end_with(shown, expected[0, 0])
    columns = next(iter(shown.views.values())).frames[0].columns()
    assert [grid.title[-7:] for grid in columns[0]] == [f"slice {d}" for d in range(len(columns[0]))]
    assert [grid.row for grid in columns[0]] == list(range(len(columns[0])))


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv2d(3, 2, 2, padding=1),
        torch.nn.Conv2d(4, 4, 2, groups=2),
        torch.nn.Conv2d(3, 3, 2, groups=3, bias=False),
        torch.nn.Conv2d(3, 2, 1),
        torch.nn.Conv1d(2, 3, 3, stride=2),
        torch.nn.ConvTranspose2d(2, 3, 2, stride=2, padding=1),
        torch.nn.ConvTranspose2d(4, 4, 2, groups=2),
        torch.nn.ConvTranspose2d(2, 4, 2, groups=2),
        torch.nn.ConvTranspose1d(3, 2, 3, stride=2, output_padding=1),
    ],
    ids=str,
)
def test_channels_are_the_whole_layer(layer: Any) -> None:
    layer.double()
    x = torch.rand(1, layer.in_channels, *(3,) * (layer.weight.ndim - 2), dtype=torch.float64)
    scene = explain(layer, x).views["channels"]
    made = shown_as(scene.frames[-1], "output, channel")
    expected = layer(x)[0].detach().numpy()
    assert_within_roundings(made.ravel(), expected.ravel(), 20, "sums over channels")
    assert scene.notes == ()
    assert len({len(frame.columns()) for frame in scene.frames}) == 1


@pytest.mark.parametrize(
    ("layer", "shown", "left"), [("Conv2d(3, 64, 3)", 4, 60), ("Conv2d(8, 8, 3, groups=8)", 4, 4)]
)
def test_of_many_output_channels_the_first_are_shown(layer: str, shown: int, left: int) -> None:
    scene = explain(layer).views["channels"]
    titles = {grid.title for frame in scene.frames for grid in frame.grids}
    assert sum(title.startswith("output, channel") for title in titles) == shown
    assert scene.notes == (f"{left} more output channels are made in the same way.",)


def test_what_reads_too_many_channels_has_no_such_view() -> None:
    assert "channels" not in explain("Conv2d(64, 64, 3)").views
    assert "channels" not in explain("Conv2d(1, 1, 3)").views


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv2d(1, 1, 3, stride=2, padding=1),
        torch.nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        torch.nn.Conv1d(1, 1, 2, dilation=2),
        torch.nn.Conv3d(1, 1, 2),
        torch.nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1),
        torch.nn.ConvTranspose1d(1, 1, 3, dilation=2),
    ],
    ids=str,
)
def test_gradients_are_torchs(layer: Any) -> None:
    layer.double()
    size = (4,) * (layer.weight.ndim - 2)
    x = torch.rand(1, 1, *size, dtype=torch.float64, requires_grad=True)
    made = layer(x)
    made.backward(torch.arange(1.0, made.numel() + 1, dtype=torch.float64).view_as(made))
    last = explain(layer, x.detach()).views["gradient"].frames[-1]
    assert x.grad is not None
    for title, expected in (("gradient of the input", x.grad), ("gradient of the kernel", layer.weight.grad)):
        grids = [grid for grid in last.grids if grid.title.startswith(title)]
        made = [
            v for g in grids for at, v in np.ndenumerate(g.values) if g.role_of((at[0], at[1])) == "result"
        ]
        assert_within_roundings(np.array(made), expected.flatten().numpy(), 50, "sums over a map")
    assert f"the bias gets the sum {round(float(layer.bias.grad))}" in last.caption


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        ("Conv2d(1, 1, 3, stride=2, padding=1)", (6, 5)),
        ("Conv1d(1, 1, 2, stride=3)", (7,)),
        ("ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)", (2, 3)),
        ("ConvTranspose1d(1, 1, 2, dilation=2)", (3,)),
        ("Conv1d(1, 1, 3, padding='same', stride=2)", (5,)),
    ],
)
def test_a_pair_reads_and_stamps_the_same_windows(layer: str, size: tuple[int, ...]) -> None:
    for frame in explain(layer, size).views["pair"].frames:
        read, stamped = (
            next(grid for grid in frame.grids if grid.title.startswith(title))
            for title in ("the convolution reads", "the transposed one stamps")
        )
        assert marked(read, "active") == marked(stamped, "result")


def marked(grid: Grid, role: str) -> set[tuple[int, int]]:
    return {place for place, found in grid.marks.items() if found == role}


def test_phases_have_colours_of_their_own() -> None:
    scene = explain("ConvTranspose2d(1, 1, 3, stride=2, padding=1)", (3, 3)).views["phases"]
    assert len(scene.frames) == 25
    kernel, output = scene.frames[0].grids[1:]
    assert {output.role_of((i, j)) for i in range(1, 5) for j in range(5)} == {f"phase{n}" for n in range(4)}
    assert kernel.role_of((0, 1)) == output.role_of((1, 0)) == "phase2"
    assert scene.frames[0].caption == "phase 0 of 4: output (0, 0) = 5·1 = 5"


def test_a_matrix_times_the_input_is_the_output() -> None:
    for layer, size in (
        ("Conv2d(1, 1, 3, padding=1)", (4, 3)),
        ("MaxPool2d(2)", (4, 4)),
        ("AvgPool1d(3)", (7,)),
    ):
        last = explain(layer, size).views["matrix"].frames[-1]
        x, matrix, output = (shown_as(last, title) for title in ("input", "matrix", "output"))
        assert_within_roundings(matrix @ x.ravel(), output.ravel(), 20, "sums of a row")


def test_holes_are_phases_without_taps() -> None:
    captions = [
        f.caption for f in explain("ConvTranspose1d(1, 1, 2, stride=2, dilation=2)").views["phases"].frames
    ]
    assert "phase 1 of 2: no tap reaches output 1: 0" in captions


def test_grids_below_each_other_make_columns() -> None:
    one = np.ones((1, 1))
    grids = [Grid(str(n), one, "input", row=row) for n, row in enumerate((0, 1, 0, 2, 1))]
    columns = Frame(tuple(grids), "").columns()
    assert [[grid.title for grid in column] for column in columns] == [["0", "1"], ["2", "3"], ["4"]]


@pytest.mark.parametrize("layer", ["Conv2d(2, 2, 2)", "ConvTranspose3d(1, 1, 2)", "MaxPool2d(2)"])
def test_grids_of_a_frame_have_names_of_their_own(layer: str) -> None:
    scenes: list[Scene] = list(explain(layer).views.values())
    for frame in (frame for scene in scenes for frame in scene.frames):
        titles = [grid.title for grid in frame.grids]
        assert len(set(titles)) == len(titles)
