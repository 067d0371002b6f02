"""The tests themselves: folders that mirror the source, short files, one way to compare, no private ids."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests import ROOT

TESTS, SOURCE = ROOT / "tests", ROOT / "src" / "outstride"
FILES = sorted(TESTS.rglob("*.py"))
LINES_PER_FILE = 500
#: Folders that no package of the source has: what they hold is said of the whole.
OF_THE_WHOLE = {
    "cases",  # the table that every law runs over
    "docs",  # pages, examples and the site
    "fuzz",  # drawn layers
    "fuzz/graphs",  # drawn models
    "laws",  # what holds for every case
    "outside",  # the suites of other libraries
    "package",  # the wheel, the imports, the tests
}
POLICY = TESTS / "tolerance.py"
#: What other libraries compare numbers with; their tolerances, equal NaN and signs of zeros are not ours.
COMPARISONS = {
    "allclose", "approx", "array_equal", "array_equiv", "assert_allclose", "assert_almost_equal",
    "assert_approx_equal", "assert_array_almost_equal", "assert_array_equal", "assert_array_max_ulp",
    "assert_close", "assert_equal", "equal", "isclose",
}  # fmt: skip
#: Lists and papers that a reader of the repository does not have, and the ids of their rows.
PRIVATE = re.compile(
    "|".join((
        r"MISSION", r"\b(?:DESIGN|STYLE|GROUND|API)\.md\b", r"(?<![\w/])shared/", r"\bissues? #?\d",
        r"(?<![\w.\-])[A-C]\d{1,2}(?![\w.\-])", r"\btest_[a-z]\d{1,2}_", r"\b[Tt]utorials? 0\d\d",
    ))
)  # fmt: skip


def packages(root: Path) -> Iterator[str]:
    """Every package below a folder, as a path from it."""
    for init in root.rglob("__init__.py"):
        if init.parent != root:
            yield init.parent.relative_to(root).as_posix()


def test_folders_mirror_the_packages_of_the_source() -> None:
    of_tests, of_source = set(packages(TESTS)), set(packages(SOURCE))
    assert of_tests - of_source == OF_THE_WHOLE
    for path in TESTS.glob("test_*.py"):
        assert (SOURCE / path.name.removeprefix("test_")).exists(), f"{path.name} is named after no module"


def test_files_are_short() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in FILES}
    long = {path: count for path, count in lines.items() if count > LINES_PER_FILE}
    assert not long, f"lines of files; legal: at most {LINES_PER_FILE}"


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a module names a comparison of another library's: line and name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in COMPARISONS:
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in COMPARISONS)


def test_numbers_are_compared_by_the_one_policy() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES if path != POLICY
        for line, name in compared(ast.parse(path.read_text(encoding="utf-8")))
    ]  # fmt: skip
    assert not found, f"legal: the assertions of {POLICY.name}"


def test_a_comparison_of_another_library_is_found() -> None:
    """Else the test above would hold for nothing."""
    for text in ("torch.equal(a, b)", "a == pytest.approx(b)", "from numpy.testing import assert_allclose"):
        assert list(compared(ast.parse(text)))


def test_nothing_names_a_private_list() -> None:
    read = [
        *(path for path in FILES if path != Path(__file__)), *sorted(SOURCE.rglob("*.py")),
        *sorted((ROOT / "examples").rglob("*.py")), *sorted((ROOT / "docs").rglob("*.md")),
        *sorted(ROOT.glob("*.md")),
    ]  # fmt: skip
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in read
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := PRIVATE.search(line))
    ]
    assert not found, "legal: what it is, in words"
