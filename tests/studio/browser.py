"""The system's Chromium, headless, on a page that is served for the test."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """Where the browser is; the test is skipped where there is none, or nothing to drive it."""
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    pytest.importorskip("playwright")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed (on Debian: apt-get install chromium)")
    return found


@contextmanager
def served(start: dict[str, Any] | None = None, model: Any = None) -> Iterator[str]:
    """A studio in a thread, and its link."""
    from outstride.studio.serving import Studio

    studio = Studio(start or {}, model=model)
    thread = threading.Thread(target=studio.run, daemon=True)
    thread.start()
    try:
        yield studio.link
    finally:
        studio.stop()
        thread.join(30)


@contextmanager
def launched() -> Iterator[Any]:
    """The browser."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
