"""What `check` says and refuses, as a function and as a verb."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from outstride import accelerate, check, functional
from outstride.cli import main
from outstride.errors import ArgumentError, ShapeError, UnsupportedError
from tests.inspection.models_to_check import GRAPHS, Fn, last, quick
from tests.tolerance import assert_same_numbers


def test_the_engine_serves_what_accelerate_serves() -> None:
    class Own(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return F.conv2d(input, self.weight)

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Own(1, 1, 3), Fn(lambda x: F.conv2d(x, torch.ones(1, 1, 3, 3))))
    engine = [row.engine for row in quick(model, 1, 1, 16, 16).layers if row.engine]
    assert engine == ["served", "Own computes in its own way", "called as a function, not as a layer"]
    whole = quick(nn.Conv2d(1, 1, 3).to(torch.complex64), 1, 1, 16, 16)
    assert whole.layers[0].engine == "the engine computes float32, float64, bfloat16, float16, not complex64"


def test_what_a_layer_is_computed_by_changes_no_figure() -> None:
    w = torch.ones(3, 3, 4, 4)

    def model(algorithm: str) -> nn.Module:
        def twice(x: Tensor) -> Tensor:
            up = functional.conv_transpose2d(x, w, None, 2, 1, algorithm=algorithm)
            return functional.conv2d(up, w, padding=1, algorithm=algorithm)

        layers = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ConvTranspose2d(3, 3, 4, 2))
        return nn.Sequential(accelerate(layers, algorithm=algorithm), Fn(twice))

    auto, direct = (quick(model(algorithm), 1, 3, 16, 16).to_dict() for algorithm in ("auto", "direct"))
    assert auto == direct


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ConvTranspose2d(64, 32, 3, stride=2, padding=1)", "--input", "1,64,32,32"], "1x32x63x63"),
        (["MaxPool2d(3, padding=1)", "--input", "1x3x9x9", "--no-sizes"], "not looked for"),
        (["torch.nn:Identity", "--input", "1,3,9,9"], "output:         "),
    ],
)
def test_the_verb_prints_the_report(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", *arguments])
    assert stop.value.code == 0
    assert words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["check", *arguments, "--json"])
    assert set(json.loads(capsys.readouterr().out)) >= {"layers", "sizes", "halo", "multiply_adds"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing", "--input", "1,3"], "'MODEL' must be a layer or name a model"),
        (["Conv2d(3, 8, 3)", "--input", "abc"], "'--input' must be whole numbers"),
        (["Conv2d(3, 8, 3)"], "Missing option"),
        (["Conv2d(3, 8, 3)", "--input", "1,4,9,9"], "'MODEL' must run at '--input'"),
        (["no.such:model", "--input", "1,3,9,9"], "'MODEL' must name a model or a callable"),
        (["ConvTranspose2d(2, 2, 2, output_padding=3)", "--input", "1,2,3,3"], "'output_padding'"),
    ],
)
def test_the_verb_refuses_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", *arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_the_report_prints_and_becomes_json() -> None:
    report = check(GRAPHS["unet"].float(), (1, 2, 40))
    text = str(report)
    assert "n = 0 mod 2" in text
    assert "multiply-adds" in text
    again = json.loads(json.dumps(report.to_dict()))
    assert again["output_fields"]["length"]["stride"] == "1"
    assert again["layers"][0]["fields"]["length"]["reads"] == [[-1, 1]]
    html = report._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") > 3


def test_the_model_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check(model, (1, 1, 8, 8))
    assert model.training
    assert model[0].training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert_same_numbers(value, before[name], name)


def test_a_model_that_looks_at_numbers_is_run_on_zeros() -> None:
    model = Fn(lambda x, a: a(x) if float(x.sum()) == 0 else x, a=nn.Conv2d(1, 1, 3))
    report = check(model, (1, 1, 8, 8))
    assert last(report).fields[0].sizes == (3,)
    assert "zeros" in str(report)


def test_further_arguments_are_given_by_name() -> None:
    class Timed(nn.Module):
        def forward(self, x: Tensor, time: Tensor, scale: float) -> dict[str, Tensor]:
            return {"sample": x * time.view(-1, 1, 1, 1) * scale}

    report = quick(Timed(), 1, 1, 8, 8, arguments={"time": torch.ones(1), "scale": 2.0})
    assert report.outputs == ((1, 1, 8, 8),)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, (1, 1, 8, 8)), ArgumentError, "'model' must be a torch module"),
        ((nn.Conv2d(1, 1, 3), (1, 0, 8, 8)), ArgumentError, "'input_shape' must be whole numbers"),
        ((nn.Conv2d(1, 1, 3), ()), ArgumentError, "'input_shape' must be whole numbers"),
        ((nn.Conv2d(1, 1, 3), (1, 1, 2, 2)), ShapeError, "'model' must run at 'input_shape'"),
    ],
)
def test_what_has_no_meaning_is_refused(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check(*arguments)


def test_axes_must_be_axes() -> None:
    with pytest.raises(ArgumentError, match="'axes' must be different axes"):
        check(nn.ReLU(), (1, 2, 3), axes=(1, 1))
    with pytest.raises(ArgumentError, match="'size' must have one number"):
        quick(nn.ReLU(), 1, 2, 3).fit((3, 3))


@pytest.mark.parametrize("name", ["squeeze_", "unsqueeze_"])
def test_a_shape_that_changes_in_place_is_refused_by_name(name: str) -> None:
    class Reshaped(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = getattr(x * 2, name)(0)
            return result

    with pytest.raises(UnsupportedError, match=f"got {name}, which changes one in place; legal: "):
        check(Reshaped(), (1, 3, 8, 8))
