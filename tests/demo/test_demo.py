"""The demo: what it reads, what it keeps from training, that it learns, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from outstride.errors import ArgumentError
from tests.tolerance import assert_differ, assert_same_numbers, assert_within, assert_within_roundings

pytest.importorskip("PIL")
pytest.importorskip("matplotlib")

from PIL import Image

from outstride.demo import data, pictures, report
from outstride.demo.network import SuperResolution, bicubic, shrink
from outstride.demo.training import Budget, train

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def draw_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture with edges and grain: discs of random colour."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 128.0)
    for _ in range(60):
        row, column, radius = random.uniform(0, height), random.uniform(0, width), random.uniform(3, 20)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = random.uniform(0, 255, 3)
    return Image.fromarray((pixels + random.normal(0, 2, pixels.shape)).clip(0, 255).astype(np.uint8))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    draw_picture(160, 140).save(path)
    return path


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_training_never_sees_the_held_out_region(scale: int) -> None:
    photo = data.load(None, scale)
    photo.held_out.cut(photo.colour).fill_(float("nan"))
    patches = data.Patches(photo, scale, seed=0)
    assert len({place[0] for place in patches.places}) == len(data.PYRAMID)
    for level, (small, large) in enumerate(patches._levels):
        rows, columns = patches.places[patches.places[:, 0] == level, 1:].T
        for picture, step in ((small, 1), (large, scale)):
            seen = picture.isnan().float()
            assert seen.any()
            # Entry (row, column): whether the patch that begins there holds anything of the region.
            held = F.max_pool2d(seen, patches.side * step, stride=step)[0, 0]
            assert not held[rows, columns].any()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_patches_are_pairs_of_one_place(scale: int) -> None:
    patches = data.Patches(data.load(None, scale), scale, seed=3)
    small, large = patches.draw(6)
    assert small.shape == (6, 1, patches.side, patches.side)
    assert large.shape == (6, 1, patches.side * scale, patches.side * scale)
    # The filter reaches over the patch's border, so only the inside can agree.
    inner = (..., slice(4, -4), slice(4, -4))
    assert_within(shrink(large, scale)[inner], small[inner], 1.5 / 255, "both are rounded to grey levels")


def test_patches_repeat_with_their_seed() -> None:
    photo = data.load(None, 2)
    one, same, other = (data.Patches(photo, 2, seed).draw(4)[1] for seed in (5, 5, 6))
    assert_same_numbers(one, same)
    assert_differ(one, other)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_smallest_picture_leaves_something_to_train_on(scale: int, side: int, tmp_path: Path) -> None:
    least = data.LEAST_SIDE_AT_SCALE_1 * scale
    path = tmp_path / "small.png"
    draw_picture(least, least - side).save(path)
    if side:
        with pytest.raises(ArgumentError, match=f"at least {least} pixels"):
            data.load(path, scale)
    else:
        assert len(data.Patches(data.load(path, scale), scale, 0).places) > 100


def test_modes_of_pictures_are_read_alike(tmp_path: Path) -> None:
    base = draw_picture(150, 130)
    grey = np.asarray(base.convert("L"))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    base.convert("RGBA").save(tmp_path / "rgba.png")
    base.save(tmp_path / "rgb.png")
    read = {path.name: data.load(path, 2).colour for path in tmp_path.iterdir()}
    assert_within_roundings(read["grey16.png"], read["grey.png"], 8, "scaled by 65535 or by 255")
    assert_within(
        read["float.tif"], read["grey.png"] / read["grey.png"].max(), 3e-3, "a grey level is 1/255 = 3.9e-3"
    )
    assert_same_numbers(read["rgba.png"], read["rgb.png"])


def test_transparent_is_white(tmp_path: Path) -> None:
    path = tmp_path / "clear.png"
    Image.new("RGBA", (140, 140), (10, 20, 30, 0)).save(path)
    assert_same_numbers(data.load(path, 2).colour, torch.ones(1, 3, 140, 140))


def test_large_and_long_pictures_are_reduced(tmp_path: Path) -> None:
    for size, expected in {(1500, 1200): (819, 1024), (3000, 150): (128, 2560)}.items():
        path = tmp_path / "large.png"
        draw_picture(*size).save(path)
        assert data.load(path, 2).colour.shape[2:] == expected


def test_psnr_of_a_known_error() -> None:
    truth = torch.full((1, 1, 8, 8), 0.5)
    off = truth + 0.1
    off[..., 0, :] = 0.0  # on the border, which does not count
    assert_within(report.psnr(off, truth, 1), 20.0, 1e-4, "0.1 is no number of float32")
    assert report.psnr(truth, truth, 1) == float("inf")


def test_network_starts_near_bicubic_and_enlarges_exactly() -> None:
    torch.manual_seed(0)
    small = torch.rand(2, 1, 9, 13)
    for scale in (2, 3, 4):
        network = SuperResolution(scale)
        with torch.no_grad():
            large = network(small)
        assert large.shape == (2, 1, 9 * scale, 13 * scale)
        assert_within(large, bicubic(small, scale), 0.1, "an untrained network adds little")


def test_enlarging_leaves_colour_differences_to_bicubic() -> None:
    torch.manual_seed(1)
    small = 0.3 + 0.4 * torch.rand(1, 3, 12, 12)
    difference = report.enlarge(SuperResolution(2), small, 2) - bicubic(small, 2)
    assert difference.abs().max() > 0
    assert_within_roundings(
        difference, difference[:, :1].expand(-1, 3, -1, -1), 16, "colours are added to brightness", scale=1.0
    )


def test_training_repeats_and_learns(picture: Path) -> None:
    photo = data.load(picture, 2)
    small, large = data.Patches(photo, 2, seed=7).draw(32)
    ends, errors = [], []
    for steps in (12, 12, 100):
        torch.manual_seed(0)
        network = SuperResolution(2, features=24, shrunk=8, mappings=2)
        before = (network(small) - large).abs().mean().item()
        result = train(network, data.Patches(photo, 2, seed=0), Budget(0.0, steps), lambda *_: None)
        assert (result.steps, result.interrupted) == (steps, False)
        ends.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
        errors.append((network(small) - large).abs().mean().item() / before)
    assert_same_numbers(ends[0], ends[1])
    assert errors[2] < 0.99


def test_layers_are_named_timed_and_compared() -> None:
    torch.manual_seed(0)
    ours, stock = SuperResolution(2, 8, 4, 1).eval(), SuperResolution(2, 8, 4, 1).eval()
    stock.load_state_dict(ours.state_dict())
    with torch.no_grad():
        stock.upsample.weight += 1.0
    rows = report.time_layers(ours, stock, torch.rand(1, 1, 12, 10))
    assert [row.name for row in rows] == [
        "feature.0", "shrink.0", "mapping.0", "expand.0", "upsample", "whole network",
    ]  # fmt: skip
    assert rows[4].input_shape == (1, 8, 12, 10)
    assert all(row.torch_ms > 0 and row.outstride_ms > 0 for row in rows)
    assert [row.largest_difference > 1e-3 for row in rows] == [False] * 4 + [True] * 2


def test_pictures_replace_the_old_ones_whole(tmp_path: Path) -> None:
    old = tmp_path / "picture.png"
    old.write_text("old")
    pictures.save_picture(old, torch.rand(3, 10, 12))
    with Image.open(old) as image:
        assert image.size == (12, 10)
    with pytest.raises(RuntimeError):
        pictures.save_picture(old, torch.rand(10))
    with Image.open(old) as image:
        assert image.size == (12, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def demo(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "outstride", "demo", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def test_demo_runs_and_leaves_its_pictures(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = demo("--image", picture, "--seconds", "2", "--out", out, "--json")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    figures = json.loads(stdout)
    assert figures["training"]["steps"] >= 1
    assert figures["bicubic_db"] > 10
    assert [row["name"] for row in figures["layers"]][-2:] == ["upsample", "whole network"]
    assert all(row["largest_difference"] < 1e-3 for row in figures["layers"])
    assert sorted(path.name for path in out.iterdir()) == ["enlarged.png", "panel.png", "timing.png"]
    with Image.open(out / "enlarged.png") as image:
        assert image.size == (320, 280)


def wait_for_training(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if re.match(r"training: \d+%, \d+ steps", line):
            return
    pytest.fail(f"training never began: exit code {process.wait()}")


def test_first_interrupt_ends_the_training_and_keeps_what_is_done(picture: Path, tmp_path: Path) -> None:
    process = demo("--image", picture, "--seconds", "3600", "--out", tmp_path / "out", "--json")
    wait_for_training(process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert re.search(r"^outstride: training was interrupted after \d+ steps, .*\n\Z", stderr, re.MULTILINE)
    assert json.loads(stdout)["training"]["interrupted"] is True
    assert (tmp_path / "out" / "panel.png").is_file()


@pytest.mark.slow
def test_second_interrupt_ends_at_once(picture: Path, tmp_path: Path) -> None:
    process = demo("--image", picture, "--seconds", "3600", "--out", tmp_path / "out")
    wait_for_training(process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "layers one by one" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == "outstride: interrupted\n"
    assert process.stdout is not None
    assert process.stdout.read() == ""
    assert process.wait(timeout=60) == 130
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_network_beats_bicubic_on_the_held_out_face(tmp_path: Path) -> None:
    process = demo("--steps", "700", "--out", tmp_path, "--json")
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    figures = json.loads(stdout)
    assert figures["network_db"] > figures["bicubic_db"] + 0.8
