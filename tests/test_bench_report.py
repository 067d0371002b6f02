"""The page and the pictures that are written from results: figures go through unchanged, gaps do no harm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outstride.bench import document, plots, studies
from outstride.bench.cases import Case, read_cases
from outstride.bench.contest import Timing
from outstride.bench.results import Results, file_name
from outstride.bench.table import Job, Row
from outstride.errors import ArgumentError
from outstride.spec import ConvSpec

BENCH = Path(__file__).parents[1] / "bench"
MACHINE = {
    "cpu": "A (tm) CPU",
    "cores": 2,
    "system": "Linux x86_64",
    "python": "3.11",
    "versions": {"torch": "2"},
    "commit": "abc",
}


def timed(case: Case, suite: str, threads: int = 1, training: bool = False, **times: float) -> Row:
    timings = {name: Timing([ms, ms, ms], residual=1e-7, form="f") for name, ms in times.items()}
    job = Job.of_case(case, suite)
    return Row(job, threads, "float32", training, timings, 80_000_000, 4_000_000, 80e9, 10e9, "abc")


@pytest.fixture
def results() -> Results:
    found = Results(machine=MACHINE)
    layers = read_cases(BENCH / "layers.csv")[:30]
    for threads in (1, 2):
        for case in layers:
            found.add(timed(case, "layers", threads, outstride=2.0, torch=8.0, onnxruntime=3.0))
    square = Case.from_spec(ConvSpec.parse("Conv2d(8, 8, 3)"), 1, (9, 9), "square")
    found.add(timed(square, "more_layers", outstride=4.0, torch=3.0, mnn=1.0))
    found.add(timed(square, "layers", training=True, outstride=4.0, torch=10.0))
    for case in studies.growing():
        found.add(timed(case, "growth", outstride=1e-6 * studies.activations(case), torch=5.0))
    found.limits.append(
        {
            "threads": 1,
            "dtype": "float32",
            "flops": 80e9,
            "memory_bytes_per_second": 10e9,
            "cache_bytes_per_second": None,
        }
    )
    key = {"id": "Conv1d(1, 1, 1)", "size": [7], "threads": 1, "contender": "outstride", "cache": ""}
    for entry in ({"cache": "empty", "first_ms": 41.0}, {"cache": "filled", "first_ms": 3.0}):
        found.observe("first", {**key, **entry}, studies.KEY)
    found.observe("first", {**key, "contender": "jax", "error": "no"}, studies.KEY)
    found.observe("lengths", {**key, "new_ms": 1.5, "repeated_ms": 1.0, "times_repeated": 1.5}, studies.KEY)
    found.observe("memory", {**key, "extra_bytes": 2_500_000, "weight_bytes": 4}, studies.KEY)
    return found


def test_the_page_says_what_the_results_say(results: Results, tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    results.save(source)
    written = document.write([source], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert written[0] == tmp_path / "performance.md"
    assert "## A (tm) CPU, 2 cores" in page
    assert "| Layers of real models | 1 | 30 | 4.00 | 1.50 | 0 | 50 |" in page
    assert "| Other real layers, which nothing was tuned on | 1 | 1 | 0.75 | 0.75 | 1 | 25 |" in page
    assert "| Layers of real models: training steps | 1 | 1 | 2.50 | 2.50 | 0 | 25 |" in page
    assert "Behind the best peer: square 0.75." in page
    assert "0.25 w (1e-07)" in page
    assert "1 thread: 80 GFLOP/s of multiply-adds (float32), copies at 10 GB/s in memory, - GB/s" in page
    # Ours grows as size does, the made-up torch not at all.
    assert "| `Conv2d(16, 16, 3, padding=1)` | 1 | outstride | 1.000 |" in page
    assert "| `Conv2d(16, 16, 3, padding=1)` | 1 | torch | 0.000 |" in page
    assert "| `Conv1d(1, 1, 1)` | 7 | 1 | 41 | 3 |  |" in page
    assert "| 1.5 (1.50) |" in page
    assert "outstride: 1.500, geometric mean." in page
    assert "| 2.5 |" in page
    pictures = re.findall(r"\]\((pictures/[^)]+)\)", page)
    assert [path.relative_to(tmp_path).as_posix() for path in written[1:]] == pictures
    assert len(pictures) == 3
    assert all((tmp_path / picture).stat().st_size > 10_000 for picture in pictures)


def test_the_same_results_give_the_same_page_and_pictures(results: Results, tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    results.save(source)
    first = {path: path.read_bytes() for path in document.write([source], tmp_path)}
    assert {path: path.read_bytes() for path in document.write([source], tmp_path)} == first


def test_results_with_nothing_in_them_and_files_that_hold_none(tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    Results(machine=MACHINE).save(source)
    assert document.write([source, source], tmp_path) == [tmp_path / "performance.md"]
    assert (tmp_path / "performance.md").read_text().count("## A (tm) CPU") == 2
    with pytest.raises(ArgumentError, match="'results' must be a file"):
        document.write([tmp_path / "absent.json"], tmp_path)


def test_files_are_named_after_machine_and_commit() -> None:
    assert file_name(MACHINE) == "a-tm-cpu-2-cores-abc.json"
    assert file_name({**MACHINE, "commit": None}) == "a-tm-cpu-2-cores-no-commit.json"


def test_layers_of_one_model_share_a_family() -> None:
    families: dict[str, set[str]] = {}
    for case in read_cases(BENCH / "layers.csv"):
        row = timed(case, "layers", outstride=1.0)
        families.setdefault(plots.family(row), set()).add(case.id.partition(".")[0])
    assert families["HiFi-GAN"] == {"hifigan_v2_inf", "onednn_hifigan_b1", "hifigan"}
    assert families["U-Net"] == {"unet512", "unet"}
    assert len(families) < 40


@pytest.mark.parametrize(("table", "rows"), [("more_layers", 36), ("small_layers", 13)])
def test_the_other_tables_are_whole_and_not_the_first_again(table: str, rows: int) -> None:
    cases, first = read_cases(BENCH / f"{table}.csv"), read_cases(BENCH / "layers.csv")
    assert len({case.id for case in cases}) == len(cases) == rows
    assert not {case.id for case in cases} & {case.id for case in first}
    known = {(case.spec(), case.input_size, case.batch) for case in first}
    assert not [case.id for case in cases if (case.spec(), case.input_size, case.batch) in known]
    assert all(case.output_size and case.model for case in cases)
