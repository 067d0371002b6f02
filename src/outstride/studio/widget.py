"""The page as a widget: its files for a frame in the notebook, and an answer to each of its messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anywidget import AnyWidget
from traitlets import Dict, Unicode

from outstride.studio.files import page_folder
from outstride.studio.replies import Question, refusal, reply

#: The page's texts; its photograph is sent with an answer.
_TEXTS = (".html", ".css", ".js", ".svg")
_HOST = "notebook.js"


class Page(AnyWidget):
    """What a cell shows; ``still`` is a document for where no kernel answers."""

    _esm = (page_folder() / _HOST).read_text("utf-8")
    files = Dict().tag(sync=True)
    still = Unicode().tag(sync=True)
    height = Unicode().tag(sync=True)

    def __init__(self, asked: Mapping[str, Callable[[Question], Any]], still: str, height: str) -> None:
        texts = (path for path in page_folder().iterdir() if path.suffix in _TEXTS and path.name != _HOST)
        self._asked = dict(asked)
        super().__init__(
            files={path.name: path.read_text("utf-8") for path in texts}, still=still, height=height
        )
        self.on_msg(self._hear)

    def _hear(self, widget: object, message: object, buffers: object) -> None:
        """A question of the page: its number, its path and what it asks."""
        del widget, buffers
        if not isinstance(message, dict) or not isinstance(message.get("question"), dict):
            return
        path = message.get("path")
        answer = self._asked.get(path) if isinstance(path, str) else None
        made = (
            refusal(404, f"no such question: {str(path)[:60]!r}")
            if answer is None
            else reply(answer, message["question"])
        )
        told = {"id": message.get("id"), "status": made.status, "media_type": made.media_type}
        self.send(told, [made.content])
