"""Scenes as one page that works from a file: a tab for each view, with buttons and keys to step."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from outstride.explanation.player import player
from outstride.explanation.scene import Scene

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font-family:system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222;"
    "background:#fff}h1{font-size:1.2em;overflow-wrap:anywhere}code{background:#eef1f4;padding:.1em .3em}"
    "@media(prefers-color-scheme:dark){body{color:#e9eaec;background:#17191d}code{background:#2b2e34}}"
)


def page(heading: str, scenes: Sequence[Scene], seconds: float = 1.0) -> str:
    """A whole HTML document."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(heading)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1><code>{escape(heading)}</code></h1>{player(heading, scenes, seconds)}</main></body></html>"
    )
