"""How the site is built: ``sphinx-build -W --keep-going docs site``."""

from __future__ import annotations

import re
from typing import Any

import outstride

project = "outstride"
author = "outstride"
release = version = outstride.__version__
html_title = f"outstride {version}"
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["width.css"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["decisions/0000-template.md", "performance/*.md"]  # the latter are parts of a page
myst_heading_anchors = 3
# The prompts are for the reader who follows, not for the one who copies.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # torch's own texts belong to torch's site
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Law", "Source"]

# Docstrings are prose: what reStructuredText would take for markup in a formula is meant as it stands.
_SENTENCE = re.compile(r"(Law|Source): (.+)")
_LITERAL = re.compile(r"``.*?``")
_MARKUP = re.compile(r"[*|\\]|(?<=\w)_(?!\w)")


def _plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Rewrite a docstring's lines in place."""
    result: list[str] = []
    example = section = False
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        section = section and bool(line.strip())
        started = _SENTENCE.match(line)
        if started:
            section = True
            result += [f"{started[1]}:", "    " + _escaped(started[2])]
        elif section:
            result.append("    " + _escaped(line.strip()))
        else:
            result.append(line if example else _escaped(line))
    lines[:] = result
    _sentences[name] = result


def _escaped(line: str) -> str:
    pieces, start = [], 0
    for literal in _LITERAL.finditer(line):
        pieces += [_MARKUP.sub(r"\\\g<0>", line[start : literal.start()]), literal[0]]
        start = literal.end()
    return "".join([*pieces, _MARKUP.sub(r"\\\g<0>", line[start:])])


_sentences: dict[str, list[str]] = {}


def _keep(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Napoleon takes what stands before a colon in a property's sentence for its type: keep the sentence."""
    if what in ("attribute", "data", "property"):
        lines[:] = _sentences.pop(name, lines)


#: Pages in another language than English, by where they lie.
LANGUAGES = {"tutorials/zh/": "zh-CN"}


def _declare(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:  # noqa: ARG001
    """Say which language a page is in: screen readers, hyphenation and the choice of a font go by it."""
    for folder, language in LANGUAGES.items():
        if pagename.startswith(folder):
            context["language"] = language


def setup(app: Any) -> None:
    app.connect("html-page-context", _declare)
    app.connect("autodoc-process-docstring", _plain, priority=100)
    app.connect("autodoc-process-docstring", _keep, priority=900)  # napoleon's is 500
