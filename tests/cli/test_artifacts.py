"""`outstride artifacts`: layers, models and pictures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from outstride.cli import main
from tests.tolerance import assert_within

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
        capsys, "tests.artifacts.test_cures:Scattered", "1x3x32x32", "--out", str(tmp_path / "a.png")
    )
    assert code == 0
    assert "Conv2d(3, 12, 3, padding=1) + PixelShuffle(2)" in out
    assert (tmp_path / "a.png").exists()
    code, out, _ = outcome(capsys, "tests.artifacts.test_cures:Scattered", "--json")
    assert len(json.loads(out)["findings"]) == 3


def test_a_picture_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    board = np.indices((64, 96)).sum(0) % 2 * 50 + 100
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "board.png")
    code, out, _ = outcome(capsys, str(tmp_path / "board.png"), "--json")
    assert code == 0
    assert_within(json.loads(out)["amplitude"], 25 / 255, 1e-6, "pictures are measured in float32")
    code, out, _ = outcome(
        capsys, str(tmp_path / "board.png"), "--stride", "3", "--out", str(tmp_path / "s.png")
    )
    assert "no pattern" in out
    assert (tmp_path / "s.png").exists()


def test_a_picture_is_not_drawn_over(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "p.png")
    (tmp_path / "same.png").symlink_to(tmp_path / "p.png")
    before = (tmp_path / "p.png").read_bytes()
    for name in ("p.png", "same.png"):
        code, out, err = outcome(capsys, str(tmp_path / "p.png"), "--out", str(tmp_path / name))
        assert (code, out) == (2, "")
        assert "'--out' must be another file than 'PICTURE'" in err
    assert (tmp_path / "p.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "'LAYER|MODEL|PICTURE' must be one of them"),
        (["missing.png"], "'PICTURE' must be a picture that can be read"),
        (["Conv2d(1, 1"], "'"),
        ([UNEVEN, "3x3x3"], "'SIZE' must have one number"),
        (["no.such:thing"], "no.such"),
        ([UNEVEN, "--out", "/no/such/folder/x.png"], "'--out' must be a .png"),
        ([UNEVEN, "1000000x1000000"], "'SIZE' must be small enough"),
        ([UNEVEN, "1000000000000000000"], "'SIZE' must be small enough"),
        (["Conv1d(1, 1, 3)", "1000000000000"], "'SIZE' must be small enough"),
        (["ConvTranspose2d(1, 1, 3, stride=1000000)"], "must have a period small enough"),
        (["ConvTranspose1d(1, 1, 1000000000000)"], "must have a period small enough"),
        (["picture.png", "7x7"], "'SIZE' must be left out beside a picture"),
        ([UNEVEN, "--stride", "3"], "'--stride' must be left out beside a layer or model"),
        (["tests.artifacts.test_cures:Scattered", "1x4x32x32"], "'SIZE' must be one that the model takes"),
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


def board(top: float) -> np.ndarray:
    """A checkerboard of 0.4 and 0.6 of what is white."""
    squares: np.ndarray = (np.indices((64, 96)).sum(0) % 2 * 0.2 + 0.4) * top
    return squares


def rgba(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    pixels: np.ndarray = np.stack([values, values, values, alpha], -1).astype(np.uint8)
    return pixels


OPAQUE = np.full((64, 96), 255)
SAVED = {
    "grey 8.png": Image.fromarray(board(255).astype(np.uint8)),
    "grey 16.png": Image.fromarray(board(65535).astype(np.uint16)),
    "grey 16.tif": Image.fromarray(board(65535).astype(np.uint16)),
    "big endian.tif": Image.fromarray(board(65535).astype(">u2")),
    "whole 32.tif": Image.fromarray(board(65535).astype(np.int32)),
    "whole 32 of 31 bits.tif": Image.fromarray(board(2**31 - 1).astype(np.int32)),
    "float to 1.tif": Image.fromarray(board(1).astype(np.float32)),
    "float to 255.tif": Image.fromarray(board(255).astype(np.float32)),
    "float to 65535.tif": Image.fromarray(board(65535).astype(np.float32)),
    "colour.png": Image.fromarray(np.stack([board(255).astype(np.uint8)] * 3, -1)),
    "opaque.png": Image.fromarray(rgba(board(255), OPAQUE)),
    "grey with alpha.png": Image.fromarray(rgba(board(255), OPAQUE)).convert("LA"),
    "palette.png": Image.fromarray(board(255).astype(np.uint8)).convert("P"),
    # Black at 102 and at 153 of 255: over white the greys 0.6 and 0.4.
    "seen through.png": Image.fromarray(rgba(0 * OPAQUE, 255 - board(255))),
}


@pytest.mark.parametrize("name", SAVED)
def test_every_kind_of_picture_is_read_as_it_is_seen(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    SAVED[name].save(tmp_path / name)
    code, out, _ = outcome(capsys, str(tmp_path / name), "--json")
    assert code == 0
    assert_within(json.loads(out)["amplitude"], 0.1, 0.003, "the picture holds a scene beside the board")


def test_what_is_hidden_by_transparency_is_not_seen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.fromarray(rgba(board(255), 0 * OPAQUE)).save(tmp_path / "hidden.png")
    code, out, _ = outcome(capsys, str(tmp_path / "hidden.png"), "--json")
    assert code == 0
    assert json.loads(out)["amplitude"] == 0


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_broken_pictures_are_one_line(
    content: bytes, suffix: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / f"broken{suffix}").write_bytes(content)
    code, out, err = outcome(capsys, str(tmp_path / f"broken{suffix}"))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "'PICTURE' must be a picture that can be read" in err


def test_cut_and_unmeasurable_pictures_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for length in (40, 100, len(whole) // 2):
        (tmp_path / "a.png").write_bytes(whole[:length])
        code, out, err = outcome(capsys, str(tmp_path / "a.png"))
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
    values = board(1).astype(np.float32)
    values[3, 4] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    code, _, err = outcome(capsys, str(tmp_path / "nan.tif"))
    assert code == 2
    assert "'PICTURE' must hold finite numbers" in err
