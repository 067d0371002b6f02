"""The page and the pictures that are written from results: figures go through unchanged, gaps do no harm."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from outstride.bench import document, excerpt, plots, standings, studies
from outstride.bench.cases import Case, read_cases
from outstride.bench.contest import Timing
from outstride.bench.results import Results, file_name
from outstride.bench.table import Job, Row
from outstride.cli import main
from outstride.errors import ArgumentError
from outstride.layer.spec import ConvSpec
from tests import ROOT

BENCH = ROOT / "bench"
PAGE = BENCH.parent / "docs" / "performance.md"
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
    assert "| Other real layers, which nothing was tuned on | 1 | 1 | 0.75 | 0.25 | 1 | 25 |" in page
    assert "| Layers of real models: training steps | 1 | 1 | 2.50 | 2.50 | 0 | 25 |" in page
    assert (
        "| square | convolution, 2-d | 1 | 4.00 | mnn, f | 1.00 | 0.25 | 25 | 100 | Winograd's method" in page
    )
    assert "0.25 w (1e-07)" in page
    assert "1 thread: 80 GFLOP/s of multiply-adds (float32), copies at 10 GB/s in memory, - GB/s" in page
    # Ours grows as size does, the made-up torch not at all.
    assert "| `Conv2d(16, 16, 3, padding=1)` | 1 | outstride | 1.000 |" in page
    assert "| `Conv2d(16, 16, 3, padding=1)` | 1 | torch | 0.000 |" in page
    assert "| `Conv1d(1, 1, 1)` | 7 | 1 | 41 | 3 |  |" in page
    assert "| 1.5 (1.50) |" in page
    assert "outstride: 1.500, geometric mean." in page
    assert "| `Conv1d(1, 1, 1)`, 0.0 MB of weights | 7 | 1 | 2.5 |" in page
    assert "| torch: eager, contiguous (NCHW): as most call it | 1 | 31 | 3.79 | 0.75 | 1 row |" in page
    assert "| **the best of them, row by row** | 2 | 30 | 1.50 | 1.50 | 0 rows |" in page
    pictures = re.findall(r"\]\((pictures/[^)]+)\)", page)
    assert {path.relative_to(tmp_path).as_posix() for path in written[1:]} == {*pictures}
    assert len(pictures) == 4
    assert all((tmp_path / picture).stat().st_size > 10_000 for picture in pictures)


def test_the_same_results_give_the_same_page_and_pictures(results: Results, tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    results.save(source)
    first = {path: path.read_bytes() for path in document.write([source], tmp_path)}
    assert {path: path.read_bytes() for path in document.write([source], tmp_path)} == first


def test_notes_beside_the_results_end_the_machines_part(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Results(machine=MACHINE).save(tmp_path / f"{name}.json")
    (tmp_path / "a.md").write_text("### Why\n\nIt was cold.\n")
    document.write([tmp_path / "a.json", tmp_path / "b.json"], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert page.index("## A (tm) CPU") < page.index("### Why\n\nIt was cold.") < page.rindex("## A (tm) CPU")


def test_results_with_nothing_in_them_and_files_that_hold_none(tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    Results(machine=MACHINE).save(source)
    assert document.write([source, source], tmp_path) == [tmp_path / "performance.md"]
    assert (tmp_path / "performance.md").read_text().count("## A (tm) CPU") == 2
    with pytest.raises(ArgumentError, match="'results' must be a file"):
        document.write([tmp_path / "absent.json"], tmp_path)


def test_a_report_is_written_whole_or_not_at_all(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, binary, folder = tmp_path / "results.json", tmp_path / "x.npy", tmp_path / "docs"
    results.save(source)
    binary.write_bytes(b"\x93NUMPY" + bytes(range(256)) * 9)
    folder.mkdir()
    report = ["bench", "--report", str(source), "--out", str(folder)]
    for more in (["--report", str(binary)], ["--readme", str(tmp_path / "absent.md")]):
        with pytest.raises(SystemExit) as stop:
            main([*report, *more])
        said = capsys.readouterr()
        assert (stop.value.code, said.out, list(folder.iterdir())) == (2, "", [])
        assert f"'{more[0]}' must be" in said.err
        assert len(said.err) < 400


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ConvTranspose2d(8, 8, 4, stride=2, groups=8)", "transposed, depthwise"),
        ("Conv2d(8, 8, 3, groups=2)", "convolution, grouped"),
        ("ConvTranspose3d(8, 4, 2, stride=2)", "transposed, kernel = stride"),
        ("Conv1d(8, 4, 1)", "convolution, 1x1"),
        ("ConvTranspose2d(8, 1, 9, stride=3)", "transposed, 1 to 3 output channels"),
        ("Conv3d(8, 8, 3, dilation=2)", "convolution, dilated"),
        ("Conv2d(1, 8, 3)", "convolution, 2-d"),
    ],
)
def test_every_layer_is_of_one_kind(text: str, kind: str) -> None:
    spec = ConvSpec.parse(text)
    assert standings.kind(Case.from_spec(spec, 1, (9,) * spec.nd)) == kind


def late(ours_ms: float, theirs_ms: float, plan: dict[str, object] | None = None, apart: float = 0) -> Row:
    """A row on which the peer is ahead; the limit is 1 ms of multiply-adds."""
    case = Case.from_spec(ConvSpec.parse("Conv2d(8, 8, 3)"), 1, (9, 9), "late")
    ours = Timing([ours_ms * (1 - apart), ours_ms, ours_ms * (1 + apart)], plan=plan)
    theirs = Timing([theirs_ms] * 3, form="NHWC")
    timings = {"outstride": ours, "openvino": theirs}
    return Row(Job.of_case(case, "layers"), 1, "float32", False, timings, 80_000_000, 4_000_000, 80e9, 10e9)


def test_what_is_behind_is_listed_with_what_the_figures_say() -> None:
    wasteful = {"tile": "pixels_8x3", "lanes_lost": 0.31}
    assert standings.reason(late(2.0, 1.6, wasteful)) == "31% of the lanes of pixels_8x3 lost to edges"
    thrifty = {"tile": "pixels_8x3", "lanes_lost": 0.02}
    assert standings.reason(late(2.0, 1.6, thrifty)).startswith("multiply-adds would be the limit; 2%")
    assert standings.reason(late(2.0, 1.9, thrifty, apart=0.1)) == "no more than rounds lie apart (20%)"
    assert standings.reason(late(1.1, 1.0)) == "both near the limit"
    assert standings.reason(late(0.02, 0.01)) == "what a call costs"
    lines = list(standings.behind([late(2.0, 1.6), late(4.0, 1.0, wasteful), late(1.0, 2.0)]))
    assert [line.split(" | ")[6] for line in lines[2:]] == ["0.25", "0.80"]
    assert "| late | convolution, 2-d | 1 | 4.00 | openvino, NHWC | 1.00 | 0.25 | 25 | 100 | 31%" in lines[2]


def test_narrow_types_stand_beside_float32(results: Results, tmp_path: Path) -> None:
    wide = next(row for row in results.rows if row.job.suite == "layers" and row.threads == 1)
    results.add(replace(wide, dtype="bfloat16", timings={"outstride": Timing([0.8, 0.8, 0.8])}))
    source = tmp_path / "results.json"
    results.save(source)
    document.write([source], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert f"| {wide.job.id} | 0.8000 | - | 2.50 |" in page
    assert "Beside outstride's own float32: 2.50 times as fast, geometric mean, and 2.50 at least." in page


def test_a_page_gets_the_short_table_between_its_marks(results: Results, tmp_path: Path) -> None:
    source, page = tmp_path / "results.json", tmp_path / "README.md"
    for case in read_cases(BENCH / "layers.csv")[30:]:
        for threads in (1, 2):
            results.add(timed(case, "layers", threads, outstride=2.0, torch=8.0, onnxruntime=1.0 + threads))
    results.save(source)
    begin, end = excerpt.marks("layers")
    page.write_text(f"above\n{begin}\nold\n{end}\nbelow\n")
    for _ in range(2):
        assert excerpt.write(source, page) == page
    text = page.read_text()
    assert text.startswith(f"above\n{begin}\n| layer")
    assert text.endswith(f"\n{end}\nbelow\n")
    assert "old" not in text
    line = "| `ConvTranspose2d(56, 1, 9, stride=3)`, FSRCNN x3 | 1 x 360x640 | 2.00 | 8.00 | 4.00 |"
    assert f"{line} 2.00 ONNX Runtime | 1.00 |" in text
    assert text.count("| `Conv") == len(excerpt.SHOWN)
    assert (
        "| all 76 layers of [bench/layers.csv](bench/layers.csv), geometric means | 1 thread | 2 threads |"
        in text
    )
    assert "| speed, torch = 1 | 4.00 | 4.00 |" in text
    assert "| speed, fastest other on each layer = 1 | 1.17 | 1.50 |" in text
    assert "| Layers of real models: training steps | 1 | 2.50 | 2.50 | 0 |" in text
    assert "beside torch, ONNX Runtime, prepacked" in " ".join(text.split())
    page.write_text("no marks")
    with pytest.raises(ArgumentError, match="must hold the lines"):
        excerpt.write(source, page)
    with pytest.raises(ArgumentError, match="a page that can be read"):
        excerpt.write(source, tmp_path / "absent.md")
    with pytest.raises(ArgumentError, match="must hold rows of bench"):
        list(excerpt.of_layers(Results(machine=MACHINE)))
    readme = (BENCH.parent / "README.md").read_text(encoding="utf-8")
    assert all(mark in readme for part in excerpt.PARTS for mark in excerpt.marks(part))


@pytest.mark.skipif(not PAGE.exists(), reason="nothing was measured for this page yet")
def test_the_committed_page_and_the_readme_are_what_the_results_say(tmp_path: Path) -> None:
    """If this fails: outstride bench --report docs/performance/*.json --out docs --readme README.md."""
    page, readme = PAGE.read_text(encoding="utf-8"), tmp_path / "README.md"
    sources = [PAGE.parent / link for link in re.findall(r"all figures: \[[^]]*\]\(([^)]+)\)", page)]
    document.write(sources, tmp_path)
    again = (tmp_path / "performance.md").read_text(encoding="utf-8")
    for source in sources:
        again = again.replace(os.path.relpath(source, tmp_path), os.path.relpath(source, PAGE.parent))
    assert again == page
    readme.write_text((BENCH.parent / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    excerpt.write(sources[0], readme)
    assert readme.read_text(encoding="utf-8") == (BENCH.parent / "README.md").read_text(encoding="utf-8")


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
