"""What Python answers the page: layers with all that is shown of them, refusals with ways out, solutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outstride import ConvSpec, explain
from outstride.errors import ArgumentError, OutstrideError
from outstride.studio import speed
from outstride.studio.answers import ANSWERS
from outstride.studio.questions import call_of, fields_of
from outstride.studio.saving import picture
from outstride.studio.sizes import size_rows
from outstride.studio.writing import loops
from tests.tolerance import assert_equal_values

UP = "ConvTranspose2d(1, 1, 3, stride=2, padding=1)"
LAYERS = [
    (UP, "3x3"),
    ("ConvTranspose1d(1, 1, 4, stride=3, padding=1, output_padding=2, dilation=2)", "5"),
    ("ConvTranspose2d(1, 1, 2, stride=3)", "2x3"),
    ("Conv2d(1, 1, 3, stride=2, padding=((1, 0), (0, 2)))", "5x6"),
    ("Conv2d(1, 1, (1, 3), dilation=(1, 2), padding='same')", "3x5"),
    ("Conv1d(1, 1, 3, padding=2, padding_mode='circular')", "4"),
    ("Conv2d(1, 1, 3, padding=1, padding_mode='reflect', bias=False)", "4x4"),
]


def ask(name: str, **question: Any) -> dict[str, Any]:
    return ANSWERS[name](question)


@pytest.mark.parametrize(("text", "size"), LAYERS)
def test_formulas_come_to_what_the_layer_gives(text: str, size: str) -> None:
    answer = ask("layer", layer=text, size=size)
    expected = explain(text, tuple(map(int, size.split("x")))).output.ravel()
    x, w = answer["numbers"]["input"], answer["numbers"]["kernel"]
    made = [sum(w[k] * x[i] for k, i in reading["terms"] if i >= 0) for reading in answer["readings"]]
    assert_equal_values(np.array(made), expected)
    for reading, value in zip(answer["readings"], expected, strict=True):
        products, _, said = reading["formula"].partition(" = ")[2].rpartition(" = ")
        assert float(said) == value
        if "…" not in products:
            terms = [part.split("·") for part in products.split(" + ")]
            assert sum(float(t[0]) * float(t[1]) for t in terms if len(t) == 2) == value


@pytest.mark.parametrize(("text", "size"), LAYERS)
def test_every_view_ends_with_the_result(text: str, size: str) -> None:
    views = ask("layer", layer=text, size=size)["views"]
    for view in (name for name in views if name not in ("gradient", "pair", "unpool")):
        answer = ask("layer", layer=text, size=size, view=view)
        scene = answer["scene"]
        assert scene["name"] == view
        last = scene["frames"][-1]["grids"][-1]
        shown = scene["texts"][last["text"]]
        made = [reading["formula"].rpartition(" = ")[2] for reading in answer["readings"]]
        assert list(shown) == made, view


def test_every_number_of_a_scene_knows_which_it_is() -> None:
    for text, size in LAYERS:
        numbers = {"input": "i", "kernel": "k"}
        answer = ask("layer", layer=text, size=size, view="zeros")
        scene, values = answer["scene"], answer["numbers"]
        for grid in scene["frames"][0]["grids"]:
            known = scene["numbering"].get(grid["title"])
            if known is None or known["of"] not in numbers:
                continue
            shown = [
                (cell, shown)
                for cell, shown in zip(known["cells"], scene["texts"][grid["text"]], strict=True)
                if cell >= 0
            ]
            assert [float(shown) for _, shown in sorted(shown)] == values[known["of"]], (text, grid["title"])


@pytest.mark.parametrize(("text", "size"), LAYERS)
def test_fields_spell_the_layer_that_they_were_taken_from(text: str, size: str) -> None:
    spec = ConvSpec.parse(text)
    assert ConvSpec.parse(call_of(fields_of(spec))) == spec
    answer = ask("layer", fields=fields_of(spec), size=size)
    assert answer["layer"] == repr(spec)


def test_numbers_that_were_typed_are_those_that_are_shown() -> None:
    numbers = {"input": [1, -2, 3.5], "kernel": [1, 0, -1], "bias": 10}
    answer = ask("layer", layer="Conv1d(1, 1, 3, padding=1)", size="3", numbers=numbers)
    assert answer["numbers"] == {"input": [1, -2, 3.5], "kernel": [1, 0, -1], "bias": 10}
    assert answer["readings"][0]["formula"] == "y[0] = 0·1 + (-1)·(-2) + 10 = 12"


def test_numbers_of_a_layer_in_groups_without_channels_are_shown() -> None:
    answer = ask("layer", layer="Conv1d(kernel_size=2, groups=2)", size="3", numbers={"kernel": [5, -1]})
    assert answer["readings"][0]["formula"] == "y[0] = 5·1 + (-1)·2 = 3"


def test_numbers_of_another_size_are_left() -> None:
    answer = ask("layer", layer="Conv1d(1, 1, 3)", size="5", numbers={"input": [7, 7], "kernel": [1]})
    assert answer["numbers"]["input"] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "size", "offered"),
    [
        ("ConvTranspose2d(1, 1, 3, stride=2, output_padding=3)", "", "output_padding=1"),
        ("Conv2d(1, 1, 7)", "5", "kernel_size=5"),
        ("Conv2d(6, 4, 3, groups=4)", "5", "in_channels=4"),
        ("Conv2D(1, 1, 3)", "", "Conv2d"),
        ("MaxPool2d(2, padding=2)", "", "padding=1"),
    ],
)
def test_what_is_illegal_says_why_and_what_is_next_to_it(text: str, size: str, offered: str) -> None:
    answer = ask("layer", layer=text, size=size)
    assert "legal:" in answer["refused"]
    assert offered in [offer["label"] for offer in answer["offers"]]
    for offer in answer["offers"]:
        again = ask("layer", layer=offer["layer"], size=offer["size"] or "")
        assert "refused" not in again, offer


@pytest.mark.parametrize("text", ["", "Conv2d", "__import__('os').system('x')", "Conv2d(1, 1, 3", "(" * 999])
def test_what_is_no_layer_is_refused_with_a_sentence(text: str) -> None:
    assert "legal:" in ask("layer", layer=text)["refused"]


def test_a_layer_that_nobody_could_follow_still_has_its_sizes() -> None:
    answer = ask("layer", layer="Conv2d(64, 64, 7, stride=2, padding=3)", size="224")
    assert (answer["views"], answer["output"]) == ([], "112x112")
    assert "small enough" in answer["why_not"]
    assert answer["sizes"][0]["filled"].endswith("= 112")


@pytest.mark.parametrize(
    "text",
    ["Conv2d(1, 1, 3)", UP, "Conv1d(1, 1, 4, stride=3, padding=2)",
     "Conv1d(1, 1, 3, stride=2, padding='same')",
     "MaxPool1d(3, stride=2, ceil_mode=True)", "MaxPool1d(2, stride=3, padding=1, ceil_mode=True)",
     "ConvTranspose1d(1, 1, 3, stride=2, padding='same')"],
)  # fmt: skip
@given(n=st.integers(7, 40))
def test_the_formula_filled_in_comes_to_the_size(text: str, n: int) -> None:
    spec = ConvSpec.parse(text)
    row = size_rows(spec, (n,) * spec.nd)[0]
    spelt, _, made = row["filled"].partition(" = ")
    for letter, means in {"⌊": "floor(", "⌋": ")", "⌈": "ceil(", "⌉": ")", "−": "-", "·": "*"}.items():
        spelt = spelt.replace(letter, means)
    # The page's formula is read as arithmetic here alone, by its own tokens.
    assert set(spelt) <= set("0123456789 +-*/().floceir"), spelt
    assert eval(spelt, {"floor": np.floor, "ceil": np.ceil}) == int(made) == row["output"]


@pytest.mark.parametrize(("text", "size"), LAYERS)
def test_the_loops_to_copy_give_what_the_layer_gives(text: str, size: str) -> None:
    spec, sizes = ConvSpec.parse(text), tuple(map(int, size.split("x")))
    room: dict[str, Any] = {"np": np}
    exec(loops(spec, sizes), room)
    shown = explain(spec, sizes)
    x = np.arange(1.0, np.prod(sizes) + 1).reshape(sizes)
    w = np.arange(1.0, np.prod(spec.kernel_size) + 1).reshape(spec.kernel_size)
    assert_equal_values(room["layer"](x, w), shown.output)


def test_pooling_loops_give_what_torch_gives() -> None:
    import torch

    x = torch.arange(1.0, 26).reshape(1, 5, 5).mul(7).remainder(11)
    for text, made in [
        ("MaxPool2d(3, stride=2, padding=1)", torch.nn.MaxPool2d(3, 2, 1)),
        ("AvgPool2d(2)", torch.nn.AvgPool2d(2)),
        ("AvgPool2d(3, stride=2, padding=1)", torch.nn.AvgPool2d(3, 2, 1)),
        (
            "AvgPool2d(3, stride=2, padding=1, count_include_pad=False)",
            torch.nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        ),
    ]:
        room: dict[str, Any] = {"np": np}
        exec(loops(ConvSpec.parse(text), (5, 5)), room)
        expected = made(x)[0].double().numpy()
        assert_equal_values(np.round(room["layer"](x[0].double().numpy()), 5), np.round(expected, 5))


def test_the_solver_answers_sizes_and_scales() -> None:
    by_scale = ask("solve", scale="2", nd=2, in_channels=8, out_channels=4)
    assert by_scale["solutions"][0]["layer"] == "ConvTranspose2d(8, 4, 4, stride=2, padding=1)"
    by_size = ask("solve", input_size="14", output_size="28", nd=2)
    assert by_size["count"] >= len(by_size["solutions"]) > 1
    with pytest.raises(ArgumentError, match="legal"):
        ask("solve", nd=7)


def test_patterns_say_overlap_ripple_phases_and_ways_out() -> None:
    found = ask("pattern", layer=UP, size="3")
    assert not found["even"]
    assert found["ripple"]["said"] == "43.6%"
    assert [row["reads"] for row in found["phases"]] == ["n", "n, n + 1"]
    assert any(one["layer"] for one in found["suggestions"])
    even = ask("pattern", layer="ConvTranspose2d(1, 1, 4, stride=2, padding=1)")
    assert even["even"]
    assert ask("pattern", layer="ConvTranspose2d(1, 1, 2, stride=3)")["holes"]


@pytest.mark.parametrize(
    ("text", "size", "offered"),
    [("Conv2d(64, 128, 7, stride=2, padding=3)", "224", ["5x5"]),
     ("ConvTranspose2d(4, 4, 16, stride=16)", "", ["1x1"]),
     ("Conv2d(1, 1, 3, dilation=18, padding=18)", "", [])],
)  # fmt: skip
def test_what_is_too_large_to_be_followed_is_followed_at_another_size(
    text: str, size: str, offered: list[str]
) -> None:
    answer = ask("layer", layer=text, size=size)
    assert "small enough to be followed" in answer["why_not"]
    assert [way["size"] for way in answer["ways"]] == offered
    for way in answer["ways"]:
        assert ask("layer", layer=way["layer"], size=way["size"])["views"]


@pytest.mark.parametrize(
    "text",
    [
        "self.up = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1),",
        "  (up): ConvTranspose2d(1, 1, 3, 2, 1)",
        "blocks[2].up = torch.nn.ConvTranspose2d(1, 1, 3, 2, 1)  # twice as large",
        "ConvTranspose2d（１，１，３，stride＝2，padding＝1）",
    ],
)  # fmt: skip
def test_lines_of_code_are_pasted_as_they_stand(text: str) -> None:
    assert ask("layer", layer=text)["layer"] == UP


@pytest.mark.parametrize("value", ["3 4", "3)", "3, *x", "٣", "3, stride=2", "(" * 300])
def test_a_field_that_is_no_value_is_refused_by_its_name(value: str) -> None:
    fields = {"kind": "conv", "nd": 2, "kernel_size": "3", "padding": value}
    refused = ask("layer", fields=fields)["refused"]
    assert refused.startswith("'padding' must be")
    assert "kernel_size" not in refused


def test_an_input_far_too_small_is_one_click_away() -> None:
    answer = ask("layer", layer="Conv2d(1, 1, 99)", size="5")
    assert answer["offers"][0] == {"label": "input 99x99", "layer": "Conv2d(1, 1, 99)", "size": "99x99"}


def test_a_misspelt_argument_is_put_right() -> None:
    answer = ask("layer", layer="Conv2d(1, 1, 3, stirde=2)")
    assert answer["offers"] == [{"label": "stride", "layer": "Conv2d(1, 1, 3, stride=2)", "size": None}]


def test_plans_have_their_lines() -> None:
    found = ask("plan", layer=UP, size="56", in_channels=64, out_channels=32)
    assert dict(found["lines"])["result"].startswith("(1, 32, 111, 111)")
    with pytest.raises(OutstrideError, match="legal"):
        ask("plan", layer=UP, size="99999x99999", in_channels=64, out_channels=32)
    with pytest.raises(ArgumentError, match="legal"):
        ask("plan", layer=UP, size="56", in_channels=True, out_channels="x")


@pytest.mark.parametrize(
    ("form", "begins"), [("svg", b"<svg"), ("gif", b"GIF8"), ("png", b"\x89PNG"), ("html", b"<!doc")]
)
def test_views_are_saved(form: str, begins: bytes) -> None:
    pytest.importorskip("PIL")
    for view in ("stamps", "gradient", "phases"):
        made = picture({"layer": UP, "size": "3", "view": view, "format": form})
        assert made.content.startswith(begins)


def test_other_formats_are_refused() -> None:
    with pytest.raises(ArgumentError, match="'svg', 'gif', 'png', 'html'"):
        picture({"layer": UP, "format": "exe"})


@pytest.mark.slow
def test_a_race_names_both_and_is_held_one_at_a_time() -> None:
    question = {"layer": UP, "size": "16", "in_channels": 4, "out_channels": 4}
    found = ask("race", **question)
    assert [row["name"] for row in found["rows"]] == ["outstride", "torch"]
    assert max(row["share"] for row in found["rows"]) == 100
    assert "largest error" in found["note"]
    with speed.RACE, pytest.raises(ArgumentError, match="one at a time"):
        ask("race", **question)


@pytest.mark.parametrize(
    "question",
    [
        {
            "layer": "Conv2d(1, 1, 3, padding=((1, 0), (1, 0)))",
            "size": "16",
            "in_channels": 4,
            "out_channels": 4,
        },
        {"layer": "Conv2d(1, 1, 7)", "size": "1000", "in_channels": 32, "out_channels": 512},
        {"layer": "MaxPool2d(2)", "size": "16"},
        {"layer": UP, "in_channels": 4, "out_channels": 4},
    ],
)
def test_races_that_torch_cannot_run_or_nobody_waits_for_are_refused(question: dict[str, Any]) -> None:
    with pytest.raises(OutstrideError, match=r"\bgot\b"):
        ask("race", **question)
