"""Python's sentences in the page's other language: none is left half translated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from outstride.geometry import solve
from outstride.studio.answers import ANSWERS
from outstride.studio.networks import Network
from tests.studio.browser import launched, served

#: Words of formulas, and of torch.
KEPT = r"'[^']*'|\b(floor|ceil|output_padding)\b|\w+=\S+|\b\w*\(.*?\)"
TRANSLATED = """async ([kind, texts]) => {
  const { speak } = await import('./words.js'), sentences = await import('./sentences.js')
  speak('zh')
  return texts.map(sentences[kind])
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with launched() as browser, served() as link:
        page = browser.new_page()
        page.goto(link)
        page.wait_for_selector("html[data-ready=yes]")
        yield page


def english(text: str) -> list[str]:
    return re.findall(r"[A-Za-z]{3,}", re.sub(KEPT, "", text))


def merits() -> list[str]:
    questions: list[dict[str, Any]] = [
        {"scale": 2},
        {"scale": "1/2"},
        {"scale": "1/3", "kind": "max_pool"},
        {"input_size": 5, "output_size": 9},
        {"input_size": (9, 8), "output_size": (4, 5)},
        {"input_size": 12, "output_size": 5, "kind": "avg_pool"},
    ]
    topics = ("sizes", "borders", "holes", "centre", "overlap", "seams", "cost")
    return sorted({
        reason.text for question in questions for found in islice(solve(**question), 0, None, 7)
        for reason in found.reasons if reason.topic in topics
    })  # fmt: skip


def test_every_merit_is_said_in_chinese(page: Any) -> None:
    texts = merits()
    left = {
        text: said
        for text, said in zip(texts, page.evaluate(TRANSLATED, ["reasoned", texts]), strict=True)
        if english(said)
    }
    assert len(texts) > 100
    assert not left, dict(islice(left.items(), 5))


@pytest.mark.parametrize(
    ("layer", "size", "said"),
    [
        ("Conv2d(1, 1, 7)", "3x3", "必须足够大"),
        ("ConvTranspose2d(1, 1, 3, output_padding=2)", "", "必须小于 'stride' 或 'dilation'"),
        ("Conv2d(1, 1, 0)", "", "至少为 1"),
        ("Conv2d(3, 4, 3, groups=2)", "", "必须能被 'groups' 整除"),
        ("MaxPool2d(2, padding=2)", "", "至多为窗口的一半"),
        ("Conv2d(1, 1, (3, 3, 3))", "", "每个轴必须有一个值"),
        ("Conv2d(1, 1)", "", "必须给出"),
        ("Conv2d(1, 1, 3, padding=-1)", "", "至少为 0"),
    ],
)
def test_what_a_reader_meets_most_is_refused_in_chinese(page: Any, layer: str, size: str, said: str) -> None:
    sentence = ANSWERS["layer"]({"layer": layer, "size": size})["refused"]
    (found,) = page.evaluate(TRANSLATED, ["refused", [sentence]])
    assert said in found
    assert english(found) == []
    assert re.match(r"'\w+'", found), "the page finds the argument by its quotes"


LAYERS = [
    "Conv2d(1, 1, 3, padding=1)", "Conv2d(2, 1, 3, stride=2, padding=((1, 0), (0, 1)))",
    "MaxPool2d(3, padding=1)",
    "AvgPool2d(3, stride=2, ceil_mode=True)", "Conv2d(1, 1, 2, stride=3)", "Conv1d(1, 1, 4, padding='same')",
    "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", "ConvTranspose2d(1, 1, 2, stride=3)",
    "ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)", "ConvTranspose1d(1, 1, 7, stride=3)",
    "ConvTranspose2d(1, 1, 3, stride=2, dilation=2)",
    "ConvTranspose2d(1, 1, 4, stride=2, padding=((1, 0), (1, 1)))",
]  # fmt: skip
#: Names of the plan's kernels and tiles, of layers, and of torch's and Keras's arguments.
NAMES = (
    r"\w+_\w+|\w+\.\w+|\b(direct|conv|mod|lanes|torch|Keras|gather|pads|ceil_mode|artifacts|equalize_|extend"
    r"|smooth|cpuinfo|avx512|avx2|sse2|neon|MFLOP|GHz|same|proc|norm|pool|mean|padding|stride|window"
    r"|Conv2d|ConvTranspose2d)\b"
)


def told() -> list[str]:
    """What is said of layers beside their merits, and of a model."""
    from tests.studio.test_networks import Norms, Small

    found: list[str] = []
    for text in LAYERS:
        answer = ANSWERS["layer"]({"layer": text, "size": "5"})
        found += [writing["note"] for writing in answer["writings"]]
        found += (answer["scene"] or {"notes": []})["notes"]
        found += [one["text"] for one in ANSWERS["pattern"]({"layer": text})["suggestions"]]
        if text.startswith("Conv"):
            plan = ANSWERS["plan"]({"layer": text, "size": "32", "in_channels": 32, "out_channels": 32})
            found += [line for name, line in plan["lines"] if name != "kernel"]
    for question in (
        {"input_size": "5", "output_size": "7"},
        {"scale": "3"},
        {"input_size": "6", "output_size": "9"},
    ):
        found += ANSWERS["solve"](question)["notes"]
    for model in (Small(), Norms()):
        network = Network("small", model, (1, next(model.parameters()).shape[1], 16, 16))
        described = network.described({})
        found += [line for _, line in described["summary"]] + network.fit({"size": "17"})["said"]
        found += [one["text"] for one in described["findings"]]
        found += [way for one in described["findings"] for way in one["helps"]]
        found += [
            line for node in described["nodes"] for name, line in node["facts"]
            if name not in ("kind", "parameters")
        ]  # fmt: skip
    return sorted(set(found))


def test_what_is_told_of_layers_and_models_is_said_in_chinese(page: Any) -> None:
    texts = told()
    left = {
        text: said
        for text, said in zip(texts, page.evaluate(TRANSLATED, ["told", texts]), strict=True)
        if english(re.sub(NAMES, "", re.sub(KEPT, "", said)))
    }
    assert len(texts) > 60
    assert not left, dict(islice(left.items(), 40))


#: Layers whose pictures hold between them every sentence and every title that a picture has.
PICTURED = [
    *LAYERS, "Conv2d(3, 2, 3, padding=1)", "ConvTranspose2d(2, 4, 3, stride=2, groups=2)", "MaxPool2d(2)",
    "Conv1d(1, 1, 3, padding=2, padding_mode='circular')", "ConvTranspose3d(1, 1, 2, stride=2)",
    "Conv2d(1, 1, 1)", "AvgPool1d(3, padding=1, count_include_pad=False)", "Conv3d(1, 1, 2)",
    "ConvTranspose2d(1, 1, 1, stride=2)",
]  # fmt: skip
SHOWN = """async ([kind, texts]) => {
  const words = await import('./words.js')
  words.speak('zh')
  return texts.map(text => kind === 'title' ? words.word(`title ${text}`, text) : words[kind](text))
}"""


def test_pictures_are_said_in_chinese(page: Any) -> None:
    said: dict[str, set[str]] = {"caption": set(), "titled": set(), "title": set()}
    for text in PICTURED:
        question: dict[str, Any] = {"layer": text, "numbers": {"bias": 2}}
        for view in ANSWERS["layer"](question)["views"]:
            scene = ANSWERS["layer"]({**question, "view": view})["scene"]
            said["title"].add(scene["title"])
            said["caption"] |= {frame["caption"] for frame in scene["frames"]}
            said["titled"] |= {grid["title"] for frame in scene["frames"] for grid in frame["grids"]}
    for kind, texts in said.items():
        known = sorted(texts)
        found = zip(known, page.evaluate(SHOWN, [kind, known]), strict=True)
        left = {text: shown for text, shown in found if english(shown)}
        assert not left, (kind, dict(islice(left.items(), 5)))
