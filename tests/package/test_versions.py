"""The table of versions: what is installed for it, what it says, and that the documents say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ci import versions
from ci.versions import CORE, ENVIRONMENTS, EXTRAS, Environment, Outcome
from packaging.specifiers import SpecifierSet

from tests import ROOT

_PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_oldest_python_is_the_floor_and_is_given_the_lowest_of_everything(tmp_path: Path) -> None:
    oldest = ENVIRONMENTS[0]
    (floor,) = re.findall(r'^requires-python = "(.+)"$', _PROJECT, re.MULTILINE)
    assert floor == f">={oldest.python}"
    _, users, tests = versions.installation(oldest, tmp_path, own_torch=False)
    assert users[users.index("--resolution") + 1] == "lowest-direct"
    assert "--resolution" not in tests
    assert users[users.index("--torch-backend") + 1] == "cpu"


def test_every_python_of_the_table_is_one_that_the_project_states() -> None:
    stated = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', _PROJECT)
    assert sorted(stated, key=_key) == sorted({each.python for each in ENVIRONMENTS}, key=_key)
    (floor,) = re.findall(r'^requires-python = "(.+)"$', _PROJECT, re.MULTILINE)
    assert all(SpecifierSet(floor).contains(python) for python in stated)


def _key(python: str) -> list[int]:
    return [int(part) for part in python.split(".")]


def test_pinned_versions_lie_in_the_range() -> None:
    (torch,) = re.findall(r'^    "torch(.+)",$', _PROJECT, re.MULTILINE)
    pins = [pin for each in ENVIRONMENTS for pin in each.pins]
    assert pins
    for pin in pins:
        (found,) = re.findall(r"^torch==(\d+\.\d+)\.\*$", pin)
        assert SpecifierSet(torch).contains(found)


def test_what_is_installed_and_run_exists() -> None:
    for extra in (*EXTRAS, "core-test"):
        assert re.search(rf"^{extra} = \[", _PROJECT, re.MULTILINE), extra
    for name in CORE:
        assert (ROOT / "tests" / name).exists(), name


def test_an_environment_that_is_there_is_used_again(tmp_path: Path) -> None:
    python = versions.interpreter(tmp_path)
    python.parent.mkdir(parents=True)
    python.touch()
    commands = list(versions.installation(ENVIRONMENTS[-1], tmp_path, own_torch=True))
    assert [command[:3] for command in commands] == [["uv", "pip", "install"]] * 2
    assert not any("--torch-backend" in command for command in commands)


def test_counts_and_failures_are_read_from_what_pytest_prints() -> None:
    lines = [
        "..F.s [100%]\n",
        "FAILED tests/nn/test_a.py::test_b[1 passed] - AssertionError: 3 failed\n",
        "ERROR tests/nn/test_c.py - ImportError\n",
        "1 failed, 20 passed, 3 skipped, 7 deselected, 1 error in 75.61s (0:01:15)\n",
    ]
    failures, counts = versions.summary(lines)
    assert [failure.split()[1] for failure in failures] == [
        "tests/nn/test_a.py::test_b[1",
        "tests/nn/test_c.py",
    ]
    assert counts == {"failed": 1, "passed": 20, "skipped": 3, "error": 1}


def test_table_has_a_row_for_each_environment_and_says_what_failed() -> None:
    good = Outcome("oldest", ("3.10.1", "2.4.0", "0.44.0", "1.24.0"), {"passed": 12, "skipped": 1}, [], 2.5)
    bad = Outcome("newest", ("3.14.0", "2.15.0", "0.50.0", "2.5.5"), {"failed": 1}, ["FAILED a - b"], 1.0)
    absent = Outcome("torch-2.8", fault="it could not be made: `uv venv` failed")
    assert (good.passed, bad.passed, absent.passed) == (True, False, False)
    rows = versions.table([good, bad, absent]).splitlines()
    assert rows[2] == "| oldest | 3.10.1 | 2.4.0 | 0.44.0 | 1.24.0 | 12 | 0 | 1 | 2.5 |"
    assert rows[3] == "| newest | 3.14.0 | 2.15.0 | 0.50.0 | 2.5.5 | 0 | 1 | 0 | 1.0 |"
    assert rows[-2:] == ["- newest: `FAILED a - b`", "- torch-2.8: it could not be made: `uv venv` failed"]


def test_no_tests_are_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr("subprocess.run", made)
    monkeypatch.setattr(versions, "versions", lambda _: ("3.10.1",))
    monkeypatch.setattr(versions, "interpreter", lambda _: Path("false"))
    outcome = versions.run(Environment("one", "3.10"), tmp_path, [], own_torch=True)
    assert not outcome.passed
    assert outcome.fault is not None


def test_an_unknown_environment_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SystemExit, match=r"got windows; legal: oldest, .*newest"):
        versions.main(["windows"])


def test_workflow_asks_for_the_environments_by_their_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert versions.main(["--list"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in listed] == [each.name for each in ENVIRONMENTS]
    workflow = (ROOT / ".github" / "workflows" / "versions.yml").read_text(encoding="utf-8")
    assert "ci/versions.py --list" in workflow
    assert "ci/versions.py --jobs 4 ${{ matrix.name }}" in workflow


def test_the_guide_has_a_row_of_both_ends_and_of_no_environment_that_is_gone() -> None:
    guide = (ROOT / "docs" / "guides" / "versions.md").read_text(encoding="utf-8")
    _, passed = guide.split(f"| {' | '.join(versions.COLUMNS)} |")
    rows = dict(re.findall(r"^\| ([\w.-]+) \| (3\.\d+)\.", passed, re.MULTILINE))
    assert {"oldest", "newest"} <= rows.keys()
    assert rows.items() <= {(each.name, each.python) for each in ENVIRONMENTS}
