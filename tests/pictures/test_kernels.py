"""The picture of learned kernels, and the verb that draws one from a saved model."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import outstride
from outstride import nn
from outstride.errors import ArgumentError
from outstride.pictures.kernel_grid import TILE_PIXELS, kernels
from outstride.pictures.saved_weights import convolution_weights, read_weights
from tests.cli import test_cli
from tests.cli.test_cli import Run
from tests.tolerance import assert_equal_values, assert_same_numbers

run = test_cli.run


def tile(pixels: np.ndarray, row: int, column: int, size: tuple[int, int], zoom: int) -> np.ndarray:
    """One tile at its own size again, after seeing that its enlargement is even."""
    gap = max(1, zoom // 2)
    h, w = size
    top, left = gap + row * (h * zoom + gap), gap + column * (w * zoom + gap)
    whole = pixels[top : top + h * zoom, left : left + w * zoom]
    assert whole.shape == (h * zoom, w * zoom, 3)
    small = whole[::zoom, ::zoom]
    assert_equal_values(small.repeat(zoom, 0).repeat(zoom, 1), whole)
    return small


def zoom_of(size: tuple[int, int]) -> int:
    return -(-TILE_PIXELS // max(size))


def test_a_tile_is_the_kernel_grey_at_zero() -> None:
    weight = torch.tensor([[-2.0, 0.0, 1.0], [2.0, 0.5, -1.0]]).view(1, 1, 2, 3)
    picture = outstride.kernels(weight)
    small = tile(picture.pixels, 0, 0, (2, 3), zoom_of((2, 3)))
    assert small[..., 0].tolist() == [[0, 128, 191], [255, 159, 64]]
    assert (small == small[..., :1]).all()
    assert (picture.shown, picture.total, picture.colour) == (1, 1, False)


def test_three_channels_are_colours_and_each_kernel_has_its_own_scale() -> None:
    weight = torch.zeros(2, 3, 4, 4)
    weight[0, 0, 0, 0], weight[1, 2, 1, 1] = 5.0, -0.01
    red, blue = (tile(kernels(weight).pixels, 0, c, (4, 4), zoom_of((4, 4))) for c in (0, 1))
    assert red[0, 0].tolist() == [255, 128, 128]
    assert blue[1, 1].tolist() == [128, 128, 0]
    alike = tile(kernels(weight, scale="layer").pixels, 0, 1, (4, 4), zoom_of((4, 4)))
    assert alike[1, 1].tolist() == [128, 128, 127]


def test_channels_beside_each_other_and_kernels_below() -> None:
    weight = torch.arange(1.0, 1 + 5 * 2 * 9).view(5, 2, 3, 3)
    picture = kernels(weight, scale="layer")
    assert (picture.shown, picture.total) == (10, 10)
    small = tile(picture.pixels, 3, 1, (3, 3), zoom_of((3, 3)))
    expected = np.rint(127.5 + 127.5 * weight[3, 1].double().numpy() / 90)
    assert small[..., 0].tolist() == expected.tolist()


@pytest.mark.parametrize(("nd", "size"), [(1, (1, 5)), (2, (5, 5)), (3, (5, 25))])
@pytest.mark.parametrize("name", ["Conv", "ConvTranspose"])
def test_layers_of_every_dimension(nd: int, size: tuple[int, int], name: str) -> None:
    layer = getattr(nn, f"{name}{nd}d")(4, 4, 5, groups=2)
    picture = kernels(layer)
    assert picture.total == 8
    small = tile(picture.pixels, 1, 0, size, zoom_of(size))
    plane = layer.weight[1, 0].detach().double().numpy()
    plane = plane.transpose(1, 0, 2).reshape(5, 25) if nd == 3 else plane.reshape(size)
    assert small[..., 0].tolist() == np.rint(127.5 + 127.5 * plane / np.abs(plane).max()).tolist()


def test_no_more_are_shown_than_are_wanted() -> None:
    picture = kernels(nn.Conv2d(8, 8, 3), most=10, columns=4)
    assert repr(picture).startswith("KernelGrid(10 of 64 kernels in grey, ")
    rows = (picture.pixels.shape[0] - 6) // (36 + 6)
    assert rows == 3
    # Where there is no kernel, the paper is white.
    assert (picture.pixels[-42:, -84:] == 255).all()


def test_zeros_are_grey_and_narrow_types_are_drawn() -> None:
    assert set(np.unique(kernels(torch.zeros(1, 1, 3, 3)).pixels)) == {128, 255}
    assert kernels(nn.Conv2d(3, 4, 3).to(torch.bfloat16)).total == 4
    assert kernels(nn.Conv2d(3, 4, 3, dtype=torch.complex64)).total == 4


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        (
            torch.nn.Linear(2, 3),
            {},
            "convolution layer or its weight: got a weight of shape",
        ),
        (torch.nn.ReLU(), {}, "'layer' must be a convolution layer or its weight: got ReLU"),
        (nn.LazyConv2d(3, 3), {}, "'layer' must know its weights: got LazyConv2d"),
        (nn.Conv2d(3, 4, 3, device="meta"), {}, "'layer' must hold numbers"),
        (torch.full((1, 1, 2, 2), torch.nan), {}, "'layer' must hold finite weights: got 4 of 4"),
        (torch.ones(0, 3, 2, 2), {}, "'layer' must have a weight to draw"),
        (nn.Conv2d(3, 4, 3), {"columns": 0}, "'columns' must be at least 1: got columns=0"),
        (nn.Conv2d(3, 4, 3), {"scale": "no"}, "'scale' must be one of its names: got scale='no'"),
    ],
)
def test_what_cannot_be_drawn(layer: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        kernels(layer, **options)


def test_the_picture_is_saved_whole_and_shown_by_notebooks(tmp_path: Path) -> None:
    picture = kernels(nn.Conv2d(3, 8, 5))
    saved = picture.save(tmp_path / "k.png")
    assert_equal_values(np.asarray(Image.open(saved)), picture.pixels)
    assert picture._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ArgumentError, match=r"'path' must end in the name of a format: .*legal: \.png"):
        picture.save(tmp_path / "k.bmp")
    assert [file.name for file in tmp_path.iterdir()] == ["k.png"]


class Model(torch.nn.Sequential):
    """Two convolutions and what is none."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 5), torch.nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 4, 3))


def test_weights_are_found_in_checkpoints_and_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = Model()
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "model": model.state_dict(), "optimizer": optimiser.state_dict()}, tmp_path / "check.pt"
    )
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for name, prefix in (("plain.pt", ""), ("check.pt", "model."), ("model.safetensors", "")):
        found = convolution_weights(read_weights(tmp_path / name))
        assert list(found) == [f"{prefix}0", f"{prefix}2"]
        assert_same_numbers(found[f"{prefix}2"], model.get_parameter("2.weight"))


class Trap:
    """What a hostile file holds: opening it would write another file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "ran")


def test_the_verb_draws_a_saved_model(run: Run, tmp_path: Path) -> None:
    torch.save(Model().state_dict(), tmp_path / "m.pt")
    out = tmp_path / "k.png"
    done = run("kernels", str(tmp_path / "m.pt"), "--out", str(out))
    assert done.code == 0
    assert "0: weight 8 x 3 x 5 x 5, 8 of 8 kernels, in colour" in done.out
    assert "other layers: 2" in done.out
    assert Image.open(out).size == kernels(Model()[0]).pixels.shape[1::-1]
    done = run("kernels", str(tmp_path / "m.pt"), "--layer", "2", "--out", str(out), "--json")
    told = json.loads(done.out)
    assert told["layers"] == {"0": [8, 3, 5, 5], "2": [8, 4, 3, 3]}
    assert (told["layer"], told["kernels"], told["colour"]) == ("2", 32, False)
    done = run("kernels", f"{__file__}:Model", "--out", str(out))
    assert done.code == 0


@pytest.mark.parametrize("where", ["new", "legacy", "bare"])
def test_a_file_that_would_run_code_is_refused_and_does_not(run: Run, tmp_path: Path, where: str) -> None:
    file, trace = tmp_path / "evil.pt", tmp_path / "trace"
    if where == "bare":
        file.write_bytes(pickle.dumps({"weight": Trap(trace)}))
    else:
        torch.save({"weight": Trap(trace)}, file, _use_new_zipfile_serialization=where == "new")
    done = run("kernels", str(file), "--out", str(tmp_path / "k.png"))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "would run code from the file; legal: torch.save(model.state_dict(), FILE)" in done.err
    assert not trace.exists()


def test_bad_files_and_names_are_one_clear_line(run: Run, tmp_path: Path) -> None:
    torch.save(Model(), tmp_path / "module.pt")
    torch.save(Model().state_dict(), tmp_path / "good.pt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    torch.save({"epoch": 1}, tmp_path / "numbers.pt")
    (tmp_path / "text.pt").write_text("no model")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:300])
    (tmp_path / "bad.safetensors").write_text("no model")
    for name, message in {
        "module.pt": "holds other objects",
        "linear.pt": "must have a convolution",
        "numbers.pt": "must hold tensors: got",
        "text.pt": "which is neither",
        "empty.pt": "which is neither",
        "cut.pt": "which is neither",
        "bad.safetensors": "must be a safetensors file",
        "none.pt": "which is no file",
    }.items():
        done = run("kernels", str(tmp_path / name))
        assert (done.code, done.out) == (2, ""), name
        assert message in done.err
        assert done.err.count("\n") == 1
    done = run("kernels", str(tmp_path / "good.pt"), "--out", str(tmp_path / "none" / "k.png"))
    assert (done.code, done.out) == (2, "")
    assert "'--out' must be a .png or .gif or .webp in a folder that exists" in done.err
    done = run("kernels", str(tmp_path / "good.pt"), "--layer", "9")
    assert "'--layer' must be a convolution" in done.err
    assert "got '9'; legal: 0, 2" in done.err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, on tracing
def test_a_program_is_refused_before_torch_sees_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)), tmp_path / "program.pt")
    monkeypatch.setattr(torch, "load", None)
    done = run("kernels", str(tmp_path / "program.pt"), "--out", str(tmp_path / "k.png"))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "which is a TorchScript program; legal: torch.save(model.state_dict(), FILE)" in done.err


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, on quantised tensors
def test_sparse_and_quantised_weights_are_drawn_as_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    weight = torch.tensor([[-2.0, 0.0], [1.0, 2.0]]).view(1, 1, 2, 2)
    held = {
        "sparse.weight": weight.to_sparse(),
        "small.weight": torch.quantize_per_tensor(weight, 0.5, 0, torch.qint8),
    }
    torch.save(held, tmp_path / "m.pt")
    found = convolution_weights(read_weights(tmp_path / "m.pt"))
    for name in ("sparse", "small"):
        assert_equal_values(kernels(found[name]).pixels, kernels(weight).pixels)
