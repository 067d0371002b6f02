"""The notebook of the demo: what a reader of it meets first, and that all of it runs."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests import ROOT
from tests.tolerance import assert_within

PATH = ROOT / "examples" / "super_resolution.ipynb"


def cells(kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(PATH.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in found if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_it_begins_with_one_line_that_installs_and_holds_no_results() -> None:
    first, *others = cells("code")
    assert source(first) == '%pip install -q "outstride[demo]"'
    assert first["metadata"]["tags"] == ["install"]
    assert not [cell for cell in others if re.search(r"^[%!]", source(cell), re.MULTILINE)]
    assert not [cell for cell in [first, *others] if cell["outputs"] or cell["execution_count"]]
    text = "\n".join(map(source, others))
    assert [
        word for word in ("accelerate(", "torch.compile(", "explain(", "imshow(") if word not in text
    ] == []


def test_its_links_are_addresses() -> None:
    """In Colab nothing of the repository lies beside it."""
    links = re.findall(r"\]\(([^)]*)\)", "\n".join(map(source, cells("markdown"))))
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


@pytest.mark.slow
def test_all_of_it_runs() -> None:
    """As it is, but for the line that installs, and with few steps."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    notebook.cells = [cell for cell in notebook.cells if "install" not in cell.metadata.get("tags", [])]
    (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source, changed = re.subn(r"^STEPS = \d+$", "STEPS = 20", parameters.source)
    assert changed == 1
    nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    told = "".join(
        output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"
    )
    assert "the same bits: True" in told
    (difference,) = re.findall(r"largest difference: (\S+)", told)
    assert_within(
        float(difference), 0.0, 1e-4, "torch and this package sum some hundred terms in their own orders"
    )
    shown = [output.data for output in outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == 2
    pages = [data["text/html"] for data in shown if "text/html" in data]
    assert any("<table" in page for page in pages)
    assert any("class='outstride'" in page for page in pages)
