"""The page and the short table that whole models lead, and how a model's row is summed up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from outstride.bench import document, excerpt, model_report, report, table, titles
from outstride.bench.cases import read_cases
from outstride.bench.contest import Timing
from outstride.bench.results import Results
from outstride.bench.table import Job, Row
from tests import ROOT
from tests.bench.test_report import MACHINE, timed
from tests.tolerance import assert_within_roundings


def whole(name: str, threads: int = 1, **times: float) -> Row:
    timings = {
        who: Timing([ms] * 3, first_ms=1500.0, form="f", residual=1e-7, memory_bytes=9_000_000)
        for who, ms in times.items()
    }
    job = Job.of_model(f"bench/models.py:{name}", name=name, suite="models")
    return Row(
        job,
        threads,
        "float32",
        False,
        timings,
        10**9,
        None,
        80e9,
        None,
        "abc",
        "auto",
        (1, 3, 8, 8),
        4_000_000,
    )


@pytest.fixture
def results() -> Results:
    found = Results(machine=MACHINE)
    for threads in (1, 2):
        found.add(whole("unet", threads, outstride=3.0, outstride_compile=2.0, torch=8.0, openvino=4.0))
        found.add(whole("dcgan", threads, outstride=3.0, torch=6.0, onnxruntime=1.5))
    broken = whole("absent")
    found.add(replace(broken, timings={name: Timing(error="'MODEL' ...") for name in ("outstride", "torch")}))
    for case in read_cases(ROOT / "bench" / "layers.csv")[:3]:
        found.add(timed(case, "layers", outstride=2.0, torch=8.0))
    return found


def test_a_model_counts_in_its_fastest_form(results: Results) -> None:
    unet, dcgan = results.rows[:2]
    assert (unet.ours, unet.ratio, unet.lead) == ("outstride_compile", 4.0, 2.0)
    assert (dcgan.ours, dcgan.ratio, dcgan.lead) == ("outstride", 2.0, 0.5)
    assert unet.limit_ms is None
    assert Row.from_dict(json.loads(json.dumps(unet.to_dict()))).to_dict() == unet.to_dict()
    first, _, layers = table.summary(results.rows)
    assert (first["suite"], first["behind"], layers["suite"]) == ("models", {"dcgan": 0.5}, "layers")
    assert first["unmeasured"] == ["absent"]
    assert_within_roundings(first["geometric_mean"], 8**0.5, 8, "a mean of logarithms")
    names = ["outstride", "outstride_compile", "torch", "onnxruntime", "openvino"]
    heading, line = model_report.heading(names), model_report.line(unet, names)
    assert len(heading) == len(line)
    assert line.split() == ("unet 1 3.00 2.00 8.00 - 4.00 4.00 openvino 2.00 1.0e-07 1.50 1.50 9 9".split())
    assert report.failures(results.rows[4]) == ["nobody: 'MODEL' ..."]


def test_the_page_leads_with_whole_models(results: Results, tmp_path: Path) -> None:
    source = tmp_path / "results.json"
    results.save(source)
    written = document.write([source], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert page.index("### Whole models") < page.index("### In short") < page.index("### Beside each library")
    assert "How fast outstride is on whole models and on their layers" in page
    names = ["model", "input", "outstride", "outstride compiled", "torch", "ONNX Runtime", "OpenVINO"]
    assert f"| {' | '.join([*names, titles.OF_TORCH, 'fastest other', titles.OF_THAT])} |" in page
    assert "| unet | 1 x 3 x 8 x 8 | 3.00 | 2.00 | 8.00 |  | 4.00 | 4.00 | OpenVINO | 2.00 |" in page
    assert "| dcgan | 1 x 3 x 8 x 8 | 3.00 |  | 6.00 | 1.50 |  | 2.00 | ONNX Runtime | 0.50 |" in page
    first, memory = page.index("#### The first call, 1 thread"), page.index("#### Memory, 1 thread")
    assert first < page.index("| unet | 4 | 1.50 | 1.50 | 1.50 |  | 1.50 |") < memory
    assert memory < page.index("| unet | 4 | 9 | 9 | 9 |  | 9 |") < page.index("#### Residuals, 1 thread")
    assert "- absent, 1 thread: nobody: 'MODEL' ..." in page
    assert "| Whole models | 1 | 3 | 2.83 | 1.00 | 1 | - |" in page
    picture = tmp_path / "pictures" / "performance-models.png"
    assert picture in written
    assert picture.stat().st_size > 10_000
    before = picture.read_bytes()
    document.write([source], tmp_path)
    assert picture.read_bytes() == before


def test_other_models_have_a_section_without_the_picture(tmp_path: Path) -> None:
    found, row = Results(machine=MACHINE), whole("unet", outstride=1.0, torch=2.0)
    found.add(replace(row, job=replace(row.job, suite="mine")))
    found.add(replace(row, dtype="bfloat16"))
    found.save(tmp_path / "results.json")
    document.write([tmp_path / "results.json"], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert page.index("### Whole models, bfloat16") < page.index("### mine")
    assert "performance-models.png" not in page


def test_a_page_of_a_project_leads_with_whole_models(results: Results, tmp_path: Path) -> None:
    source, page = tmp_path / "results.json", tmp_path / "README.md"
    results.save(source)
    page.write_text("\n".join(mark for part in excerpt.PARTS for mark in excerpt.marks(part)))
    excerpt.write(source, page)
    text = " ".join(page.read_text().split())
    assert "| unet | 1 x 3 x 8 x 8 | 2.00 | 8.00 | 4.00 | 4.00 OpenVINO | 2.00 |" in text
    assert "absent" not in text
    means = "2.83 times torch's speed, 1.00 times that of the fastest other on each"
    for threads in ("1 thread", "2 threads"):
        told = f"All 2 together, {threads}, geometric means: {means}. Another is ahead on 1 (dcgan 0.50)."
        assert told in text
    assert "takes 1.50 to 1.50 s (torch's 1.50 to 1.50). A call takes 1.0 to 1.0 times torch's memory" in text
    forms = '`torch.compile(model, backend="outstride")` or `accelerate(model)`'
    assert f"outstride by {forms}, medians" in text
    assert "beside torch, ONNX Runtime, OpenVINO, prepacked" in text
    assert text.index("| unet |") < text.index("bench/layers.csv")


def test_a_page_names_the_work_in_which_others_are_ahead(results: Results) -> None:
    tiny = read_cases(ROOT / "bench" / "small_layers.csv")[0]
    results.add(timed(tiny, "small_layers", outstride=4.0, torch=8.0, onnxruntime=1.0))
    told = " ".join(" ".join(excerpt.of_models(results)).split())
    assert "On the whole the fastest other is ahead on small maps and tiny layers (0.25)." in told
    assert "| Small maps and tiny layers: what a call costs | 1 | 2.00 | 0.25 | 1 |" in "\n".join(
        excerpt.of_layers(results)
    )
