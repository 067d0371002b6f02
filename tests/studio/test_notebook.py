"""The page in a notebook's cell: the kernel answers the widget's messages, and the page shows it."""

from __future__ import annotations

import base64
import builtins
import gc
import json
import pickle
import re
from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from outstride import check, explain
from outstride.errors import ArgumentError, UnsupportedError
from outstride.geometry import solve
from outstride.studio.answers import ANSWERS
from outstride.studio.notebook import live, load_ipython_extension
from tests.studio.browser import launched

pytest.importorskip("anywidget")

UP = "ConvTranspose2d(1, 1, 3, stride=2)"


def asked(page: Any, message: Any) -> list[tuple[Any, bytes]]:
    """What the widget sends back, as its front end would hear it."""
    sent: list[tuple[Any, bytes]] = []
    page.send = lambda content, buffers: sent.append((content, *buffers))
    page._handle_custom_msg(message, [])
    return sent


def answered(page: Any, path: str, question: dict[str, Any] | None = None) -> Any:
    ((told, content),) = asked(page, {"id": "a-1", "path": path, "question": question or {}})
    assert told == {"id": "a-1", "status": 200, "media_type": "application/json"}
    return json.loads(content)


def test_the_kernel_answers_what_the_page_asks_over_http() -> None:
    page = live(UP)
    assert answered(page, "start") == {"layer": UP, "size": "", "model": ""}
    question = {"layer": UP, "size": "3x3"}
    assert answered(page, "ask/layer", question) == json.loads(json.dumps(ANSWERS["layer"](question)))


def test_a_file_comes_as_bytes() -> None:
    question = {"layer": UP, "view": "stamps", "format": "gif"}
    ((told, content),) = asked(live(UP), {"id": 7, "path": "save", "question": question})
    assert told == {"id": 7, "status": 200, "media_type": "image/gif"}
    assert content.startswith(b"GIF8")


@pytest.mark.parametrize(
    ("path", "question", "status", "said"),
    [
        ("ask/nothing", {}, 404, "no such question"),
        (7, {}, 404, "no such question"),
        ("ask/solve", {"scale": "x"}, 422, "legal:"),
        ("ask/model", {}, 404, "no such question"),
    ],
)
def test_bad_questions_get_one_sentence(path: Any, question: Any, status: int, said: str) -> None:
    ((told, content),) = asked(live(UP), {"id": 1, "path": path, "question": question})
    assert told["status"] == status
    assert said in json.loads(content)["error"]


@pytest.mark.parametrize("message", [None, [], "x", {"id": 1, "path": "start", "question": []}, {"id": 1}])
def test_what_is_no_question_gets_nothing(message: Any) -> None:
    assert asked(live(UP), message) == []


def test_an_explanation_brings_its_numbers() -> None:
    begun = answered(live(explain("Conv1d(1, 1, 2)", [3, 1, 2.5])), "start")
    assert (begun["layer"], begun["size"], begun["x"], begun["w"]) == (
        "Conv1d(1, 1, 2)", "3", "3.0,1.0,2.5", "1.0,2.0"
    )  # fmt: skip


def test_a_layer_brings_its_weights() -> None:
    layer = nn.Conv2d(1, 1, 3)
    begun = answered(live(layer), "start")
    assert begun["w"] == ",".join(map(repr, layer.weight.double().ravel().tolist()))
    assert layer.bias is not None
    assert begun["b"] == repr(layer.bias.item())
    large = live(nn.Conv2d(64, 64, 31))
    assert answered(large, "start")["layer"] == "Conv2d(64, 64, 31)"


def test_a_solution_opens_the_solver() -> None:
    found = solve(5, 9)
    begun = answered(live(found), "start")
    assert begun["layer"] == repr(found[0].spec)
    assert (begun["size"], begun["tab"]) == ("5x5", "solver")
    assert answered(live(found[1]), "start")["layer"] == repr(found[1].spec)


def test_a_model_is_its_graph() -> None:
    page = live(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 1, 8, 8))
    assert answered(page, "start")["model"] == "Sequential"
    assert [node["kind"] for node in answered(page, "ask/model")["nodes"]] == ["input", "conv", "relu"]
    assert "Conv2d" in page.still


def test_a_report_is_the_model_that_was_checked() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    report = check(model, (1, 1, 8, 8))
    page = live(report)
    assert answered(page, "start")["model"] == "Sequential"
    assert answered(page, "ask/model")["shape"] == [1, 1, 8, 8]
    assert page.still == report._repr_html_()
    with pytest.raises(ArgumentError, match="must be left out beside a report"):
        live(report, (1, 1, 8, 8))
    assert pickle.loads(pickle.dumps(report)) == report


def test_a_report_does_not_keep_its_model() -> None:
    report = check(nn.Conv2d(1, 2, 3), (1, 1, 8, 8))
    gc.collect()
    assert report.checked() is None
    with pytest.raises(ArgumentError, match="of a model that somebody holds"):
        live(report)


def test_without_a_kernel_there_is_the_html_that_moves() -> None:
    shown = explain(UP)
    assert live(shown).still == shown.html("stamps")


@pytest.mark.parametrize(
    ("shown", "shape", "said"),
    [
        ("Conv2d(1)", None, "'kernel_size' must be given"),
        (nn.ReLU(), None, "must be a convolution or pooling layer"),
        (UP, (1, 1, 8, 8), "'input_shape' must be left out"),
        (solve(1, 1, kernel_size=5, padding=0), None, "'shown' must hold a layer"),
    ],
)
def test_what_cannot_be_shown_is_refused(shown: Any, shape: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(said)):
        live(shown, shape)


def test_without_its_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "outstride.studio.widget":
            raise ModuleNotFoundError("No module named 'anywidget'", name="anywidget")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedError, match=re.escape("pip install 'outstride[notebook]'")):
        live(UP)


def test_the_extension_shows_results_live_and_keeps_their_html() -> None:
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    shell = interactive.InteractiveShell()
    load_ipython_extension(shell)
    model = nn.Conv2d(1, 2, 3)
    for shown in (explain("Conv1d(1, 1, 3)"), solve(5, 9), check(model, (1, 1, 8, 8))):
        data, _ = shell.display_formatter.format(shown)
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
        assert data["text/html"] == shown._repr_html_()
    gone = check(nn.Conv2d(1, 2, 3), (1, 1, 8, 8))
    gc.collect()
    for shown in (solve(1, 1, kernel_size=5, padding=0), gone):
        data, _ = shell.display_formatter.format(shown)
        assert set(data) == {"text/html", "text/plain"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as made:
        yield made


# The front end of a widget, as far as a module of anywidget sees it.
CELL = """<!doctype html><title>a notebook</title><div id=cell></div><script type=module>
const state = await kernel('state'), heard = new Set()
const model = {
  get: name => state[name], on: (_, act) => heard.add(act), off: (_, act) => heard.delete(act),
  send: async message => {
    for (const [told, text] of await kernel(message)) {
      const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0))
      for (const act of heard) act(told, [new DataView(bytes.buffer)])
    }
  },
}
const written = new Blob([state._esm], { type: 'text/javascript' })
const { default: widget } = await import(URL.createObjectURL(written))
widget.render({ model, el: document.getElementById('cell') })
</script>"""


class Cell:
    """A widget in a page of the browser, with this process for a kernel, or with none."""

    def __init__(self, browser: Any, page: Any, kernel: bool = True) -> None:
        self.widget, self.kernel = page, kernel
        self.context = browser.new_context(viewport={"width": 1440, "height": 1000}, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.expose_function("kernel", self.answer)
        self.page.route(
            "http://notebook.test/**", lambda route: route.fulfill(body=CELL, content_type="text/html")
        )
        self.page.goto("http://notebook.test/lab")
        self.inside = self.page.frame_locator("iframe")

    def answer(self, message: Any) -> Any:
        if message == "state":
            state = {name: getattr(self.widget, name) for name in ("_esm", "files", "still", "height")}
            soon = state["_esm"].replace("PATIENCE = 6000", "PATIENCE = 50")
            return state if self.kernel else {**state, "_esm": soon}
        sent = asked(self.widget, message) if self.kernel else []
        return [(told, base64.b64encode(content).decode()) for told, content in sent]


def test_a_cell_shows_the_page_and_answers_it(browser: Any) -> None:
    cell = Cell(browser, live(explain(UP, [[1, 2], [3, 4]])))
    cell.inside.locator("html[data-ready=yes]").wait_for()
    assert cell.inside.locator("#layer").input_value() == UP
    assert cell.inside.locator(".sizes").inner_text().split() == ["2", "×", "2", "→", "5", "×", "5"]
    assert cell.inside.locator("#tool-share").count() == 0
    cell.inside.locator("#layer").fill("Conv2d(1, 1, 3, padding=1)")
    cell.inside.get_by_role("tab", name="Window").wait_for()
    cell.inside.get_by_role("tab", name="Solver").click()
    cell.inside.locator(".found li").first.wait_for()
    assert cell.said == []
    assert cell.page.url == "http://notebook.test/lab"
    cell.context.close()


def test_a_cell_shows_a_model(browser: Any) -> None:
    cell = Cell(browser, live(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 1, 8, 8)))
    cell.inside.locator(".network .plate").first.wait_for()
    assert cell.said == []
    cell.context.close()


def test_a_cell_without_a_kernel_steps_by_itself(browser: Any) -> None:
    cell = Cell(browser, live(UP), kernel=False)
    cell.inside.locator("h1 code").wait_for(timeout=15_000)
    assert cell.inside.locator("svg").count() > 0
    cell.context.close()
