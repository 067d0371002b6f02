"""`outstride solve`: answers, refusals, JSON."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from outstride import geometry
from outstride.cli import main
from outstride.cli.app import app
from outstride.layer.spec import ConvSpec

UNPADDED = "ConvTranspose2d(kernel_size=3, stride=2)"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    """The command in this process: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stop:
        main(("solve", *arguments))
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_it_helps_with_examples() -> None:
    result = CliRunner().invoke(app, ["solve", "--help"])
    assert result.exit_code == 0
    assert re.search(r"Examples?:\s+outstride solve", result.output)


def test_the_table_is_the_library_s_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--input", "65", "--output", "256", "--top", "3")
    assert (code, err) == (0, "")
    found = geometry.solve(65, 256)
    assert f"{len(found)} layers" in out
    rows = [repr(solution.spec) for solution in found[:3]]
    assert [out.index(row) for row in rows] == sorted(out.index(row) for row in rows)
    assert repr(found[3].spec) not in out
    assert f"  = {found[0].proof[0]}" in out
    assert "256 / 65 is no whole number" in out
    for reason in found[0].reasons:
        assert reason.text in out


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["--scale", "2"], "ConvTranspose2d(kernel_size=4, stride=2, padding=1)"),
        (["7", "14"], "ConvTranspose2d(kernel_size=4, stride=2, padding=1)"),
        (["--scale", "1/2", "--nd", "1"], "Conv1d(kernel_size=4, stride=2, padding=1)"),
        (["--scale", "2", "--kernel", "2..3"], "ConvTranspose2d(kernel_size=2, stride=2)"),
        (["--scale", "1/2", "--kind", "max_pool"], "MaxPool2d(2)"),
        (
            ["--input", "3x7", "--output", "3x14"],
            "ConvTranspose2d(kernel_size=(3, 4), stride=(1, 2), padding=1)",
        ),
        (["--input", "7", "--output", "15", "--padding", "0", "--dilation", "1"], UNPADDED),
    ],
)
def test_json_holds_what_was_asked(capsys: pytest.CaptureFixture[str], arguments: Any, first: str) -> None:
    code, out, _ = run(capsys, *arguments, "--json", "--top", "2")
    content = json.loads(out)
    assert code == 0
    assert len(content["solutions"]) == min(2, content["count"])
    best = content["solutions"][0]
    assert best["layer"] == first
    spec = ConvSpec.parse(first)
    assert best["multiply_adds"] > 0
    assert tuple(best["kernel_size"]) == spec.kernel_size
    if best["input_size"]:
        assert geometry.output_size(spec, best["input_size"]) == tuple(best["output_size"])


def test_a_chain_by_sizes_and_by_scales(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--chain", "256,128,64,128,256", "--top", "2")
    assert code == 0
    assert out.count("Conv2d(kernel_size=4, stride=2, padding=1)") == 4
    assert "n = 0 modulo 4" in out
    code, out, _ = run(capsys, "--chain", "/2,1/2,x2,2", "--kind", "max_pool", "--json", "--top", "1")
    (best,) = json.loads(out)["chains"]
    assert [step["kind"] for step in best["layers"]] == ["max_pool"] * 2 + ["conv_transpose"] * 2
    assert best["period"] == [{"modulus": 4, "residues": [0]}] * 2
    code, out, _ = run(capsys, "--chain", "64x48,32x24,64x48", "--json")
    assert json.loads(out)["chains"][0]["sizes"] == [[64, 48], [32, 24], [64, 48]]


def test_a_layer_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    layer = "ConvTranspose2d(8, 8, 3, stride=2, padding=1)"
    code, out, _ = run(capsys, "--input", "14", "--output", "28", "--explain", layer)
    assert code == 1
    assert "= 27, not 28; output_padding=1 would give it" in out
    code, out, _ = run(
        capsys, "--scale", "2", "--explain", "ConvTranspose2d(8, 8, 4, stride=2, padding=1)", "--json"
    )
    assert code == 0
    assert json.loads(out)["rank"] == 1


def test_no_answer_is_said_with_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--input", "100", "--output", "60")
    assert code == 1
    assert "no layer within the bounds" in out
    code, out, _ = run(capsys, "--chain", "100,60", "--json")
    assert (code, json.loads(out)["count"]) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one question must be asked: got none"),
        (["7"], "sizes must be two, and given once: got 7; legal: outstride solve 14 28"),
        (["7", "14", "--input", "7"], "sizes must be two, and given once"),
        (["7", "14", "--scale", "2"], "one question must be asked: got --scale, --input"),
        (["--input", "7"], "one question must be asked: got --input"),
        (["--scale", "2", "--chain", "8,4"], "got --chain, --scale"),
        (["--scale", "3/2"], "'--scale' must be one that a single conv_transpose layer can have"),
        (["--scale", "two"], "'--scale' must be a whole number or one over a whole number"),
        (["--input", "7x", "--output", "14"], "'--input' must be whole numbers joined by x: got '7x'"),
        (["--input", "7x7", "--output", "14x14x14"], "must agree on 1 to 3 axes"),
        (["--scale", "2", "--kernel", "3..2"], "'--kernel' must be whole numbers of at least 1"),
        (["--scale", "2", "--kernel", "1..99999999"], "'--kernel' must be whole numbers of at least 1"),
        (["--scale", "2", "--kind", "deconv"], "'--kind' must be one of its names"),
        (["0", "14"], "'INPUT' must be at least 1: got INPUT=0"),
        (["--input", "7", "--output", "0"], "'--output' must be at least 1"),
        (["--chain", "256,,128"], "'--chain'"),
        (["--chain", "8,0"], "'--chain' must be at least 1"),
        (["--chain", "/2,x2.5"], "'--chain' must hold sizes or scales: got 'x2.5'"),
        (["--chain", "8,4", "--explain", "Conv2d(1, 1, 3)"], "'--explain' must be left out with '--chain'"),
        (["7", "14", "--explain", "Conv2d(1, 1"], "'--explain' must be one layer, written as a call"),
        (["7", "14", "--explain", "Linear(1, 1)"], "'--explain' must name a convolution or pooling layer"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
