"""The player of pages and notebooks in a browser: buttons, keys, tabs, dark pages, and without any script."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outstride import explain

pytestmark = pytest.mark.slow
LAYER = "ConvTranspose1d(1, 1, 3, stride=2)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("the browser tests need Chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """A page that was opened from a file, and what it had to complain about."""

    def __init__(self, browser: Any, file: Path, content: str, **options: Any) -> None:
        file.write_text(content, encoding="utf-8")
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.said.append(request.url))
        self.page.goto(file.as_uri())
        self.said.remove(file.as_uri())

    def step(self) -> str:
        """Which step of the view that is seen."""
        return str(self.page.inner_text("figure:not([hidden]) .o-count"))

    def seen(self) -> list[bool]:
        """Whether each frame of the first view is seen."""
        look = "frames => frames.map(frame => getComputedStyle(frame).visibility === 'visible')"
        found: list[bool] = self.page.eval_on_selector_all("figure:first-of-type g.frame", look)
        return found


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    pages: list[Opened] = []

    def opening(content: str, **options: Any) -> Opened:
        pages.append(Opened(browser, tmp_path / f"{len(pages)}.html", content, **options))
        return pages[-1]

    yield opening
    for page in pages:
        assert page.said == []
        page.context.close()


def test_a_page_steps_by_buttons_and_keys(opened: Any) -> None:
    shown = opened(explain(LAYER, (3,)).html())
    page = shown.page
    assert shown.step() == "1 / 4"
    page.click("figure:not([hidden]) .o-on")
    assert shown.step() == "2 / 4"
    assert shown.seen() == [False, True, False, False]
    page.focus("figure:not([hidden])")
    for key, step in (("ArrowRight", 3), ("ArrowLeft", 2), ("End", 4), ("ArrowRight", 1), ("Home", 1)):
        page.keyboard.press(key)
        assert shown.step() == f"{step} / 4"
    assert page.inner_text("figure:not([hidden]) .o-said") == "input 0 = 1 stamps at 0"
    page.keyboard.press("Space")
    assert page.inner_text("figure:not([hidden]) .o-play") == "stop"
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("figure:not([hidden]) .o-play") == "play"


def test_pointing_at_an_output_shows_its_step(opened: Any) -> None:
    shown = opened(explain("Conv1d(1, 1, 3, padding=1)", (4,)).html())
    output = shown.page.locator("figure:not([hidden]) .o-output").first
    box = output.bounding_box()
    middle = box["y"] + box["height"] / 2
    for place, step in ((2.5, 3), (0.5, 1), (3.5, 4)):
        shown.page.mouse.move(box["x"] + place * box["width"] / 4, middle)
        assert shown.step() == f"{step} / 4"
    shown.page.click("figure:not([hidden]) .o-play")
    shown.page.mouse.click(box["x"] + 1.5 * box["width"] / 4, middle)
    assert shown.step() == "2 / 4"
    assert shown.page.inner_text("figure:not([hidden]) .o-play") == "play"


def test_views_are_tabs(opened: Any) -> None:
    shown = opened(explain(LAYER, (3,)).html())
    page = shown.page
    page.focus("[role=tab][aria-selected=true]")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("[role=tab][aria-selected=true]") == "zeros"
    assert page.inner_text("figure:not([hidden]) figcaption") == "A convolution over zeros in between"
    page.click("[role=tab]:has-text('matrix')")
    assert shown.step() == "1 / 7"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_a_notebook_moves_unless_the_reader_wants_none(motion: str, opened: Any) -> None:
    shown = opened(explain(LAYER, (3,))._repr_html_(), reduced_motion=motion)
    expected = "play" if motion == "reduce" else "stop"
    assert shown.page.inner_text("figure:not([hidden]) .o-play") == expected


def test_two_outputs_of_a_notebook_do_not_meddle(opened: Any) -> None:
    both = explain(LAYER, (3,)).html() + explain("MaxPool1d(2)", (4,))._repr_html_()
    shown = opened(both, reduced_motion="reduce")
    shown.page.click(".o-on >> visible=true >> nth=0")
    counts = shown.page.eval_on_selector_all(
        "figure:not([hidden]) .o-count", "spans => spans.map(span => span.textContent)"
    )
    assert counts == ["2 / 4", "1 / 2"]


def test_without_scripts_all_is_shown_and_moves(opened: Any) -> None:
    shown = opened(explain(LAYER, (3,))._repr_html_(), java_script_enabled=False)
    assert shown.page.locator("figure:visible").count() == 7
    assert shown.page.locator("button:visible").count() == 0


@pytest.mark.parametrize("back", ["#111111", "#ffffff"])
def test_the_page_around_says_whether_it_is_dark(back: str, opened: Any) -> None:
    shown = opened(f"<body style='background:{back}'>{explain(LAYER, (3,))._repr_html_()}")
    assert shown.page.get_attribute(".outstride", "data-theme") == ("dark" if back == "#111111" else "light")
    fill = shown.page.eval_on_selector(".o-input", "path => getComputedStyle(path).fill")
    assert fill == ("rgb(34, 72, 107)" if back == "#111111" else "rgb(207, 227, 247)")


def test_a_picture_moves_by_itself_frame_by_frame(opened: Any) -> None:
    drawn = explain(LAYER, (3,)).svg()
    content = f"<figure>{drawn}</figure>"
    shown = opened(content, reduced_motion="no-preference")
    for moment, frame in ((500, 0), (1500, 1), (3500, 3), (4500, 3), (5500, 0)):
        shown.page.evaluate(
            "moment => document.getAnimations().forEach(moving => {"
            " moving.pause(); moving.currentTime = moment })",
            moment,
        )
        assert shown.seen() == [place == frame for place in range(4)]
    still = opened(content, reduced_motion="reduce")
    assert still.seen() == [False, False, False, True]


def test_a_page_is_accessible(opened: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    for scheme in ("light", "dark"):
        shown = opened(explain("MaxPool2d(2)", (4, 4)).html(), color_scheme=scheme)
        found = axe.Axe().run(shown.page)
        assert found.violations_count == 0, found.generate_report()
