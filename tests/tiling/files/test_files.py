"""Files of every format in and out of tiles: nothing destroyed, nothing half-read, numbers by one rule."""

from __future__ import annotations

import os
import pickle
import struct
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.cli import main
from outstride.errors import ArgumentError, OutstrideError
from tests.tiling.models_to_tile import Function, conv, image, whole_of
from tests.tolerance import assert_equal_values, assert_same_bits

Values = np.ndarray[Any, Any]
IDENTITY = nn.Identity()


def numbers(*shape: int) -> Values:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


def run(source: Any, out: Any = None, model: nn.Module = IDENTITY, **options: Any) -> Any:
    return tiling.tile_run(model, source, out, progress=False, **options)


def write(path: Path, values: Values) -> Path:
    """A file of the format that its name says, with these numbers: (H, W) floats from 0 to 1."""
    if path.suffix == ".npy":
        np.save(path, values[None, None])
    elif path.suffix == ".zarr":
        pytest.importorskip("zarr").create_array(path, shape=(1, 1, *values.shape), dtype="f4")[:] = values[
            None, None
        ]
    elif path.suffix == ".tif":
        pytest.importorskip("tifffile").imwrite(path, values, tile=(16, 16))
    elif path.suffix == ".wav":
        pytest.importorskip("scipy.io.wavfile").write(path, 8000, (values.ravel() * 9999).astype(np.int16))
    else:
        pytest.importorskip("PIL.Image").fromarray((values * 255).astype(np.uint8)).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is there stays there.
@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".tif", ".png", ".wav"])
def test_what_exists_is_replaced_only_where_that_is_asked(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("scipy")
    source = write(tmp_path / "x.wav", numbers(20, 30))
    model = nn.Conv1d(1, 1, 1) if suffix == ".wav" else Function(lambda x: x.reshape(1, 1, 20, 30))
    out = tmp_path / f"y{suffix}"
    run(source, out, model)
    before = run(out) if suffix != ".wav" else out.read_bytes()
    with pytest.raises(ArgumentError, match=r"'out' must not exist yet.*overwrite=True"):
        run(source, out, model)
    again = run(out) if suffix != ".wav" else out.read_bytes()
    assert_equal_values(np.asarray(again), np.asarray(before))
    assert run(source, out, model, overwrite=True) == out
    assert names(tmp_path) == ["x.wav", out.name]


def test_a_result_never_goes_where_the_input_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "x.npy", numbers(20, 30))
    content = source.read_bytes()
    (tmp_path / "link.npy").symlink_to(source)
    os.link(source, tmp_path / "hard.npy")
    (tmp_path / "folder").symlink_to(tmp_path)
    for one, other in [
        (source, source), ("x.npy", source), ("./x.npy", "x.npy"), ("link.npy", "x.npy"),
        ("x.npy", "link.npy"), ("x.npy", "hard.npy"), ("x.npy", "folder/x.npy"),
    ]:  # fmt: skip
        for overwrite in (False, True):
            with pytest.raises(ArgumentError, match="'out' must be another file than 'source'"):
                run(one, other, overwrite=overwrite)
    with pytest.raises(ArgumentError, match="'out' must be another file than 'source'"):
        run("x.npy", np.load(source, mmap_mode="r+")[...])
    assert source.read_bytes() == content


def test_zarr_arrays_are_not_put_into_each_other(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    source = write(tmp_path / "x.zarr", numbers(20, 30))
    for out in (source, source / "inner.zarr", zarr.open_array(source)):
        with pytest.raises(ArgumentError, match="'out' must be another file than 'source'"):
            run(source, out)
    zarr.create_group(tmp_path / "several.zarr").create_array("one", shape=(3,), dtype="f4")
    with pytest.raises(ArgumentError, match=r"'out' must be a \.zarr file to be overwritten"):
        run(source, tmp_path / "several.zarr", overwrite=True)
    assert names(tmp_path) == ["several.zarr", "x.zarr"]


def test_arrays_that_share_memory_are_refused() -> None:
    values = np.zeros((2, 1, 8, 8), np.float32)
    tensor = torch.zeros(2, 1, 8, 8, dtype=torch.bfloat16)
    for source, out in [(values, values), (values[:, :, ::2], values[:, :, 0:8:2]), (tensor, tensor)]:
        with pytest.raises(ArgumentError, match="'out' must not share memory with 'source'"):
            run(source, out)
    run(values[:1], values[1:])


def test_folders_and_links_in_the_place_of_a_result(tmp_path: Path) -> None:
    source = write(tmp_path / "x.npy", numbers(20, 30))
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(ArgumentError, match=r"'out' must be a \.npy file to be overwritten"):
        run(source, tmp_path / "folder.npy", overwrite=True)
    (tmp_path / "link.npy").symlink_to(tmp_path / "y.npy")
    with pytest.raises(ArgumentError, match="'out' must not exist yet"):
        run(source, tmp_path / "link.npy")
    run(source, tmp_path / "link.npy", overwrite=True)
    assert (tmp_path / "link.npy").is_symlink()
    assert_equal_values(np.load(tmp_path / "y.npy"), np.load(source))


# What cannot be read.
def packed(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def lying_npy(path: Path) -> None:
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1, 1, 10**5, 10**5)}
        np.lib.format.write_array_header_1_0(file, header)


def lying_png(path: Path) -> None:
    header = packed(b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + packed(b"IDAT", zlib.compress(b"1")))


def deep_png(path: Path) -> None:
    header = packed(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    rows = zlib.compress((b"\0" + b"\1\2" * 6) * 2)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + packed(b"IDAT", rows) + packed(b"IEND", b""))


def without_its_codec(path: Path) -> None:
    if pytest.importorskip("importlib.util").find_spec("imagecodecs") is not None:
        pytest.skip("the codec is there")
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((20, 30), np.uint8)).save(path, compression="tiff_lzw")


def broken_chunk(path: Path) -> None:
    write(path, numbers(20, 30))
    chunk = next(part for part in path.rglob("*") if part.is_file() and part.suffix != ".json")
    chunk.write_bytes(b"no chunk")


def objects(path: Path) -> None:
    np.save(path, np.array([1, None], object), allow_pickle=True)


BROKEN: dict[str, tuple[str, Callable[[Path], object]]] = {
    "objects": (".npy", objects),
    "pickled": (".npy", lambda path: path.write_bytes(pickle.dumps([1, 2]))),
    "archive": (".npy", lambda path: np.savez(path.open("wb"), x=numbers(3))),
    "words": (".npy", lambda path: np.save(path, np.array(["a"]))),
    "larger than it is": (".npy", lying_npy),
    "larger than its bytes": (".png", lying_png),
    "16 bits of three channels": (".png", deep_png),
    "codec": (".tif", without_its_codec),
    "no chunks": (".zarr", Path.mkdir),
    "no folder": (".zarr", lambda path: path.write_bytes(b"x")),
    "chunk": (".zarr", broken_chunk),
    "nowhere": (".npy", lambda path: path.symlink_to("nowhere.npy")),
}
FORMATS = (".npy", ".tif", ".png", ".wav", ".jpg")


def refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on the error stream, 2 as exit code, and nothing made."""
    out = source.with_name("out.npy")
    before = names(source.parent)
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "tile",
                "Conv2d(1, 1, 3)" if source.suffix != ".wav" else "Conv1d(1, 1, 3)",
                str(source),
                str(out),
            ]
        )
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.err.count("\n") == 1
    assert "'SOURCE' must" in said.err
    assert "allow_pickle" not in said.err, "nobody is told to trust what is broken"
    assert "saved" not in said.out
    assert names(source.parent) == before
    with pytest.raises(OutstrideError):
        run(source, out)
    assert names(source.parent) == before


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, make = BROKEN[name]
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    make(tmp_path / f"x{suffix}")
    refused(tmp_path / f"x{suffix}", capsys)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_half_a_file_is_one_sentence(
    tmp_path: Path, suffix: str, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix == ".tif":
        pytest.importorskip("zarr")  # which reads them
    path = write(tmp_path / f"x{suffix}", numbers(64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path, capsys)
    path.write_bytes(b"XXXXXXXXXXXX" + content[12:])
    refused(path, capsys)
    path.unlink()
    path.mkdir()
    refused(path, capsys)


@pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 0)() == 0, reason="the superuser may read and write everything"
)
def test_no_permission_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.npy", numbers(20, 30))
    path.chmod(0)
    refused(path, capsys)
    path.chmod(0o600)
    tmp_path.chmod(0o500)
    with pytest.raises(ArgumentError, match="'out' must be in a folder that can be written to"):
        run(path, tmp_path / "y.npy")


def test_no_space_is_one_sentence(tmp_path: Path) -> None:
    source = torch.zeros(1).expand(1, 1, 10**8, 10**8)
    with pytest.raises(ArgumentError, match=r"'out' must be a file that can be written: .* are free"):
        run(source, tmp_path / "y.npy", tile=64)
    assert not names(tmp_path)


# Pictures.
@pytest.mark.parametrize(("channels", "dtype"), [(1, "u1"), (3, "u1"), (4, "u1"), (1, "u2")])
def test_a_picture_comes_back_as_it_was(tmp_path: Path, channels: int, dtype: str) -> None:
    image = pytest.importorskip("PIL.Image")
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top + 1, (30, 40, channels)).astype(dtype)
    pixels[0, 0], pixels[0, 1] = 0, top
    image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(tmp_path / "x.png")
    read = run(tmp_path / "x.png", tile=16)
    assert_equal_values(read[0], pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(top))
    run(tmp_path / "x.png", tmp_path / "y.png", tile=16)
    got = np.asarray(image.open(tmp_path / "y.png"))
    assert_equal_values(got.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_numbers_beyond_0_to_1_are_scaled_and_that_is_said(tmp_path: Path, channels: int) -> None:
    image = pytest.importorskip("PIL.Image")
    values = np.linspace(-1, 1, 16 * 16 * channels, dtype=np.float32).reshape(1, channels, 16, 16)
    with pytest.warns(UserWarning, match="values from -1 to 1 are drawn from black to white"):
        run(values, tmp_path / "y.png")
    expected = np.rint((values[0].astype(np.float64) + 1) / 2 * 255).astype(np.uint8).transpose(1, 2, 0)
    assert_equal_values(np.asarray(image.open(tmp_path / "y.png")).reshape(expected.shape), expected)


def test_numbers_that_are_none_are_drawn_and_counted(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    values = np.full((1, 1, 2, 2), 0.2, np.float32)
    values[0, 0, 0], values[0, 0, 1, 0] = (np.nan, np.inf), -np.inf
    with pytest.warns(UserWarning, match="3 values are NaN, drawn black, or infinite"):
        run(values, tmp_path / "y.png")
    assert_equal_values(np.asarray(image.open(tmp_path / "y.png")), [[0, 255], [0, 51]])


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda x: (x * 9).long(), [[0, 4], [9, 2]]),
        (lambda x: (x * 5000).long(), [[0, 2500], [5000, 1250]]),
        (lambda x: x > 0.3, [[0, 255], [255, 0]]),
    ],
)
def test_classes_keep_their_numbers_and_masks_are_white(
    tmp_path: Path, made: Callable[[torch.Tensor], torch.Tensor], expected: Sequence[Sequence[int]]
) -> None:
    image = pytest.importorskip("PIL.Image")
    values = np.array([[[[0, 0.5], [1, 0.25]]]], np.float32)
    run(values, tmp_path / "y.png", Function(made))
    assert_equal_values(np.asarray(image.open(tmp_path / "y.png")), expected)


def test_integers_that_a_picture_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"got integers from -1 to 0 for a \.png; legal: 0 to 65535"):
        run(-numbers(1, 1, 4, 4).round(), tmp_path / "y.png", Function(lambda x: x.long()))
    assert not names(tmp_path)


def test_masks_in_a_tiff_are_white(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.array([[[[0, 0.5], [1, 0.25]]]], np.float32)
    run(values, tmp_path / "y.tif", Function(lambda x: x > 0.3))
    assert_equal_values(tifffile.imread(tmp_path / "y.tif").squeeze(), [[0, 255], [255, 0]])


# Sounds.
@pytest.mark.parametrize(
    ("dtype", "samples", "expected"),
    [
        (np.uint8, [128, 0, 255, 192], [0, -1, 127 / 128, 0.5]),
        (np.int16, [0, -32768, 32767, 16384], [0, -1, 32767 / 32768, 0.5]),
        (np.int32, [0, -(2**31), 2**30, -(2**30)], [0, -1, 0.5, -0.5]),
        (np.float32, [0, -1, 0.25, 1.5], [0, -1, 0.25, 1.5]),
        (np.float64, [0, -1, 0.25, 1.5], [0, -1, 0.25, 1.5]),
    ],
)
def test_samples_are_numbers_from_minus_1_to_1(
    tmp_path: Path, dtype: Any, samples: Sequence[float], expected: Sequence[float]
) -> None:
    wavfile = pytest.importorskip("scipy.io.wavfile")
    wavfile.write(tmp_path / "x.wav", 8000, np.array(samples, dtype))
    assert_equal_values(run(tmp_path / "x.wav")[0, 0], np.array(expected, np.float32))


def test_samples_of_24_bits(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    samples = [0, -(2**23), 2**23 - 1, 1, -1]
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(8000)
        file.writeframes(b"".join(n.to_bytes(3, "little", signed=True) for n in samples))
    assert_equal_values(run(tmp_path / "x.wav")[0, 0], np.array(samples, np.float32) / 2**23)


@pytest.mark.parametrize(
    ("model", "rate"),
    [
        (IDENTITY, 44100),
        (nn.Upsample(scale_factor=2), 88200),
        (nn.ConvTranspose1d(1, 1, 7, 3), 132300),
        (nn.Conv1d(1, 1, 7, 3), 14700),
        (nn.Sequential(nn.Conv1d(1, 1, 5, 2), nn.ConvTranspose1d(1, 1, 4, 3)), 66150),
        (Function(lambda x: x.unflatten(2, (-1, 4)).sum(3)), 11025),
        (nn.AdaptiveAvgPool1d(500), 22050),
    ],
)
def test_a_sound_keeps_its_pace(tmp_path: Path, model: nn.Module, rate: int) -> None:
    wavfile = pytest.importorskip("scipy.io.wavfile")
    wavfile.write(tmp_path / "x.wav", 44100, numbers(1000))
    run(tmp_path / "x.wav", tmp_path / "y.wav", model)
    assert wavfile.read(tmp_path / "y.wav")[0] == rate


def test_a_rate_that_is_no_whole_number_is_said(tmp_path: Path) -> None:
    wavfile = pytest.importorskip("scipy.io.wavfile")
    wavfile.write(tmp_path / "x.wav", 8000, numbers(1000))
    with pytest.warns(UserWarning, match="2667 samples a second, where"):
        run(tmp_path / "x.wav", tmp_path / "y.wav", nn.AvgPool1d(3))
    with pytest.raises(ArgumentError, match=r"got a \.wav of 0.08 samples a second"):
        run(tmp_path / "x.wav", tmp_path / "z.wav", nn.Conv1d(1, 1, 3, 100000, padding=1))


def test_a_sound_of_no_samples(tmp_path: Path) -> None:
    wavfile = pytest.importorskip("scipy.io.wavfile")
    wavfile.write(tmp_path / "x.wav", 8000, np.zeros(0, np.int16))
    assert run(tmp_path / "x.wav").shape == (1, 1, 0)


def test_arrays_of_numpy_and_maps_of_files(tmp_path: Path) -> None:
    model, x = conv(1, 2, 3, padding=1), image(1, 1, 40, 50)
    expected = whole_of(model, x)
    np.save(tmp_path / "x.npy", x.numpy())
    source = np.load(tmp_path / "x.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "y.npy", mode="w+", dtype=np.float32, shape=(1, 2, 40, 50))
    assert tiling.tile_run(model, source, out, tile=16, progress=False) is out
    assert_same_bits(torch.from_numpy(np.load(tmp_path / "y.npy")), expected)
    got = tiling.tile_run(model, source, tile=16, progress=False)
    assert isinstance(got, np.ndarray)
    assert_same_bits(torch.from_numpy(got), expected)


@pytest.mark.parametrize("name", ["y.npy", "y.zarr", "y.tif"])
def test_paths_go_in_and_out(tmp_path: Path, name: str) -> None:
    model, x = conv(1, 3, 3, padding=1), image(1, 1, 300, 50)
    np.save(tmp_path / "x.npy", x.numpy())
    path = tiling.tile_run(model, tmp_path / "x.npy", tmp_path / name, tile=64, progress=False)
    assert path == tmp_path / name
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["x.npy", name])
    with_axis = tiling.tile_run(nn.Identity(), path, tile=50, progress=False)
    assert_same_bits(torch.from_numpy(np.asarray(with_axis)), whole_of(model, x))


def test_pictures_are_numbers_from_0_to_1(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    tiling.tile_run(nn.Identity(), tmp_path / "x.png", tmp_path / "y.png", tile=16, progress=False)
    assert_equal_values(np.asarray(Image.open(tmp_path / "y.png")), pixels)
    read = tiling.tile_run(nn.Identity(), tmp_path / "x.png", tile=16, progress=False)
    assert_equal_values(read[0], pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(("shape", "axes"), [((30, 40), "YX"), ((30, 40, 3), "YXS"), ((2, 30, 40), "CYX")])
def test_tiffs_are_read_whatever_their_axes(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = np.random.default_rng(0).random(shape).astype(np.float32)
    tifffile.imwrite(tmp_path / "x.tif", values, tile=(16, 16), metadata={"axes": axes})
    expected = {
        "YX": values[None],
        "YXS": values.transpose(2, 0, 1) if axes == "YXS" else values,
        "CYX": values,
    }[axes]
    got = tiling.tile_run(nn.Identity(), tmp_path / "x.tif", tile=16, progress=False)
    assert_equal_values(got[0], expected)


def test_sounds_go_in_and_out(tmp_path: Path) -> None:
    from scipy.io import wavfile

    values = np.random.default_rng(0).integers(-32768, 32767, (1000, 2), np.int16)
    wavfile.write(tmp_path / "x.wav", 8000, values)
    tiling.tile_run(nn.Identity(), tmp_path / "x.wav", tmp_path / "y.wav", tile=300, progress=False)
    rate, got = wavfile.read(tmp_path / "y.wav")
    assert rate == 8000
    assert_equal_values(got, values.astype(np.float32) / np.float32(32768))
