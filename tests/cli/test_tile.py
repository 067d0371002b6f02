"""`outstride tile`: a file in, a file out, a plan in between; bad input is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outstride import accelerate
from outstride.cli import main
from tests.tolerance import assert_equal_values

LAYER = "Conv2d(1, 2, 3, padding=1)"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["tile", *arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def test_a_file_goes_in_and_a_file_comes_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = torch.nn.Conv2d(1, 2, 3, padding=1)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    values = np.random.default_rng(0).random((1, 1, 40, 50), np.float32)
    np.save(tmp_path / "x.npy", values)
    paths = [str(tmp_path / name) for name in ("x.npy", "y.npy", "layer.pt")]
    assert run(LAYER, *paths[:2], "--weights", paths[2], "--tile", "16x20") == 0
    printed = capsys.readouterr().out
    assert "in 9 tiles of 16 x 20" in printed
    assert f"saved: {paths[1]}" in " ".join(printed.split())
    with torch.inference_mode():
        expected = accelerate(layer)(torch.from_numpy(values))
    assert_equal_values(np.load(paths[1]), expected.numpy())


def test_a_scratch_folder_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 1, 8, 8), np.float32))
    paths = [str(tmp_path / name) for name in ("x.npy", "y.npy")]
    assert run(LAYER, *paths, "--scratch", str(tmp_path / "missing")) == 2
    assert "'--scratch' must be a folder that can be written to" in capsys.readouterr().err
    assert run(LAYER, *paths, "--scratch", str(tmp_path)) == 0


def test_a_plan_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(LAYER, "1,1,64,64", "--plan", "--tile", "32") == 0
    assert "in 4 tiles of 32 x 32" in capsys.readouterr().out
    assert run(LAYER, "1,1,60000,60000", "--plan", "--memory", "1GB", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["peak_bytes"] <= 10**9
    assert content["output_shape"] == [1, 2, 60000, 60000]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((LAYER, "missing.npy", "y.npy"), "'SOURCE' must be a file that exists"),
        ((LAYER, "missing.npy", "--plan"), "'SOURCE' must be a file that exists"),
        ((LAYER, "1,1,8,8", "--plan", "--tile", "0"), "--tile"),
        ((LAYER, "1,1,8,8", "--plan", "--tile", "8x8x8"), "'--tile' must have one positive size"),
        ((LAYER, "1,1,8,8", "--plan", "--memory", "some"), "'--memory' must be a number of bytes"),
        ((LAYER, "1,3,8,8", "--plan"), "'MODEL' must run on the source"),
        ((LAYER, "1,1,100000000000,100000000000", "--plan"), "'SOURCE' must have fewer than 2**60 elements"),
        ((LAYER, "1,1,2000000000,4000000000", "--plan"), "'SOURCE' must have fewer than 2**60 elements"),
        (
            ("Conv2d(1, 64, 1)", "1,1,1000000000,1000000000", "--plan"),
            "'MODEL' must run on the source",
        ),
        ((LAYER, "1,1,8,8", "--plan", "--scheduler", "tcp://h:1"), "'--plan' must be left out beside '--sch"),
        (("nothing", "1,1,8,8", "--plan"), "'MODEL' must be a layer or name a model"),
        ((LAYER, "1,1,8,8", "--plan", "--weights", "missing.pt"), "'--weights' must be a saved model"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert text in said.err


def test_a_run_must_say_where_its_result_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 4, 4), np.float32))
    assert run(LAYER, str(tmp_path / "x.npy")) == 2
    assert "'OUT' must name the file to make" in capsys.readouterr().err
    assert run(LAYER, str(tmp_path / "x.npy"), str(tmp_path / "y.wav")) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "'OUT' must be a file that can hold the result" in said.err


def test_weights_are_read_without_running_what_a_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torch.nn.Conv2d(1, 2, 3), tmp_path / "whole.pt")
    torch.save(torch.nn.Linear(1, 2).state_dict(), tmp_path / "other.pt")
    for name, sentence in {
        "whole.pt": "'--weights' must hold tensors alone",
        "other.pt": "'--weights' must be a state dict of this model",
    }.items():
        assert run(LAYER, "1,1,8,8", "--plan", "--weights", str(tmp_path / name)) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert sentence in said.err


def test_an_interruption_says_that_nothing_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    np.save(tmp_path / "x.npy", np.zeros((1, 1, 4, 4), np.float32))
    monkeypatch.setattr("outstride.tiling.arrays.write", stopped)
    assert run(LAYER, str(tmp_path / "x.npy"), str(tmp_path / "y.npy")) == 130
    assert "y.npy was made" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_file_is_replaced_only_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    np.save(source, np.ones((1, 1, 4, 4), np.float32))
    content = Path(source).read_bytes()
    for options in ((), ("--overwrite",)):
        assert run(LAYER, source, source, *options) == 2
        assert "'OUT' must be another file than 'SOURCE'" in capsys.readouterr().err
    assert Path(source).read_bytes() == content
    assert run(LAYER, source, out) == 0
    before = Path(out).read_bytes()
    capsys.readouterr()
    assert run(LAYER, source, out) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--overwrite" in said.err
    assert Path(out).read_bytes() == before
    assert run(LAYER, source, out, "--overwrite") == 0
    assert Path(out).read_bytes() != before


def test_what_a_picture_shows_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    np.save(tmp_path / "x.npy", np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8))
    paths = str(tmp_path / "x.npy"), str(tmp_path / "y.png")
    assert run("MaxPool2d(1)", *paths) == 0
    assert "values from -1 to 1 are drawn from black to white" in capsys.readouterr().out
    assert run("MaxPool2d(1)", *paths, "--overwrite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["notes"]


def test_an_interrupted_run_says_how_far_it_came_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from outstride.tiling import arrays
    from outstride.tiling.results import journal

    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0.0)
    np.save(tmp_path / "x.npy", np.ones((1, 1, 40, 64), np.float32))
    command = ["MaxPool2d(1)", str(tmp_path / "x.npy"), str(tmp_path / "y.npy"), "--tile", "16"]
    real, calls = arrays.write, [0]

    def write(*arguments: Any) -> None:
        calls[0] += 1
        if calls[0] == 4:
            raise KeyboardInterrupt
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(arrays, "write", write)
        assert run(*command) == 130
    assert "3 tiles are done, the same command goes on" in " ".join(capsys.readouterr().err.split())
    assert run("MaxPool2d(1)", str(tmp_path / "x.npy"), str(tmp_path / "z.npy")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left over: 3 of 12 tiles of y.npy that a run left" in said
    assert run("MaxPool2d(2)", *command[1:], "--resume") == 2
    assert "'OUT' must be gone on with by what began it: got" in capsys.readouterr().err
    assert run(*command, "--resume", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["found"], report["made"], report["whole"], report["leftovers"]) == (3, 9, True, [])
    assert_equal_values(np.load(tmp_path / "y.npy"), np.load(tmp_path / "x.npy"))


def test_leftovers_are_removed_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 1, 40, 64), np.float32))
    source = str(tmp_path / "x.npy")
    assert run("MaxPool2d(1)", source, str(tmp_path / "y.npy"), "--tile", "16", "--only", "0:20,0:10") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "begun: 2 of 12 tiles" in said
    assert "without --only makes the rest" in said
    assert run("MaxPool2d(1)", source, str(tmp_path / "z.npy"), "--clean") == 0
    assert "removed: 2 of 12 tiles of y.npy" in " ".join(capsys.readouterr().out.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.npy", "z.npy"]


def test_a_result_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((1, 1, 40, 64), np.float32))
    command = [
        "MaxPool2d(1)",
        str(tmp_path / "x.npy"),
        str(tmp_path / "y.npy"),
        "--tile",
        "16",
        "--verify",
        "20",
    ]
    assert run(*command) == 0
    assert "verified: every bit of 2560 elements agrees" in " ".join(capsys.readouterr().out.split())
    values = np.load(tmp_path / "y.npy")
    values[0, 0, 20, 30] += 1
    np.save(tmp_path / "y.npy", values)
    assert run(*command, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verified"]["first"] == [0, 0, 20, 30]
    assert "made" not in report


def test_what_of_a_file_is_read_and_how_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    values = np.linspace(-1, 1, 64 * 48 * 2, dtype=np.float32).reshape(64, 48, 2)
    np.save(tmp_path / "x.npy", values)
    paths = str(tmp_path / "x.npy"), str(tmp_path / "y.png")
    options = ["--axes", "YXC", "--output-range", "-1", "1"]
    assert run("Conv2d(2, 1, 1)", *paths, *options) == 0
    assert image.open(paths[1]).size == (48, 64)
    assert run("MaxPool2d(1)", *paths, "--axes", "YX", "--overwrite") == 2
    assert "'--axes' must name each axis of the source" in capsys.readouterr().err
    assert run("MaxPool2d(1)", *paths, "--level", "1", "--overwrite") == 2
    assert "'--level' must not be given for such a file" in capsys.readouterr().err
    assert run("MaxPool2d(1)", *paths, "--only", "0:x", "--overwrite") == 2
    assert "'--only' must name boxes of the result: got '0:x'" in capsys.readouterr().err
    assert run("MaxPool2d(1)", *paths, "--verify", "0") == 2
    assert "'--verify' must be a number of tiles" in capsys.readouterr().err


TWO_INPUTS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, image, mask, strength=1.0):
        y = self.layer(image) * mask * strength
        return {"fine": y, "coarse": y.mean((2, 3))} if strength == 3 else y

class Any(Net):
    def forward(self, *inputs, **named):
        return super().forward(*inputs, **named)

def net(kind=Net):
    torch.manual_seed(0)
    return kind()

def without_names():
    return net(Any)
"""


def test_further_inputs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.py").write_text(TWO_INPUTS)
    rng = np.random.default_rng(0)
    for name in ("x", "mask"):
        np.save(tmp_path / f"{name}.npy", rng.random((1, 1, 40, 50), np.float32))
    model, x, y, mask = (str(tmp_path / name) for name in ("two.py:net", "x.npy", "y.npy", "mask.npy"))
    assert run(model, x, y, "--tile", "16", "--input", mask, "--input", "2") == 0
    in_order = np.load(y)
    named = ["--input", "strength=2", "--input", f"mask={mask}"]
    assert run(model, x, y, "--tile", "20", *named, "--overwrite") == 0
    assert_equal_values(np.load(y), in_order)
    assert run(model, x, y, *named, "--verify", "3") == 0
    assert run(model.replace(":net", ":without_names"), x, y, *named, "--overwrite") == 0
    assert_equal_values(np.load(y), in_order)
    assert "verified: every bit" in " ".join(capsys.readouterr().out.split())
    assert run(model, "1,1,64,64", "--plan", "--tile", "32", "--input", "1,1,64,64") == 0
    assert "1 x 1 x 64 x 64 and 1 x 1 x 64 x 64 to 1 x 2 x 64 x 64" in capsys.readouterr().out

    several = str(tmp_path / "z.{}.npy")
    options = ["--input", f"mask={mask}", "--input", "strength=3"]
    assert run(model, x, several, *options) == 0
    saved = f"saved: {tmp_path}/z.fine.npy, {tmp_path}/z.coarse.npy"
    assert saved in " ".join(capsys.readouterr().out.split())
    assert np.load(tmp_path / "z.coarse.npy").shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "missing 1 required positional argument: 'mask'"),
        (["--input", "mask=missing.npy"], "must be a file that exists"),
        (["--input", "mask=x.npy", "--input", "mask=x.npy"], "'--input' must name an input once"),
        (["--input", "alpha=x.npy"], "unexpected keyword argument 'alpha'"),
        (["--input", "image=1", "--input", "mask=1", "--input", "strength=1"], "'--input' must name inputs"),
    ],
)
def test_inputs_that_do_not_fit_are_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("two.py").write_text(TWO_INPUTS)
    np.save("x.npy", np.ones((1, 1, 8, 8), np.float32))
    assert run("two.py:net", "x.npy", "y.npy", *options) == 2
    assert said in " ".join(capsys.readouterr().err.split())
