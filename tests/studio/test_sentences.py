"""Python's sentences in the page's other language: none is left half translated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from outstride.geometry import solve
from outstride.studio.answers import ANSWERS
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
