"""`outstride tile` with several results of a model, and with several sources."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_tile import LAYER, run
from tests.tolerance import assert_equal_values

TWO_RESULTS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.less = torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Conv2d(2, 1, 3, 2, 1)

    def forward(self, x):
        y = self.layer(x)
        return {"fine": y, "coarse": self.less(y)}

def net():
    return Net()
"""


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def numbers(path: Path, *shape: int) -> str:
    np.save(path, np.random.default_rng(sum(shape)).random(shape, np.float32))
    return str(path)


def test_several_results_are_made_in_portions_and_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.py").write_text(TWO_RESULTS)
    model, out = f"{tmp_path}/two.py:net", f"{tmp_path}/y.{{}}.npy"
    source = numbers(tmp_path / "x.npy", 1, 1, 40, 64)
    command = [model, source, out, "--tile", "16"]
    assert run(*command, "--only", "0:20,0:10") == 0
    assert f"begun: 2 of 12 tiles of {out}" in said(capsys)
    assert run(*command, "--resume", "--verify", "100") == 0
    text = said(capsys)
    assert "goes on 2 of 12 tiles were done" in text
    assert "verified: every bit of 5760 elements agrees with the whole" in text
    assert "left over" not in text
    assert run(*command) == 2
    assert "'OUT' must not exist yet" in capsys.readouterr().err
    assert run(*command, "--overwrite", "--no-resume", "--json") == 0
    assert json.loads(capsys.readouterr().out)["out"] == out
    assert run(*command, "--verify", "2", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verified"]["exact"], "made" in report) == (True, False)


def test_any_number_of_sources_go_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    rng, sources = np.random.default_rng(0), [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    for path, shape in zip(sources, [(20, 30), (20, 30), (33, 9)], strict=True):
        image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)
    paths = list(map(str, sources))
    assert run("MaxPool2d(1)", *paths, "--out-dir", f"{tmp_path}/new/same") == 0
    text = said(capsys)
    assert text.count("1 x 1 x 20 x 30 to") == text.count("1 x 1 x 33 x 9 to") == 1
    assert f"saved: {tmp_path}/new/same/c.png" in text
    for path in sources:
        with image.open(path) as before, image.open(tmp_path / "new" / "same" / path.name) as after:
            assert_equal_values(np.asarray(before), np.asarray(after))
    command = [
        "MaxPool2d(1)",
        *paths,
        "--out-dir",
        str(tmp_path / "arrays"),
        "--format",
        "npy",
        "--verify",
        "3",
    ]
    assert run(*command) == 0
    assert said(capsys).count("verified: every bit") == 3
    assert run(*command, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [Path(one["out"]).name for one in report["results"]] == ["a.npy", "b.npy", "c.npy"]
    assert report["exact"]
    assert run(*command[:-2]) == 2
    assert "'OUT' must not exist yet" in capsys.readouterr().err


def test_several_results_of_several_sources(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO_RESULTS)
    sources = [numbers(tmp_path / f"{name}.npy", 1, 1, 20, 20) for name in "ab"]
    out = str(tmp_path / "out")
    assert run(f"{tmp_path}/two.py:net", *sources, "--out-dir", out, "--format", "{}.npy") == 0
    made = sorted(path.name for path in Path(out).iterdir())
    assert made == ["a.coarse.npy", "a.fine.npy", "b.coarse.npy", "b.fine.npy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.npy", "b.npy", "c.npy"], "'OUT' must be the only argument behind SOURCE: got 3 arguments"),
        (
            ["a.npy", "b.npy", "--format", "npy"],
            "'--format' must be left out beside results without --out-dir",
        ),
        (
            ["a.npy", "--out-dir", "o", "--format", "txt"],
            "'--format' must be one that can be written: got .txt",
        ),
        (
            ["a.npy", "b.h5", "--out-dir", "o"],
            "'--format' must be one that can be written: got .h5 for 'b.h5'",
        ),
        (
            ["a.npy", "f/a.npy", "--out-dir", "o"],
            "'SOURCE' must be files of different names: got 'a.npy' and",
        ),
        (["a.npy", "--out-dir", "o", "--plan"], "'--out-dir' must be left out beside '--plan'"),
        (["a.npy", "--out-dir", "."], "'OUT' must be another file than 'SOURCE'"),
        (["a.npy", "--out-dir", "o", "--only", "0:1,0:1"], "'--only' must go with one source"),
    ],
)
def test_sources_that_do_not_fit_are_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    numbers(Path("a.npy"), 1, 1, 8, 8)
    assert run(LAYER, *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
