"""Who gets an answer over HTTP, and what becomes of requests that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from starlette.testclient import TestClient

from outstride.studio import answers, application, replies
from outstride.studio.files import page_folder
from outstride.studio.security import MOST_BYTES

TOKEN, PORT = "the-token", 8765
HOME = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def client() -> Iterator[Any]:
    app = application.application(TOKEN, PORT, {"layer": "Conv2d(1, 1, 3)", "size": ""}, {})
    with TestClient(app, base_url=HOME) as made:
        yield made


def test_the_link_brings_the_page_and_all_that_it_names(client: Any) -> None:
    page = client.get(f"/{TOKEN}/")
    assert page.status_code == 200
    named = set(re.findall(r'(?:src|href)="([\w.]+)"', page.text))
    assert {"studio.js", "studio.css", "mark.svg"} <= named
    scripts = [path.name for path in page_folder().iterdir() if path.suffix == ".js"]
    for name in [*named, *scripts]:
        assert client.get(f"/{TOKEN}/{name}").status_code == 200, name
    for name in scripts:
        for other in re.findall(r"from '\./([\w.]+)'", (page_folder() / name).read_text("utf-8")):
            assert other in scripts, f"{name} imports {other}"


def test_nothing_of_the_page_leads_elsewhere() -> None:
    for path in (path for path in page_folder().iterdir() if path.suffix != ".jpg"):
        text = path.read_text("utf-8")
        there = set(re.findall(r"https?://[^\s'\"]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not there, f"{path.name}: {there}"
        assert "innerHTML" not in text
        assert "eval(" not in text


def test_answers_forbid_whatever_is_not_the_page_itself(client: Any) -> None:
    for address in (f"/{TOKEN}/", "/wrong/"):
        headers = client.get(address).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "address", ["/", "/wrong/", "/start", f"/{TOKEN}x/start", f"/{TOKEN[:-1]}/", "//", "/é/"]
)
def test_a_wrong_token_gets_nothing(client: Any, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 403
    assert "token" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"}, {"host": f"evil.example:{PORT}"}, {"host": "127.0.0.1"},
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "https://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    ],
)  # fmt: skip
def test_another_host_or_origin_gets_nothing(client: Any, headers: dict[str, str]) -> None:
    for answer in (
        client.get(f"/{TOKEN}/start", headers=headers),
        client.post(f"/{TOKEN}/ask/layer", json={"layer": "Conv2d(1, 1, 3)"}, headers=headers),
    ):
        assert answer.status_code == 403
        assert list(answer.json()) == ["error"]


def test_the_page_itself_gets_an_answer(client: Any) -> None:
    headers = {"origin": HOME, "sec-fetch-site": "same-origin"}
    answer = client.post(f"/{TOKEN}/ask/layer", json={"layer": "Conv2d(1, 1, 3)"}, headers=headers)
    assert answer.status_code == 200
    assert answer.json()["output"] == "3x3"
    assert client.get(f"/{TOKEN}/start").json() == {"layer": "Conv2d(1, 1, 3)", "size": ""}


@pytest.mark.parametrize(
    "name", ["../answers.py", "..%2fanswers.py", "answers.py", "%2e%2e/security.py", "nothing.js"]
)
def test_no_other_file_is_served(client: Any, name: str) -> None:
    answer = client.get(f"/{TOKEN}/{name}")
    assert answer.status_code in (403, 404)
    assert "from __future__" not in answer.text


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, b"NaN"])
def test_what_is_no_question_is_refused(client: Any, body: bytes) -> None:
    answer = client.post(f"/{TOKEN}/ask/layer", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "a question must be one JSON object"}


def test_forms_of_other_pages_are_refused(client: Any) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = client.post(f"/{TOKEN}/ask/layer", content=b"{}", headers={"content-type": kind})
        assert answer.status_code == 415


def test_questions_are_bounded(client: Any) -> None:
    question = {"layer": "Conv2d(1, 1, 3)", "more": "x" * MOST_BYTES}
    answer = client.post(f"/{TOKEN}/ask/layer", json=question)
    assert answer.status_code == 413
    assert str(MOST_BYTES) in answer.json()["error"]
    photograph = client.post(
        f"/{TOKEN}/ask/picture", json={"layer": "Conv2d(1, 1, 3)", "file": "x" * (13 << 20)}
    )
    assert photograph.status_code == 413


@pytest.mark.parametrize(
    "question",
    [
        {"layer": 7}, {"layer": "x" * 5000}, {"fields": []}, {"fields": {"kind": "rnn", "nd": 2}},
        {"layer": "Conv2d(1, 1, 3)", "size": "5xx6x7"}, {"layer": "Conv2d(1, 1, 3)", "size": "-1"},
        {"layer": "Conv2d(1, 1, 3)", "size": "9999999"}, {"layer": "Conv2d(1, 1, 3)", "size": ["5"]},
        {"layer": "Conv2d(1, 1, 3)", "numbers": {"input": ["a"]}},
        {"layer": "Conv2d(1, 1, 3)", "numbers": {"kernel": [1e300]}},
        {"layer": "Conv2d(1, 1, 3)", "numbers": {"input": [True] * 4000}},
        {"layer": "Conv2d(1, 1, 3)", "numbers": [1]},
    ],
)  # fmt: skip
def test_bad_questions_get_one_clear_sentence(client: Any, question: dict[str, Any]) -> None:
    answer = client.post(f"/{TOKEN}/ask/layer", json=question)
    said = answer.json()
    sentence = said.get("error") or said["refused"]
    assert answer.status_code in (200, 422)
    assert "legal:" in sentence
    assert "Traceback" not in sentence


def test_a_crash_of_one_request_leaves_the_page(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(question: Any) -> Any:
        del question
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(replies, "ANSWERS", {**answers.ANSWERS, "layer": broken})
    with TestClient(application.application(TOKEN, PORT, {}, {}), base_url=HOME) as other:
        answer = other.post(f"/{TOKEN}/ask/layer", json={})
        assert answer.status_code == 500
        assert "ZeroDivisionError" in answer.json()["error"]
        assert "secret" not in answer.text
        assert other.post(f"/{TOKEN}/ask/solve", json={"scale": "2"}).status_code == 200


def test_a_view_is_handed_over_as_a_file(client: Any) -> None:
    question = {"layer": "Conv1d(1, 1, 3)", "view": "window", "format": "svg"}
    answer = client.post(f"/{TOKEN}/save", json=question)
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.content.startswith(b"<svg")
