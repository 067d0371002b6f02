"""The page in a real browser: controls, play, hover, keyboard, solver, files, language, narrow screens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from outstride import ConvSpec, explain, reference
from outstride.errors import ShapeError
from outstride.studio.networks import Network
from tests.studio.browser import launched, served

pytest.importorskip("PIL")

from PIL import Image

UP = "ConvTranspose2d(1, 1, 3, stride=2, padding=1)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as made:
        yield made


@pytest.fixture(scope="module")
def link(browser: Any) -> Iterator[str]:
    del browser  # where there is none nothing need be served
    with served() as made:
        yield made


class Visit:
    """A page of the browser's, and what its console and its network said."""

    def __init__(self, browser: Any, link: str, **context: Any) -> None:
        options = {"viewport": {"width": 1440, "height": 900}, "reduced_motion": "reduce", "locale": "en-US"}
        self.context = browser.new_context(**{**options, **context})
        self.page = self.context.new_page()
        self.link = link
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def go(self, state: str = "step=0") -> Visit:
        """Follow a link; where the page is there already, it stays and takes the state."""
        self.page.mouse.move(5, 5)
        if self.page.url.startswith(self.link):
            self.page.evaluate("history.replaceState(null, '', '#'); document.activeElement.blur()")
            self.page.evaluate("document.documentElement.dataset.ready = 'no'")
        self.page.goto(f"{self.link}#{state}")
        self.page.wait_for_selector("html[data-ready=yes]")
        return self

    def layer(self, text: str) -> None:
        """Wait until this layer is shown."""
        self.page.wait_for_function("text => document.querySelector('#layer').value === text", arg=text)

    def spoken(self) -> str:
        return str(self.page.inner_text(".said"))

    def cells(self, grid: int) -> list[str]:
        found: list[str] = self.page.locator(
            f"[data-grid='{grid}'] .cell > text:first-of-type"
        ).all_text_contents()
        return found

    def field(self, name: str) -> Any:
        return self.page.locator(f"[data-name='{name}']")


@pytest.fixture(scope="module")
def usual(browser: Any, link: str) -> Iterator[Visit]:
    """A page that most tests share."""
    made = Visit(browser, link)
    yield made
    made.context.close()


@pytest.fixture
def visit(browser: Any, link: str, usual: Visit) -> Iterator[Any]:
    opened: list[Visit] = []

    def go(state: str = "step=0", **context: Any) -> Visit:
        opened.append(Visit(browser, link, **context) if context else usual)
        return opened[-1].go(state)

    yield go
    for one in opened:
        said, one.said = one.said, []
        if one is not usual:
            one.context.close()
        assert said == []
        assert [url for url in one.asked if not url.startswith((link, "blob:", "data:"))] == []


def test_the_page_shows_a_layer_at_work(visit: Any) -> None:
    shown = visit()
    assert shown.page.title() == "outstride studio"
    shown.layer(UP)
    assert shown.cells(0) == list("123456789")
    assert shown.spoken() == "input (0, 0) = 1 stamps at (-1, -1)"
    assert "(3 − 1)·2 − 1 − 1 + 1·(3 − 1) + 0 + 1 = 5" in shown.page.inner_text("#panel")


def test_every_field_changes_the_layer(visit: Any) -> None:
    shown = visit()
    for name, value, text in [
        ("kernel_size", "4", "ConvTranspose2d(1, 1, 4, stride=2, padding=1)"),
        ("stride", "3, 1", "ConvTranspose2d(1, 1, 4, stride=(3, 1), padding=1)"),
        ("padding", "0", "ConvTranspose2d(1, 1, 4, stride=(3, 1))"),
        ("dilation", "2", "ConvTranspose2d(1, 1, 4, stride=(3, 1), dilation=2)"),
        ("output_padding", "1", "ConvTranspose2d(1, 1, 4, stride=(3, 1), output_padding=1, dilation=2)"),
        ("in_channels", "8", "ConvTranspose2d(8, 1, 4, stride=(3, 1), output_padding=1, dilation=2)"),
    ]:
        shown.field(name).fill(value)
        shown.layer(text)


def test_sliders_kinds_axes_sides_and_bias_change_the_layer(visit: Any) -> None:
    shown = visit()
    shown.field("kernel_size-slider").fill("5")
    shown.layer("ConvTranspose2d(1, 1, 5, stride=2, padding=1)")
    shown.page.get_by_role("button", name="Convolution").click()
    shown.layer("Conv2d(1, 1, 5, stride=2, padding=1)")
    shown.page.get_by_role("button", name="1-d").click()
    shown.layer("Conv1d(1, 1, 5, stride=2, padding=1)")
    shown.page.get_by_role("button", name="per side").click()
    shown.field("low").fill("2")
    shown.layer("Conv1d(1, 1, 5, stride=2, padding=((2, 1),))")
    shown.field("padding_mode").select_option("circular")
    shown.layer("Conv1d(1, 1, 5, stride=2, padding=((2, 1),), padding_mode='circular')")
    shown.page.get_by_text("bias", exact=True).click()
    shown.layer("Conv1d(1, 1, 5, stride=2, padding=((2, 1),), bias=False, padding_mode='circular')")
    shown.field("size").fill("9")
    shown.page.wait_for_function("() => document.querySelector('.flow .in').textContent === '9'")


def test_what_is_illegal_is_said_and_cured_by_a_click(visit: Any) -> None:
    shown = visit()
    shown.field("output_padding").fill("3")
    refusal = shown.page.locator("#refusal")
    refusal.get_by_role("button", name="output_padding=1").wait_for()
    assert "must be smaller than 'stride'" in refusal.inner_text()
    refusal.get_by_role("button", name="output_padding=1").click()
    shown.layer("ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)")
    assert not refusal.is_visible()
    shown.page.fill("#layer", "Conv2D(1, 1, 3)")
    refusal.get_by_role("button", name="Conv2d").click()
    shown.layer("Conv2d(1, 1, 3)")
    shown.page.fill("#layer", "Conv2d(1, 1, 3, stirde=2)")
    refusal.get_by_role("button", name="stride").click()
    shown.layer("Conv2d(1, 1, 3, stride=2)")
    shown.field("size").fill("224")
    shown.page.get_by_role("button", name="follow it at").click()
    shown.page.locator(".flow .in", has_text="7 × 7").wait_for()


def test_every_view_steps_to_the_result(visit: Any) -> None:
    shown = visit()
    expected = [str(int(value)) for value in explain(UP, (3, 3)).output.ravel()]
    tabs = ["Stamps", "Zeros between", "Matrix", "Shared products", "Phases", "Gradient", "Side by side"]
    assert shown.page.locator(".views button").all_inner_texts() == tabs
    for name in tabs[:5]:
        shown.page.get_by_role("tab", name=name).click()
        shown.page.locator(".views [aria-selected=true]", has_text=name).wait_for()
        shown.page.keyboard.press("End")
        last = shown.page.locator(".grid").count() - 1
        assert shown.cells(last) == expected


def test_play_moves_and_stops_at_the_end(visit: Any) -> None:
    shown = visit("layer=Conv1d(1, 1, 3)&size=5&step=0", reduced_motion="no-preference")
    shown.page.select_option(".transport select", "fast")
    shown.page.get_by_role("button", name="Play").click()
    shown.page.wait_for_function("() => document.querySelector('.count').textContent === '3 / 3'")
    shown.page.get_by_role("button", name="Pause").click()
    assert shown.page.get_by_role("button", name="Play").is_visible()


def test_a_cell_says_its_formula_and_lights_what_it_reads(visit: Any) -> None:
    shown = visit("view=stamps&step=9")
    output = shown.page.locator(".grid").last.locator(".cell")
    output.nth(6).hover()
    assert shown.spoken() == "y[1, 1] = 1·5 + 3·4 + 7·2 + 9·1 = 40"
    lit = shown.page.locator("[data-grid='0'] .cell.lit text:first-of-type").all_text_contents()
    assert lit == ["1", "2", "4", "5"]
    shown.page.mouse.move(5, 5)
    assert shown.page.locator(".cell.lit").count() == 0
    shown.page.goto(shown.page.url.replace("view=stamps", "view=zeros"))
    shown.page.wait_for_function(
        "() => document.querySelector('.title').textContent.startsWith('A convolution')"
    )
    shown.page.locator(".grid").last.locator(".cell").nth(6).hover()
    assert shown.spoken().endswith("= 40")


def test_numbers_are_typed_into_the_picture(visit: Any) -> None:
    shown = visit("layer=Conv1d(1, 1, 3)&size=5&step=2")
    shown.page.locator("[data-grid='0'] .cell").nth(4).click()
    shown.page.mouse.move(5, 5)  # or the cell under the pointer would be spoken of
    shown.page.locator(".edit").fill("-7")
    shown.page.keyboard.press("Enter")
    shown.page.wait_for_function("() => document.querySelector('.said').textContent.endsWith('= -10')")
    assert "x=1%2C2%2C3%2C4%2C-7" in shown.page.url


def test_the_keyboard_reaches_everything(visit: Any) -> None:
    shown = visit(locale="en-GB")  # a page of its own: where the first Tab leads is the browser's memory
    keys = shown.page.keyboard
    keys.press("ArrowRight")
    assert shown.page.inner_text(".count") == "2 / 10"
    keys.press("End")
    assert shown.page.inner_text(".count") == "10 / 10"
    keys.press("Home")
    reached = set()
    for _ in range(60):
        keys.press("Tab")
        reached.add(
            shown.page.evaluate(
                "() => { const e = document.activeElement; return e.dataset.name || e.dataset.grid || e.id"
                " || e.getAttribute('aria-label') || e.textContent.trim() }"
            )
        )
        if shown.page.evaluate("document.activeElement.dataset.grid") == "0":
            keys.press("ArrowRight")
            assert shown.spoken().endswith("x[0, 1] = 2")
    wanted = {
        "layer", "examples", "tool-share", "tool-save", "Convolution", "2-d", "size", "kernel_size-slider",
        "padding", "Stamps", "Gradient", "0", "2", "Play (space)", "Step", "Speed", "tab-sizes",
    }  # fmt: skip
    assert wanted <= reached, wanted - reached


def test_the_solver_is_one_click_away(visit: Any) -> None:
    shown = visit("tab=solver&step=0")
    shown.page.fill("#from", "7")
    shown.page.fill("#to", "14")
    shown.page.get_by_role("button", name="Solve").click()
    shown.page.get_by_role("button", name="ConvTranspose2d(1, 1, 4, stride=2, padding=1)").click()
    shown.layer("ConvTranspose2d(1, 1, 4, stride=2, padding=1)")
    assert shown.page.inner_text(".flow .out") == "14 × 14"


def test_the_other_answers_are_filled(visit: Any) -> None:
    shown = visit("tab=pattern&step=0")
    shown.page.get_by_text("43.6%").wait_for()
    shown.page.get_by_role("tab", name="Speed").click()
    shown.page.get_by_text("register tile").wait_for()
    shown.page.get_by_role("tab", name="Code").click()
    assert "torch.nn." + UP in shown.page.inner_text("#panel")
    assert shown.page.locator("#panel .copy").count() == 4


FILES = {
    "Moving SVG": ("svg", b"<svg"), "Page for slides (HTML)": ("html", b"<!doc"),
    "Moving GIF": ("gif", b"GIF8"), "PNG of the last steps": ("png", b"\x89PNG"),
    "SVG of this frame": ("svg", b"<svg"),
}  # fmt: skip


def saved(shown: Visit, form: str) -> Any:
    """The file that a click on the menu brings."""
    shown.page.click("#tool-save")
    with shown.page.expect_download() as download:
        shown.page.get_by_role("button", name=form).click()
    return download.value


def test_what_is_shown_is_saved(visit: Any) -> None:
    shown = visit("view=stamps&step=3")
    for form, (suffix, begins) in FILES.items():
        file = saved(shown, form)
        assert file.suggested_filename.endswith(f".{suffix}")
        assert file.path().read_bytes().startswith(begins), form


def test_the_picture_stands_alone_on_a_slide(visit: Any) -> None:
    shown = visit("step=4")
    shown.page.keyboard.press("f")
    assert not shown.page.locator("#controls").is_visible()
    shown.page.keyboard.press("ArrowRight")
    assert shown.page.inner_text(".count") == "6 / 10"
    link = shown.page.url
    shown.page.keyboard.press("Escape")
    assert shown.page.locator("#controls").is_visible()
    shown.page.goto(link)  # the page is there already: it follows the link
    shown.page.locator("#controls").wait_for(state="hidden")
    shown.page.get_by_role("button", name="The picture alone").click()
    assert shown.page.locator("#answers").is_visible()


def test_a_link_brings_all_of_its_state(visit: Any) -> None:
    shown = visit("step=1&tab=code&layer=Conv2d(1, 1, 3)&size=5x5&w=1,0,0,0,1,0,0,0,1")
    assert shown.page.inner_text(".count") == "2 / 9"
    assert shown.spoken().endswith("= 24")
    shown.go("layer=MaxPool2d(2)&size=4x4&step=3&lang=zh&tab=sizes&light=dark")
    shown.page.get_by_role("tab", name="尺寸", selected=True).wait_for()
    assert shown.page.inner_text(".count") == "4 / 4"
    assert shown.page.locator("html").get_attribute("data-light") == "dark"
    shown.go("mode=picture&kernel=random&cure=1&at=.2,.8&lang=en")
    shown.page.locator(".chip[aria-pressed=true]", has_text="random").wait_for()
    assert shown.page.get_by_label("cure the pattern").is_checked()
    assert saved(shown, "PNG of the output").path().read_bytes().startswith(b"\x89PNG")
    shown.page.get_by_role("button", name="1-d").click()  # where there is no photograph
    shown.page.locator(".canvas").wait_for()
    assert saved(shown, "PNG of the last steps").suggested_filename.endswith(".png")


def test_the_page_speaks_chinese_and_keeps_its_state(visit: Any) -> None:
    shown = visit("view=zeros&step=3")
    shown.page.click("#tool-language")
    assert shown.page.inner_text(".title") == "在插零的输入上做卷积"
    assert shown.page.inner_text(".count") == "4 / 25"
    assert shown.page.locator("html").get_attribute("lang") == "zh"
    shown.page.reload()
    shown.page.wait_for_selector("html[data-ready=yes]")
    assert shown.page.inner_text(".count") == "4 / 25"
    assert "输出" in shown.spoken()


def test_light_and_dark_follow_the_system_and_the_button(visit: Any) -> None:
    shown = visit(color_scheme="dark")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    dark = shown.page.evaluate(paper)
    shown.page.click("#tool-light")
    assert shown.page.evaluate(paper) != dark


def test_narrow_screens_need_no_sideways_scroll(visit: Any) -> None:
    shown = visit("step=4", viewport={"width": 400, "height": 850})
    stage, controls = (shown.page.locator(f"#{name}").bounding_box()["y"] for name in ("stage", "controls"))
    assert stage < controls
    for name in ("Solver", "Pattern", "Speed", "Code"):
        shown.page.get_by_role("tab", name=name).click()
        shown.page.wait_for_timeout(300)
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 400
    for name in ("Matrix", "Phases", "Gradient"):
        shown.page.get_by_role("tab", name=name).click()
        shown.page.locator(".views [aria-selected=true]", has_text=name).wait_for()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= 400


TABS = ("Sizes", "Solver", "Pattern", "Speed", "Code")


def test_axe_finds_no_violation(visit: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(visit("step=4").page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_anywhere(visit: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    shown = visit("step=4", color_scheme=scheme)
    for role, name in [*(("tab", tab) for tab in TABS), ("button", "Picture")]:
        shown.page.get_by_role(role, name=name, exact=True).click()
        shown.page.wait_for_timeout(500)
        found = axe.Axe().run(shown.page)
        assert found.violations_count == 0, found.generate_report()


def test_nothing_is_asked_of_anybody_else_and_a_lost_server_is_said(browser: Any) -> None:
    with served() as own:
        shown = Visit(browser, own).go()
        assert all(url.startswith(own) for url in shown.asked)
    shown.field("kernel_size").fill("4")
    shown.page.get_by_text("the studio does not answer").wait_for()
    shown.context.close()


def drawn(draws: random.Random) -> tuple[ConvSpec, tuple[int, ...]]:
    """Some layer of two axes that can be followed."""

    def each(least: int, most: int) -> tuple[int, int]:
        return draws.randint(least, most), draws.randint(least, most)

    kind: Any = draws.choice(["conv", "conv_transpose"])
    stride, dilation = each(1, 3), each(1, 2)
    options: dict[str, Any] = {"stride": stride, "padding": each(0, 2), "dilation": dilation}
    if kind == "conv_transpose":
        bounds = zip(stride, dilation, strict=True)
        options["output_padding"] = tuple(draws.randrange(max(s, d)) for s, d in bounds)
    return ConvSpec(kind, each(1, 3), in_channels=1, out_channels=1, **options), each(4, 6)


@pytest.mark.slow
def test_drawn_layers_end_with_what_the_definition_gives(visit: Any) -> None:
    draws, shown = random.Random(5), visit()
    for _ in range(12):
        spec, size = drawn(draws)
        x = np.arange(1, np.prod(size) + 1).reshape(1, *size)
        w = np.arange(1, np.prod(spec.kernel_size) + 1).reshape(1, 1, *spec.kernel_size)
        options: dict[str, Any] = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation}
        try:
            if spec.kind == "conv":
                expected = reference.conv(x, w, **options)
            else:
                expected = reference.conv_transpose(x, w, **options, output_padding=spec.output_padding)
        except ShapeError:
            continue
        shown.page.goto(f"{shown.link}#layer={spec!r}&size={size[0]}x{size[1]}&step=999")
        shown.layer(repr(spec))
        wanted = " × ".join(map(str, expected.shape[1:]))
        shown.page.locator(".flow .out", has_text=wanted).wait_for()
        last = shown.page.locator(".grid").count() - 1
        assert shown.cells(last) == [str(value) for value in expected.ravel()], repr(spec)


def test_a_photograph_goes_through_the_layer(visit: Any, tmp_path: Path) -> None:
    shown = visit("mode=picture&step=0")
    shown.page.get_by_text("43.6%").wait_for()
    assert shown.page.locator(".photos img").count() == 5
    shown.page.locator(".photo").nth(1).focus()
    shown.page.keyboard.press("ArrowRight")
    shown.page.locator("svg.pixel text").last.wait_for()
    shown.page.get_by_label("cure the pattern").check()
    shown.page.get_by_text("Ripple of these weights: 0.0%").wait_for()
    shown.page.get_by_role("button", name="blur").click()
    shown.page.locator(".chip[aria-pressed=true]", has_text="blur").wait_for()
    own = tmp_path / "own.png"
    Image.new("L", (60, 40), 200).save(own)
    shown.page.set_input_files("#upload", own)
    shown.page.get_by_text("40 × 60").wait_for()
    (tmp_path / "text.png").write_text("no picture")
    shown.page.set_input_files("#upload", tmp_path / "text.png")
    shown.page.get_by_text("must be a picture that can be read").wait_for()
    shown.said.clear()  # the browser notes the refused request in its console


@pytest.fixture(scope="module")
def small() -> Network:
    layers = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1)
    return Network("small", nn.Sequential(*layers), (1, 3, 32, 32))


@pytest.mark.slow
def test_axe_finds_no_violation_in_a_model(browser: Any, small: Network) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with served(model=small) as own:
        for scheme in ("light", "dark"):
            shown = Visit(browser, own, color_scheme=scheme).go()
            shown.page.get_by_text("reads of the input").wait_for()
            found = axe.Axe().run(shown.page)
            assert found.violations_count == 0, found.generate_report()
            shown.context.close()


def test_a_model_is_one_picture_whose_fields_light_up(browser: Any, small: Network) -> None:
    with served(model=small) as own:
        shown = Visit(browser, own).go()
        shown.page.locator(".plate").nth(2).wait_for()
        assert shown.page.locator(".plate").count() == 3
        shown.page.locator(".plate").nth(2).click()
        shown.page.get_by_text("reads of the input: 5 (").wait_for()
        assert shown.page.locator(".lit[visibility=visible]").count() == 3
        shown.page.locator(".network").focus()
        shown.page.keyboard.press("ArrowLeft")
        shown.page.get_by_text("reads of the input: 3 (").wait_for()
        shown.page.locator("#model-size").fill("33")
        shown.page.get_by_text("pad 1 at the high side or crop 1").first.wait_for()
        shown.page.locator(".network").focus()
        shown.page.keyboard.press("Shift+ArrowUp")
        shown.page.get_by_text("[7, 8] reads of the input").wait_for()
        shown.page.fill("#model-layer", "2")
        shown.page.get_by_text("2 [16, 16] reads of the input").wait_for()
        assert "place=16%2C16" in shown.page.url
        shown.page.locator(".merits .chip", has_text="2").click()
        before = shown.page.locator(".network").get_attribute("viewBox")
        shown.page.get_by_role("button", name="Nearer").click()
        shown.page.wait_for_timeout(100)
        assert shown.page.locator(".network").get_attribute("viewBox") != before
        assert saved(shown, "SVG of the model").path().read_bytes().startswith(b"<svg")
        shown.page.get_by_role("button", name="Numbers").click()
        assert shown.page.locator(".canvas").is_visible()
        assert shown.said == []
        shown.context.close()
