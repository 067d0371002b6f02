"""Documentation runs: every Python block and docstring example is executed, every link leads somewhere."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import outstride
from outstride.cli import main as outstride_command
from tests import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCE = ROOT / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SOURCE / "outstride").rglob("*.py"))
    if path.name != "__main__.py"
}
#: Those whose text has examples.
SHOWN = [name for name, path in MODULES.items() if ">>>" in path.read_text(encoding="utf-8")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
EXAMPLE_STATEMENTS = 4
DECISION_LINES = 60
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block of a page: its language, its text and the line where the text begins."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield Block(match[1], match[2], text[: match.start(2)].count("\n"))


def with_blocks(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(block.language in languages for block in blocks(page))]


def to_run() -> list[Path]:
    """Pages with Python in them; a translation's is the original's (test_tutorials.py), so it runs once."""
    return [page for page in with_blocks("python", "pycon") if page.parent.name != "zh"]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run_doctest(test: doctest.DocTest) -> None:
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
    assert not result.failed, "".join(report)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("0*.md")), ids=page_name)
def test_a_decision_is_one_page(page: Path) -> None:
    lines = len(page.read_text(encoding="utf-8").splitlines())
    assert lines <= DECISION_LINES, f"{page.name} has {lines} lines; legal: at most {DECISION_LINES}"


NAMING_MODULES = [
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "docs" / "decisions").glob("0*.md"),
]


@cache
def _files() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in ROOT.glob("[csetd]*/**/*.py")]


@pytest.mark.parametrize("page", sorted(NAMING_MODULES), ids=page_name)
def test_modules_that_a_page_names_exist(page: Path) -> None:
    named = set(re.findall(r"`([\w/.]+\.py)`", page.read_text(encoding="utf-8")))
    absent = {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in _files())}
    assert not absent, f"{page.name} names {sorted(absent)}"


def page_names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a page: those of a module, which torch's tracer imports to look them up."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    return vars(module)


@pytest.mark.parametrize("page", to_run(), ids=page_name)
def test_python_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is read from top to bottom, so its blocks share their names."""
    monkeypatch.chdir(tmp_path)
    names = page_names(monkeypatch)
    for block in blocks(page):
        if block.language not in ("python", "pycon"):
            continue
        if ">>>" in block.text:
            parsed = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line)
            parsed.globs = names  # the parser hands out a copy
            run_doctest(parsed)
        else:
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


def docstring_tests(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("name", SHOWN)
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for test in docstring_tests(importlib.import_module(name)):
        run_doctest(test)
        assert sum(example.source.count("\n") for example in test.examples) <= EXAMPLE_STATEMENTS, test.name


def test_no_example_is_made_where_no_text_has_one() -> None:
    others = [importlib.import_module(name) for name in MODULES if name not in SHOWN]
    assert len(others) > len(SHOWN)
    assert not [test.name for module in others for test in docstring_tests(module)]


def public_functions() -> dict[str, Any]:
    """Every function and class that a user reaches through the public names."""
    found: dict[str, Any] = {}
    for name in outstride.__all__:
        value = getattr(outstride, name)
        if not isinstance(value, ModuleType):
            found[f"outstride.{name}"] = value
            continue
        listed = getattr(value, "__all__", [n for n in vars(value) if not n.startswith("_")])
        for member in listed:
            thing = getattr(value, member)
            if inspect.isroutine(thing) and getattr(thing, "__module__", "").startswith("outstride."):
                found[f"outstride.{name}.{member}"] = thing
    del found["outstride.__version__"]
    return found


def test_public_functions_explain_themselves_with_an_example() -> None:
    mute = [name for name, thing in public_functions().items() if ">>>" not in (inspect.getdoc(thing) or "")]
    assert mute == []


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|src=\"([^\"]+)\"")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [a or b for a, b in LINK.findall(text)]
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and the site make it: words with hyphens between, no punctuation."""
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_anchors_lead_to_headings(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    lost = []
    for target in (a or b for a, b in LINK.findall(text)):
        path, _, anchor = target.partition("#")
        if not anchor or re.match(r"[a-z]+:", target):
            continue
        to = page.parent / path if path else page
        if to.suffix == ".md" and anchor not in anchors(to):
            lost.append(target)
    assert lost == []


def readme_command(which: str) -> str:
    """The fenced block after the comment that names it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {which} command -->\s*```sh\n(.*?)```", text, flags=re.DOTALL)
    assert found, f"README.md has no {which} command"
    return found[1].strip()


@pytest.mark.parametrize("which", ["demo", "test"])
def test_readme_sets_up_and_runs_in_one_line(which: str) -> None:
    command = readme_command(which)
    assert "\n" not in command
    assert "-c constraints.txt" in command


def test_readme_test_command_checks_style_types_and_behaviour_in_a_fresh_environment() -> None:
    steps = [step.strip() for step in readme_command("test").split("&&")]
    assert steps[0] == "python3 -m venv --clear .venv"
    tools = [Path(step.split()[0]).name for step in steps[2:]]
    assert tools == ["ruff", "ruff", "mypy", "pytest"]


def test_ci_extracts_the_readmes_test_command() -> None:
    extraction = re.search(
        r"^command=\$\((awk .*)\)$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE
    )
    assert extraction
    done = subprocess.run(["bash", "-c", extraction[1]], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == readme_command("test")


def shell_verbs() -> list[str]:
    lines = [block.text for page in PAGES for block in blocks(page) if block.language in ("sh", "console")]
    return sorted({verb for text in lines for verb in re.findall(r"\boutstride ([a-z]+)", text)})


@pytest.mark.parametrize("verb", shell_verbs())
def test_documented_verb_exists(verb: str) -> None:
    with pytest.raises(SystemExit) as stop:
        outstride_command([verb, "--help"])
    assert stop.value.code == 0
