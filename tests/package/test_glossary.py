"""GLOSSARY.md: every term is in one place, and the code has it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import ROOT

SOURCE = ROOT / "src" / "outstride"
#: Classes that are their own explanation, or stand for a family whose word is in the list.
FAMILIES = (
    "Call",
    "Run",
    "Plan",
    "Problem",
    "Arguments",
    "Results",
    "Operands",
    "Phases",
    "Shape",
    "Dataflow",
)


class Entry(NamedTuple):
    """A row of a table."""

    term: str
    meaning: str
    file: str
    name: str


def entries() -> list[Entry]:
    text = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
    return [
        Entry(*row)
        for row in re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([\w/.]+)`, `(\w+)` \|$", text, re.MULTILINE)
    ]


def defined(path: Path) -> set[str]:
    """The names that a module defines at its top."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_every_row_of_the_tables_is_an_entry() -> None:
    text = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and line != "| term | what it is | where |"
    ]
    assert len(rows) == len(entries()) > 60


def test_a_term_stands_once() -> None:
    terms = Counter(term for entry in entries() for term in re.split(r", (?![^(]*\))", entry.term))
    assert not {term for term, count in terms.items() if count > 1}


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.term)
def test_a_term_is_where_its_line_says(entry: Entry) -> None:
    path = (ROOT if entry.file.startswith("tests/") else SOURCE) / entry.file
    assert path.is_file(), f"{entry.term}: there is no {entry.file}"
    assert entry.name in defined(path), f"{entry.term}: {entry.file} defines no {entry.name}"
    assert not entry.meaning.endswith(".")


def test_what_the_planner_decides_has_its_word_in_the_list() -> None:
    """A new notion of the planner comes with its line."""
    named = {entry.name for entry in entries()}
    rooms = SOURCE / "engine" / "planner"
    classes = {
        node.name
        for path in rooms.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    missing = {name for name in classes - named if not name.startswith("_") and not name.endswith(FAMILIES)}
    assert not missing
