"""The built site: public names, links, anchors, the language of pages, and nothing wider than its column."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import inspect
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import outstride
from tests import ROOT
from tests.docs.test_docs import public_functions
from tests.studio.browser import launched

pytestmark = pytest.mark.slow
#: Pages that Sphinx makes for itself, without a text of ours.
MADE = ("genindex.html", "search.html", "py-modindex.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; a warning is an error."""
    for package in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("the site needs the extra 'docs'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@dataclass
class Page(HTMLParser):
    """What a page leads to, and what in it can be led to."""

    path: Path
    language: str = ""
    ids: set[str] = field(default_factory=set)
    targets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "html":
            self.language = named.get("lang", "")
        self.ids |= {named[name] for name in ("id", "name") if name in named}
        self.targets += [named[name] for name in ("href", "src") if named.get(name)]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_it_explains_every_public_name(site: Path) -> None:
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    inventory = {line.split(" ")[0] for line in zlib.decompress(content).decode().splitlines()}
    objects = [name for name in outstride.__all__ if name != "__version__"]
    wanted = {f"outstride.{name}" for name in objects} | public_functions().keys()
    for name in objects:
        module = getattr(outstride, name)
        if isinstance(module, ModuleType):
            members = getattr(module, "__all__", [])
            wanted |= {f"outstride.{name}.{member}" for member in members if not _is_alias(module, member)}
    assert sorted(wanted - inventory) == []


def _is_alias(module: ModuleType, member: str) -> bool:
    """A name for a type, which has no docstring of its own."""
    return not (inspect.isroutine(thing := getattr(module, member)) or inspect.isclass(thing))


def test_links_and_anchors_inside_it_lead_somewhere(pages: dict[Path, Page], site: Path) -> None:
    lost = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            missing = parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].ids
            if missing or not to.is_file() or not to.is_relative_to(site):
                lost.append(f"{path.relative_to(site)}: {target}")
    assert lost == []


def test_a_page_declares_its_language(pages: dict[Path, Page], site: Path) -> None:
    found = {path.relative_to(site).as_posix(): page.language for path, page in pages.items()}
    chinese = {name for name, language in found.items() if language == "zh-CN"}
    assert chinese == {name for name in found if name.startswith("tutorials/zh/")}
    assert len(chinese) == 5
    assert set(found.values()) == {"en", "zh-CN"}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on the loopback address."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


#: What sticks out: the page itself, and what lies beyond the column without a box of its own that scrolls.
_WIDER = """
() => {
  const column = document.querySelector('article').getBoundingClientRect()
  const found = []
  if (document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth) found.push('the page')
  for (const element of document.querySelectorAll('article table, article pre, article img, article p')) {
    const box = element.getBoundingClientRect()
    let inside = false
    for (let at = element; at.tagName !== 'ARTICLE'; at = at.parentElement)
      inside = inside || getComputedStyle(at).overflowX !== 'visible'
    if (box.width && box.right > column.right + 1 && !inside)
      found.push(`${element.tagName} ${element.textContent.slice(0, 40) || element.alt}`)
  }
  return found
}
"""
#: What scrolls sideways in a box of its own: code, by its longest line, and tables, by their beginning.
_SCROLLING = """
() => [...document.querySelectorAll('article pre, article .table-wrapper')]
  .filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.tagName === 'PRE'
    ? box.textContent.split('\\n').reduce((a, b) => a.length > b.length ? a : b)
    : `table: ${box.textContent.trim().slice(0, 40)}`)
"""
#: A line of code is no longer; what is printed may be.
LINE = 110
#: The page whose tables have a column for every library.
WIDE = "performance.html"


@pytest.mark.timeout(900)  # each page is loaded with its pictures
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_its_column(
    width: int, address: str, pages: dict[Path, Page], site: Path
) -> None:
    wider: dict[str, list[str]] = {}
    with launched() as browser:
        window = browser.new_page(viewport={"width": width, "height": 900})
        for path in pages:
            name = path.relative_to(site).as_posix()
            if name not in MADE:
                window.goto(f"{address}/{name}")
                found = window.evaluate(_WIDER)
                if width > 1000 and name != WIDE:
                    found += [text for text in window.evaluate(_SCROLLING) if len(text) <= LINE]
                if found:
                    wider[name] = found
    assert wider == {}
