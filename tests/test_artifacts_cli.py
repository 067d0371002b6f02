"""`outstride artifacts`: layers, models and pictures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outstride.cli import main

UNEVEN = "ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)"


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["artifacts", *arguments])
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_a_layer_is_mapped_and_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = outcome(capsys, UNEVEN, "--out", str(tmp_path / "map.png"))
    assert code == 0
    assert "uneven: 1 to 4" in out
    assert "ConvTranspose2d(8, 3, 4, stride=2, padding=1)" in out
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 100
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]
    code, out, _ = outcome(capsys, UNEVEN, "4x5", "--json")
    assert np.asarray(json.loads(out)["counts"]).shape == (8, 10)


def test_a_model_is_inspected(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = outcome(
        capsys, "tests.test_artifacts_cures:Scattered", "1x3x32x32", "--out", str(tmp_path / "a.png")
    )
    assert code == 0
    assert "Conv2d(3, 12, 3, padding=1) + PixelShuffle(2)" in out
    assert (tmp_path / "a.png").exists()
    code, out, _ = outcome(capsys, "tests.test_artifacts_cures:Scattered", "--json")
    assert len(json.loads(out)["findings"]) == 3


def test_a_picture_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    board = np.indices((64, 96)).sum(0) % 2 * 50 + 100
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "board.png")
    code, out, _ = outcome(capsys, str(tmp_path / "board.png"), "--json")
    assert code == 0
    assert abs(json.loads(out)["amplitude"] - 25 / 255) < 1e-6
    code, out, _ = outcome(
        capsys, str(tmp_path / "board.png"), "--stride", "3", "--out", str(tmp_path / "s.png")
    )
    assert "no pattern" in out
    assert (tmp_path / "s.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "'LAYER|MODEL|PICTURE' must be one of them"),
        (["missing.png"], "'PICTURE' must be a picture that can be read"),
        (["Conv2d(1, 1"], "'"),
        ([UNEVEN, "3x3x3"], "'SIZE' must have one number"),
        (["no.such:thing"], "no.such"),
        ([UNEVEN, "--out", "/no/such/folder/x.png"], "'out' must be a .png"),
        (["tests.test_artifacts_cures:Scattered", "1x4x32x32"], "'input' must be one that the model takes"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    code, out, err = outcome(capsys, *arguments)
    assert code == 2
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
