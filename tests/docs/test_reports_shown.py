"""Reports of compiled models that pages print: all but times is what `fusions` says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

from tests import ROOT
from tests.docs.test_docs import blocks, page_names

SHOWN = ("README.md", "docs/guides/compile.md")


def without_times(report: str) -> list[str]:
    """The lines, their columns parted by two spaces, without what depends on the machine."""
    lines = [line for line in report.splitlines() if not line.startswith("predicted")]
    return [re.sub(r" {2,}", "  ", re.sub(r"\b\d+\.\d{3}  ", "  ", line)) for line in lines]


@pytest.mark.parametrize("page", SHOWN)
def test_a_page_shows_what_a_report_says(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.compiler.reset()
    shown, names = "", page_names(monkeypatch)
    for block in blocks(ROOT / page):
        if block.language == "python":
            told = io.StringIO()
            with contextlib.redirect_stdout(told):
                exec(compile(block.text, page, "exec"), names)
            shown = told.getvalue() if "fusions" in block.text else ""
        elif block.language == "text" and shown:
            assert without_times(block.text) == without_times(shown)
            return
    pytest.fail(f"{page} shows no report")
