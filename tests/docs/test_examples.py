"""Every script of examples/ is run, and what it prints or learns is checked."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from outstride.cli import main as outstride_command
from tests import ROOT

EXAMPLES = ROOT / "examples"
Told = Callable[[str], list[str]]


def script(name: str) -> Any:
    """A script as a module; those beside it can be imported, as when it is run."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    path = EXAMPLES / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """What a tutorial's script prints, line by line."""

    def run(name: str) -> list[str]:
        script(f"tutorials/{name}").main()
        return capsys.readouterr().out.splitlines()

    return run


FIGURES = {
    "page1_convolution": (
        "corr2d(X, K) [[19.0, 25.0], [37.0, 43.0]]",
        "corr2d(X, K + 1) [[27.0, 37.0], [57.0, 67.0]]",
        "functional.conv2d [[[[19.0, 25.0], [37.0, 43.0]]]]",
        "kernel 3, padding 1 (8, 8)",
        "kernel (5, 3), padding (2, 1) (8, 8)",
        "kernel 3, padding 1, stride 2 (4, 4)",
        "kernel (3, 5), padding (0, 1), stride (3, 4) (2, 2)",
        "Conv2d(3, 64, 3, 1, 1) (1, 64, 32, 32)",
        "two input channels [[56.0, 72.0], [104.0, 120.0]]",
        (
            "three output channels [[[56.0, 72.0], [104.0, 120.0]], [[76.0, 100.0], [148.0, 172.0]], "
            "[[96.0, 128.0], [192.0, 224.0]]]"
        ),
        "1 x 1 kernel is a matrix product True",
        "pool2d(X, (2, 2)) [[4.0, 5.0], [7.0, 8.0]]",
        "pool2d(X, (2, 2), 'avg') [[2.0, 3.0], [5.0, 6.0]]",
        "MaxPool2d(3) [[[[10.0]]]]",
        "MaxPool2d(3, padding=1, stride=2) [[[[5.0, 7.0], [13.0, 15.0]]]]",
        "each channel by itself [[[[5.0, 7.0], [13.0, 15.0]], [[6.0, 8.0], [14.0, 16.0]]]]",
    ),
    "page2_learning": (
        "X, first row [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]",
        "Y, first row [0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0]",
        "the same kernel on X turned 0.0",
    ),
    "page3_transposed": (
        "trans_conv(X, K) [[0.0, 0.0, 1.0], [0.0, 4.0, 6.0], [4.0, 12.0, 9.0]]",
        "ConvTranspose2d(1, 1, 2) [[[[0.0, 0.0, 1.0], [0.0, 4.0, 6.0], [4.0, 12.0, 9.0]]]]",
        "ConvTranspose2d(1, 1, 2, padding=1) [[[[4.0]]]]",
        (
            "ConvTranspose2d(1, 1, 2, stride=2) [[[[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 2.0, 3.0], "
            "[0.0, 2.0, 0.0, 3.0], [4.0, 6.0, 6.0, 9.0]]]]"
        ),
        "16 x 16 and back (1, 10, 16, 16) True",
        "17 x 17 and back (1, 10, 16, 16) False",
        "ConvTranspose1d, {'stride': 1} [1.0, 3.0, 6.0, 6.0, 5.0, 3.0]",
        "ConvTranspose1d, {'stride': 2} [1.0, 2.0, 4.0, 2.0, 4.0, 2.0, 4.0, 2.0, 3.0]",
        "ConvTranspose1d, {'dilation': 2} [1.0, 1.0, 3.0, 3.0, 5.0, 5.0, 3.0, 3.0]",
        "ConvTranspose1d, {'padding': 1} [3.0, 6.0, 6.0, 5.0]",
        "stride 2, padding 1, output_padding 1 [2.0, 4.0, 2.0, 3.0]",
    ),
    "page4_matrix": (
        "reference.kernel2matrix is the same True",
        "W x [27.0, 37.0, 57.0, 67.0] conv2d [27.0, 37.0, 57.0, 67.0]",
        "W^T y [27.0, 91.0, 74.0, 138.0, 400.0, 282.0, 171.0, 429.0, 268.0]",
        "conv_transpose2d [27.0, 91.0, 74.0, 138.0, 400.0, 282.0, 171.0, 429.0, 268.0]",
        "4 x 4 input, 3 x 3 kernel (4, 16)",
        "{}: border -> conv, equal True",
        "{'padding': 1}: border -> conv, equal True",
        "{'stride': 2, 'padding': 1}: insert_zeros -> border -> conv, equal True",
        "trans_conv(corr2d(X, K), K) [[0.0, 19.0, 25.0], [38.0, 144.0, 118.0], [74.0, 197.0, 129.0]]",
        "rank of W 4 of 9",
    ),
    "page5_upsampling": (
        "encoder-decoder (1, 3, 64, 64) -> (1, 32, 16, 16) -> (1, 5, 64, 64)",
        "kernel 4, stride 2: uneven 0.000",
        "kernel 3, stride 2: uneven 0.436",
        "more padding: 0.436 and 0.436",
        "a larger stride: kernel 4, stride 3: 0.458",
        "a smaller kernel: 5, 3: 0.275, 0.436",
        "ICNR: 0.000",
        "the best layer for a doubling: ConvTranspose2d(kernel_size=4, stride=2, padding=1)",
    ),
}


@pytest.mark.parametrize("page", FIGURES)
def test_a_tutorial_prints_its_figures(page: str, told: Told) -> None:
    lines = told(page)
    assert [line for line in FIGURES[page] if line not in lines] == []


def test_every_tutorial_is_checked() -> None:
    assert sorted(FIGURES) == sorted(path.stem for path in (EXAMPLES / "tutorials").glob("*.py"))


def test_the_kernel_of_the_tutorial_is_learned(told: Told) -> None:
    lines = told("page2_learning")
    losses = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("step ")]
    assert len(losses) == 5
    assert losses == sorted(losses, reverse=True)
    (learned,) = [line for line in lines if line.startswith("learned ")]
    left, right = (float(value) for value in learned.removeprefix("learned [").rstrip("]").split(", "))
    assert abs(left - 1) < 0.1
    assert abs(right + 1) < 0.1


def run(name: str, out: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--out", str(out), *arguments])
    script(name).main()


def sharp(picture: Path) -> bool:
    """Whether there is something on a picture."""
    return float(np.asarray(Image.open(picture).convert("L")).std()) > 10


SCRIPTS = ("learn_kernel", "learned_kernels", "segmentation", "text_cnn")


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs_and_saves_its_picture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(name, tmp_path / "new", monkeypatch, "--quick")
    assert sharp(tmp_path / "new" / f"{name}.png")
    told = capsys.readouterr().out
    assert f"saved: {tmp_path / 'new' / name}.png" in told
    assert "held-out" in told or "mean IoU" in told


def live(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["live_sound", "--threads", str(torch.get_num_threads()), *arguments])
    script("live_sound").main()


@pytest.mark.parametrize("network", ["telephone", "codec"])
def test_sound_goes_through_a_network_as_it_arrives(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile = pytest.importorskip("soundfile")
    first, second = tmp_path / "first.wav", tmp_path / "second.wav"
    live(monkeypatch, "--quick", "--network", network, "--verbose", "--out", str(first))
    live(monkeypatch, str(first), "--network", network, "--block", "50", "--out", str(second))
    told = capsys.readouterr().out
    assert "10 blocks of 20 ms: " in told
    assert "4 blocks of 50 ms: " in told
    assert told.count("after its last sample") == 10
    assert [len(soundfile.read(path)[0]) for path in (first, second)] == [4800, 4800]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.wav",), "'source' must be a recording: got 'nowhere.wav'"),
        (("--out", "nowhere/result.wav"), "'--out' must be a file of sound in a folder that is there: got"),
        (
            ("--out", "result.xyz"),
            "'--out' must be a file of sound in a folder that is there: got 'result.xyz'",
        ),
        (("--block", "0"), "'--block' must be positive: got 0.0"),
        (("--threads", "0"), "'--threads' must be at least 1: got 0"),
    ],
)
def test_sound_that_is_none_is_one_sentence(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("soundfile")
    with pytest.raises(SystemExit) as stop:
        live(monkeypatch, *arguments)
    assert said in f"{stop.value.code} {capsys.readouterr().err}"


def test_every_example_is_run() -> None:
    assert sorted([*SCRIPTS, "live_sound", "training"]) == sorted(path.stem for path in EXAMPLES.glob("*.py"))


def test_sobel_and_gauss_are_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("learn_kernel", tmp_path, monkeypatch, "--steps", "20")
    told = capsys.readouterr().out
    found = {name: float(value) for name, value in re.findall(r"(\w+): held-out .* within (\S+)", told)}
    assert sorted(found) == ["Gauss", "Sobel"]
    assert max(found.values()) < 0.01


def test_interruption_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = script("training")
    loop = training.Training()

    def step(number: int) -> float:
        if number == 3:
            raise KeyboardInterrupt
        return float(number)

    assert loop.run("counting", 10, step) == [0, 1, 2]
    assert loop.run("afterwards", 10, step) == []
    assert "counting: interrupted after 3 of 10 steps" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        loop.exit()
    assert stop.value.code == 130


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--steps", "0"), "'--steps' must be at least 1: got 0; legal: 1 or more"),
        (("--steps", "many"), "argument --steps: invalid int value: 'many'"),
        (("--seed", "-1"), "'--seed' must be a number that a generator takes: got -1; legal: 0 to 2**32 - 1"),
        (("--out", __file__), "'--out' must be a folder, there or to be made: got"),
    ],
)
def test_a_bad_argument_is_one_clear_line(
    given: tuple[str, str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        run("learn_kernel", tmp_path, monkeypatch, *given)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_outside_of_training_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        script("training").begin(main)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_ctrl_c_draws_what_was_learned_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = script("learn_kernel")
    run_in_full = example.Training.run
    drawn: list[str] = []

    def run_once(training: Any, name: str, steps: int, step: Any) -> list[float]:
        losses: list[float] = run_in_full(training, name, steps, step)
        training.interrupted = True
        return losses

    monkeypatch.setattr(example.Training, "run", run_once)
    monkeypatch.setattr(example, "picture", lambda results, _: drawn.extend(r.name for r in results))
    monkeypatch.setattr(example, "save", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["learn_kernel", "--out", str(tmp_path), "--quick"])
    with pytest.raises(SystemExit) as stop:
        example.main()
    assert stop.value.code == 130
    assert drawn == ["Sobel"]
    assert "Gauss:" not in capsys.readouterr().out


def test_the_saved_first_layer_is_drawn_by_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("learned_kernels", tmp_path, monkeypatch, "--quick")
    with pytest.raises(SystemExit) as stop:
        outstride_command(["kernels", str(tmp_path / "learned_kernels.pt"), "--out", str(tmp_path / "k.png")])
    assert stop.value.code == 0
    assert sharp(tmp_path / "k.png")
