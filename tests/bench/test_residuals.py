"""Residuals: beside ours stands that of the direct chain, wherever a layer takes short algorithms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from outstride.bench import document, report, results, table
from outstride.bench.cases import Case
from outstride.bench.contenders import CONTENDERS
from outstride.bench.contest import Contest, Rules, Timing
from outstride.bench.process import Process
from outstride.bench.results import Results
from outstride.bench.table import Job, Row
from outstride.bench.work import Work, residual
from outstride.layer.spec import ConvSpec
from tests.tolerance import assert_within_roundings

QUICK = Rules(rounds=1, round_seconds=0.001, limit_seconds=60, patience_seconds=0)
DENSE, THIN = "Conv2d(64, 64, 3)", "Conv2d(4, 4, 3)"
NAMES = ("outstride", "torch")


def case_of(text: str) -> Case:
    return Case.from_spec(ConvSpec.parse(text), 1, (9, 11), text)


def row(text: str, ours: float, direct: float | None) -> Row:
    timings = {
        "outstride": Timing([2.0], residual=ours, direct_residual=direct),
        "torch": Timing([3.0], residual=4e-7),
    }
    job = Job.of_case(case_of(text), "layers")
    return Row(job, 1, "float32", False, timings, 8_000_000, 4_000_000, 8e9, 1e9, "abc")


ROWS = (row(DENSE, 1e-7, 2e-7), row("Conv2d(64, 72, 3)", 2e-7, 2e-7), row(THIN, 3e-7, None))


@pytest.mark.parametrize(("text", "short"), [(DENSE, True), (THIN, False)])
@pytest.mark.parametrize("name", ["outstride", "outstride_channels_last", "torch"])
@pytest.mark.parametrize("training", [False, True])
def test_who_computes_by_short_algorithms_tells_what_the_direct_chain_gives(
    text: str, short: bool, name: str, training: bool
) -> None:
    work = Work({"case": case_of(text).to_dict()}, "float32", training)
    exact = work.reference()
    (form,) = CONTENDERS[name].forms(work, 1)
    assert (form.direct is not None) is (short and name != "torch")
    found = form.read(form.run())
    if form.direct is not None:
        direct = form.direct()
        assert residual(direct, exact) < 1e-5
        assert bool((found[0] != direct[0]).any())
    assert residual(found, exact) < 1e-5


def test_a_gradient_may_be_short_where_the_layer_is_not() -> None:
    """Its adjoint sums over the outputs."""
    thin = {"case": case_of("Conv2d(4, 4, 3)").to_dict()}
    assert not Work(thin, "float32", True).takes_short()
    wide = {"case": case_of("ConvTranspose2d(64, 64, 4)").to_dict()}
    assert [Work(wide, "float32", training).takes_short() for training in (False, True)] == [False, True]
    assert not Work({"case": case_of(DENSE).to_dict()}, "float64", False).takes_short()


@pytest.mark.parametrize(
    ("algorithm", "told"), [("auto", {DENSE: True, THIN: False}), ("direct", {DENSE: False})]
)
def test_a_contest_asks_for_both(algorithm: str, told: dict[str, bool]) -> None:
    with Contest(["outstride"], 1, QUICK, algorithm) as contest:
        for text, both in told.items():
            timing = contest.time({"case": case_of(text).to_dict()}).timings["outstride"]
            assert timing.error is None
            assert timing.residual is not None
            assert (timing.direct_residual is not None) is both


@pytest.mark.parametrize("found", [0.2, float("nan")])
def test_who_is_wrong_has_no_time(found: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Process.ask

    def lying(process: Process, do: str, *given: Any, **more: Any) -> dict[str, Any]:
        reply = ask(process, do, *given, **more)
        return reply | {"residual": found} if do == "residual" else reply

    monkeypatch.setattr(Process, "ask", lying)
    with Contest(["outstride"], 1, QUICK) as contest:
        timing = contest.time({"case": case_of(THIN).to_dict()}).timings["outstride"]
    assert timing.error == f"its result is wrong, by {found:.1e} of the largest value"
    assert timing.rounds_ms == []


def test_both_are_written_and_read_again(tmp_path: Path) -> None:
    path, whole = tmp_path / "results.json", Results(rules={})
    for each in ROWS[1:]:
        whole.add(each)
    whole.save(path)
    assert [each.timings for each in results.read(path).rows] == [each.timings for each in whole.rows]
    written = json.loads(path.read_text())["rows"]
    assert [each["contenders"]["outstride"].get("direct_residual") for each in written] == [2e-7, None]
    before = json.loads(json.dumps(ROWS[0].to_dict()))
    del before["contenders"]["outstride"]["direct_residual"]
    assert Row.from_dict(before).of_direct is None  # as files from before have it


def test_the_table_in_a_terminal_has_both() -> None:
    short, _, thin = ROWS
    heading = report.heading(NAMES)
    place = heading.index("direct") + len("direct")
    assert heading.index("residual") < heading.index("direct")
    assert [report.line(each, NAMES)[:place].split()[-1] for each in (short, thin)] == ["2.0e-07", "-"]
    (ours,) = (line for line in report.comparison(short).splitlines() if line.startswith("outstride "))
    assert ours.split()[-2:] == ["2.0e-07", "-"]  # and no first call
    assert "1.0e-07      2.0e-07" in ours
    assert "2.0e-07" not in report.comparison(thin)


def test_a_table_says_how_they_stand_together() -> None:
    (part,) = table.summary(ROWS)
    assert_within_roundings(part["of_direct"], 0.5**0.5, 8, "a mean of logarithms")
    assert (part["short"], part["most_of_direct"]) == (2, 1.0)
    (said,) = (line for line in report.closing([part]) if "residuals" in line)
    assert said == (
        "  residuals: 0.71 of those of the direct chain, geometric mean of 2 rows by short algorithms, "
        "1.00 at most"
    )
    assert not any("residuals" in line for line in report.closing(table.summary(ROWS[2:])))


def test_the_page_has_a_column_where_some_row_is_short(tmp_path: Path) -> None:
    machine = {"cpu": "A CPU", "cores": 2, "system": "Linux", "python": "3", "versions": {}, "commit": "abc"}
    for number, rows in enumerate((ROWS[1:], ROWS[2:])):
        found = Results(machine=machine)
        for each in rows:
            found.add(each)
        found.save(tmp_path / "results.json")
        document.write([tmp_path / "results.json"], tmp_path)
        page = (tmp_path / "performance.md").read_text()
        assert ("| residual | direct | spread % |" in page) is (number == 0)
        assert ("| 2e-07 | 2e-07 | - |" in page) is (number == 0)
        assert ("Residuals are 1.00 of those of the direct chain" in page) is (number == 0)
        assert ("| 3e-07 |  | - |" if number == 0 else "| 3e-07 | - |") in page
