"""Whole models as a table: who is timed on them, and what stands beside their times."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from torch import nn

from outstride.bench.cases import Case, read_cases
from outstride.bench.contenders import CONTENDERS, absentees, choose, installed
from outstride.bench.contest import Contest, Rules
from outstride.bench.table import Row
from outstride.bench.work import Work, residual
from outstride.cli import main
from outstride.engine.launch.weights import packing
from outstride.errors import ArgumentError, UnsupportedError
from outstride.layer.spec import ConvSpec
from tests import ROOT

FILE = '''
import torch
from torch import nn
def small():
    """A small one: https://example.org/small."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), torch.randn(1, 3, 12, 12)
def lacking():
    """One of a library."""
    import no_such_library
def long():
    return nn.Conv1d(2, 4, 3), torch.randn(1, 2, 40)
class Halved(nn.Module):
    def forward(self, x):
        return HALF * x
HALF = 0.5
def one_channel():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), Halved()), torch.randn(1, 1, 12, 12)
'''
QUICK = ("--rounds", "1", "--round-ms", "1", "--patience", "0", "--contenders", "torch")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    said = capsys.readouterr()
    assert stop.value.code == (2 if said.err else 0), said.err
    return said.out, said.err


def test_a_file_of_models_is_a_table(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    arguments = ("--models", str(file), "--filter", "small", "--filter", "library", "--out", str(out), *QUICK)
    text, _ = run(capsys, *arguments)
    assert text.startswith("2 rows, 1 contenders: at most 40 minutes")
    assert "torch: 'MODEL' must name a model or a callable" in text
    assert "mine, float32, 1 thread, 2 rows" in text
    assert "without a ratio: small, lacking" in text
    rows = {row["id"]: row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == {"small", "lacking"}
    small = rows["small"]
    assert small["input_shape"] == [1, 3, 12, 12]
    assert small["weight_bytes"] == 4 * (8 * 3 * 9 + 8 + 4 * 8) + 8
    assert small["flops"] == 2 * 8 * 3 * 9 * 100
    for figures in small["contenders"].values():
        assert figures["median_ms"] > 0
        assert figures["first_ms"] > 0
        assert figures["residual"] < 1e-5
        assert isinstance(figures["memory_bytes"], int)
    assert "No module named 'no_such_library'" in rows["lacking"]["contenders"]["torch"]["error"]
    again, _ = run(capsys, *arguments, "--resume")
    assert again.startswith("0 rows")
    assert Row.from_dict(small).input_shape == (1, 3, 12, 12)


@pytest.mark.slow
def test_a_single_model_is_compared_line_by_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, _ = run(capsys, f"{file}:long", *QUICK[:-1], "outstride,torch")
    assert "memory MB" in text
    assert "inference, 1.824e-06 GFLOP" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "no/such.py"], "'--models' must be a Python file or a module"),
        (["--models", "FILE", "--filter", "nothing"], "'--filter' must be part of the id or the model"),
        (["--models", "FILE", "--size", "1x3x9x9"], "'--size' must be left out beside '--models'"),
        (["--models", "FILE", "--cases", "x.csv"], "'LAYER|MODEL' or '--cases' must be given"),
        (["--models", "FILE", "--contenders", "jax"], "'--contenders' must be timed on models: got 'jax'"),
        (["torch.nn:Identity"], "'--size' must be given for a model that comes without an input"),
        (["absent.pt2"], "must be a program that torch.export.save wrote"),
        (["FILE:lacking"], "No module named 'no_such_library'"),
        (["FILE:small", "--size", "1x4x9x9"], "'MODEL' must run at '--size': got (1, 4, 9, 9)"),
    ],
)
def test_what_cannot_be_timed_is_one_line(
    arguments: list[str], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(capsys, *(word.replace("FILE", str(file)) for word in arguments))
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_who_is_timed_on_what(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "outstride_compile" not in installed()
    assert not {"jax", "mnn"} & {*installed(of="models"), *absentees("models")}
    with pytest.raises(ArgumentError, match="must be timed on layers: got 'outstride_compile', which is"):
        choose(["outstride_compile"])
    monkeypatch.setattr("torch._dynamo.list_backends", lambda _: ["inductor"])
    monkeypatch.setattr("outstride.bench.contenders._no_backend", _asked_anew())
    reason = "torch.compile knows no backend 'outstride'"
    assert absentees("models")["outstride_compile"] == reason
    with pytest.raises(ArgumentError, match=reason):
        choose(["outstride_compile"], of="models")


def _asked_anew() -> object:
    from outstride.bench import contenders

    return contenders._no_backend.__wrapped__


SLOW = ("torch_compile", "outstride_compile")


@pytest.mark.usefixtures("_own_signal_stack")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, contender in CONTENDERS.items()
        if "models" in contender.of
    ],
)
def test_every_form_of_every_contender_computes_a_model(name: str, tmp_path: Path) -> None:
    contender = CONTENDERS[name]
    if (reason := contender.missing()) is not None:
        pytest.skip(reason)
    path = tmp_path / "two.py"
    path.write_text(FILE.replace("nn.ReLU())", "nn.ReLU(), nn.ConvTranspose2d(8, 2, 4, 2, 1))"))
    work = Work({"model": f"{path}:small"}, "float32", False)
    exact, tried = work.reference(), 0
    for form in contender.forms(work, 1):
        for _ in range(2):
            output = form.run()
        work.let_go()
        assert residual(form.read(output), exact) < 1e-5, form.name
        tried += 1
    assert tried == {"torch_compile": 2, "outstride_compile": 2, "onnxruntime": 2}.get(name, 1)


def test_who_compiles_says_what_it_is_not_for() -> None:
    layer = {"case": read_cases(ROOT / "bench" / "small_layers.csv")[0].to_dict()}
    with pytest.raises(UnsupportedError, match="whole models"):
        next(CONTENDERS["outstride_compile"].forms(Work(layer, "float32", False), 1))


@pytest.mark.parametrize(
    ("name", "backend"), [("outstride_compile", "outstride"), ("torch_compile", "inductor")]
)
def test_models_are_compiled_in_both_layouts(
    name: str, backend: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def compile_nothing(module: nn.Module, **options: object) -> nn.Module:
        weight = next(module.parameters())
        asked.append((options["backend"], weight.is_contiguous(), _frozen()))
        return module

    monkeypatch.setattr("torch.compile", compile_nothing)
    monkeypatch.setattr("torch._inductor.config.freezing", False)
    work = Work({"model": f"{file}:small"}, "float32", False)
    for form in CONTENDERS[name].forms(work, 1):
        assert residual(form.read(form.run()), work.reference()) < 1e-5
    frozen = backend == "inductor"
    assert asked == [(backend, True, frozen), (backend, False, frozen)]


def test_frozen_weights_stay_so_in_both_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case.from_spec(ConvSpec.parse("Conv2d(8, 16, 3)"), 1, (6, 6))
    work = Work({"case": case.to_dict()}, "float32", False)
    forms = list(CONTENDERS["outstride_frozen"].forms(work, 1))
    monkeypatch.setattr(packing, "take_snapshot", lambda *_: pytest.fail("a frozen weight is looked at"))
    for form in forms:
        form.run()
    assert [form.name for form in forms] == ["NCHW", "NHWC"]


def _frozen() -> bool:
    return bool(vars(import_module("torch._inductor.config"))["freezing"])


def test_models_begin_with_nothing_compiled() -> None:
    rules = Rules(patience_seconds=0)
    shared, fresh = (Contest(["outstride", "torch"], 1, rules, afresh=afresh) for afresh in (False, True))
    assert "OUTSTRIDE_CACHE_DIR" not in shared.processes[0].environment
    folders = {process.environment["OUTSTRIDE_CACHE_DIR"] for process in fresh.processes}
    assert len(folders) == 2


@pytest.mark.parametrize("training", [False, True])
def test_each_compiled_form_of_one_channel_is_a_program_of_its_own(file: Path, training: bool) -> None:
    """An input of one channel lies alike in both layouts, and weights of several do not."""
    work = Work({"model": f"{file}:one_channel"}, "float32", training)
    forms = list(CONTENDERS["outstride_compile"].forms(work, 1))
    assert len(forms) == 2
    exact = work.reference()
    for _ in range(3):
        for form in forms:
            assert residual(form.read(form.run()), exact) < 1e-5
