"""What people have, read as a model takes it: levels, axes, slides, volumes, recordings, arrays in files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.errors import ArgumentError, UnsupportedError
from outstride.tiling import File
from outstride.tiling.files import formats
from tests.tolerance import assert_equal_values, assert_within

Values = np.ndarray[Any, Any]
PLANES, VOLUMES = nn.Conv2d(1, 1, 1), nn.Conv3d(1, 1, 1)
for _layer in (PLANES, VOLUMES):
    nn.init.ones_(_layer.weight)
    nn.init.zeros_(_layer.bias)  # type: ignore[arg-type] # there is one


def numbers(*shape: int, dtype: str = "f4") -> Values:
    made: Values = np.random.default_rng(sum(shape)).random(shape, np.float32)
    return made if dtype == "f4" else (made * np.iinfo(dtype).max).astype(dtype)


def read(source: Any, model: nn.Module | None = None) -> Values:
    """What a model is given: it gives it back."""
    found: Values = tiling.tile_run(nn.Identity() if model is None else model, source, tile=8, progress=False)
    return found


def scaled(values: Values) -> Values:
    found: Values = values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    return found


# OME-Zarr.
def ngff(path: Path, values: Values, axes: Any, version: str = "0.5", scale: float = 1.0) -> Path:
    """An image with two levels."""
    zarr = pytest.importorskip("zarr")
    zoom = tuple(slice(None, None, 2) if n > 4 else slice(None) for n in values.shape)
    levels = [values, values[zoom]]
    described = [
        {
            "path": f"scale{level}/image",
            "coordinateTransformations": [{"type": "scale", "scale": [scale * 2**level] * values.ndim}],
        }
        for level in range(2)
    ]
    image: dict[str, Any] = {"version": version, "datasets": described}
    if axes is not None:
        image["axes"] = axes
    words: dict[str, Any] = {"multiscales": [image]}
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.attrs.update({"ome": {"version": version, **words}} if version == "0.5" else words)
    for level, part in enumerate(levels):
        made = group.create_array(
            f"scale{level}/image", shape=part.shape, dtype=part.dtype, chunks=(8,) * part.ndim
        )
        made[...] = part
    return path


def named(letters: str, unit: str | None = "micrometer") -> list[dict[str, str]]:
    kinds = {"t": "time", "c": "channel"}
    return [
        {"name": letter, "type": kinds.get(letter, "space")}
        | ({"unit": unit} if unit and letter not in kinds else {})
        for letter in letters
    ]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("level", [None, 0, 1])
def test_a_level_of_an_ome_zarr(tmp_path: Path, version: str, level: int | None) -> None:
    values = numbers(2, 20, 30, dtype="u2")
    path = ngff(tmp_path / "x.ome.zarr", values, named("cyx"), version)
    expected = values[:, ::2, ::2] if level == 1 else values
    assert_equal_values(read(File(path, level))[0], scaled(expected))


@pytest.mark.parametrize("axes", [["t", "c", "z", "y", "x"], None])
def test_axes_of_older_releases(tmp_path: Path, axes: Any) -> None:
    values = numbers(2, 1, 1, 12, 10)
    path = ngff(tmp_path / "x.zarr", values, axes, "0.3" if axes else "0.1")
    assert_equal_values(read(path, PLANES), values[:, :, 0])
    assert_equal_values(read(path, VOLUMES), values)


def test_a_level_that_is_not_there(tmp_path: Path) -> None:
    path = ngff(tmp_path / "x.zarr", numbers(1, 20, 30), named("cyx"))
    with pytest.raises(
        ArgumentError, match=r"'level' must be one that the source has: got 2 .*legal: 0 to 1"
    ):
        read(File(path, 2))
    with pytest.raises(ArgumentError, match="'level' must be 0 or more"):
        File(path, -1)


def test_an_image_inside_a_group(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    values = numbers(1, 20, 30)
    ngff(tmp_path / "x.zarr" / "0", values, named("cyx"))
    with pytest.raises(ArgumentError, match=r"a group without levels .*by 'dataset': '0'"):
        read(tmp_path / "x.zarr")
    assert_equal_values(read(File(tmp_path / "x.zarr", dataset="0"))[0], values)
    assert_equal_values(read(File(tmp_path / "x.zarr", dataset="0/scale0/image", axes="cyx"))[0], values)
    with pytest.raises(ArgumentError, match="'source' must be a file that can be read"):
        read(File(tmp_path / "x.zarr", dataset="nothing"))


def test_words_that_do_not_fit_the_array(tmp_path: Path) -> None:
    path = ngff(tmp_path / "x.zarr", numbers(1, 20, 30), named("yx"))
    with pytest.raises(ArgumentError, match=r"'source' must be a file that can be read.*names 2 axes of 3"):
        read(path)


# Axes.
def stored(path: Path, values: Values, names: Any = None) -> Path:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(path, shape=values.shape, dtype=values.dtype, dimension_names=names)[...] = values
    return path


def test_a_zarr_without_channels_has_one(tmp_path: Path) -> None:
    plane, volume = numbers(12, 10), numbers(5, 12, 10)
    path = stored(tmp_path / "x.zarr", plane)
    assert_equal_values(read(path, PLANES)[0, 0], plane)
    assert_equal_values(read(stored(tmp_path / "v.zarr", volume), VOLUMES)[0, 0], volume)
    np.save(tmp_path / "x.npy", plane)
    assert_equal_values(read(tmp_path / "x.npy", PLANES)[0, 0], plane)


def test_names_of_a_zarrs_own_axes_are_read(tmp_path: Path) -> None:
    values = numbers(12, 10, 3)
    assert_equal_values(
        read(stored(tmp_path / "x.zarr", values, ["y", "x", "c"]))[0], values.transpose(2, 0, 1)
    )
    other = stored(tmp_path / "o.zarr", values, ["lat", "lon", "band"])
    assert_equal_values(read(other), values)


@pytest.mark.parametrize(
    ("axes", "shape", "order"),
    [
        ("CZYX", (2, 5, 6, 7), lambda x: x[None]),
        ("ZCYX", (5, 2, 6, 7), lambda x: x.transpose(1, 0, 2, 3)[None]),
        ("tczyx", (3, 2, 5, 6, 7), lambda x: x),
        ("XYZ", (7, 6, 5), lambda x: x.transpose(2, 1, 0)[None, None]),
        ("NYXS", (4, 6, 7, 3), lambda x: x.transpose(0, 3, 1, 2)),
        ("LC", (9, 2), lambda x: x.T[None]),
    ],
)
def test_axes_are_brought_into_the_models_order(
    tmp_path: Path, axes: str, shape: tuple[int, ...], order: Callable[[Values], Values]
) -> None:
    values = numbers(*shape)
    np.save(tmp_path / "x.npy", values)
    assert_equal_values(read(File(tmp_path / "x.npy", axes=axes)), order(values))
    for tile in (3, 100):
        got = tiling.tile_run(nn.Identity(), File(tmp_path / "x.npy", axes=axes), tile=tile, progress=False)
        assert_equal_values(got, order(values))


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        ("YX", "'axes' must name each axis of the source: got 'YX' for"),
        ("NTYX", "'source' must have the axes of the model's input"),
        ("CSYX", "'source' must have the axes of the model's input"),
        ("NCZX", "got axes 'NCZX'"),
        ("CZYX", "got axes 'CZYX' .*such as 'CNYX' for planes"),
    ],
)
def test_axes_that_do_not_fit_are_refused(tmp_path: Path, axes: str, text: str) -> None:
    np.save(tmp_path / "x.npy", numbers(2, 5, 6, 7))
    model = VOLUMES if axes == "NCZX" else PLANES
    with pytest.raises(ArgumentError, match=text):
        read(File(tmp_path / "x.npy", axes=axes), model)


@pytest.mark.parametrize("axes", ["", "YXY", "YXW", "Y X", 3])
def test_letters_that_name_no_axes(axes: Any) -> None:
    with pytest.raises(ArgumentError, match="'axes' must name each axis of the source by a letter"):
        File("x.npy", axes=axes)


# Slides.
def slide(path: Path, values: Values, compression: str | None = "jpeg") -> Path:
    """A slide as Aperio's: the picture, a thumbnail, a smaller level."""
    tifffile = pytest.importorskip("tifffile")
    if compression is not None:
        pytest.importorskip("imagecodecs")
    said = "Aperio Image Library v11.2.1\r\n{} |AppMag = 20|MPP = 0.4990"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "metadata": None, "software": False}
        levels = {"tile": (64, 64), "compression": compression, "subsampling": (1, 1), **options}
        file.write(values, description=said.format("whole"), **levels)
        file.write(values[::8, ::8].copy(), description=said.format("thumbnail"), **options)
        file.write(values[::4, ::4].copy(), description=said.format("level"), **levels)
    return path


def smooth(*shape: int) -> Values:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.stack([y / shape[0] * 255, x / shape[1] * 255, 0 * y + 90], -1).astype(np.uint8)


def test_a_slide_and_its_levels(tmp_path: Path) -> None:
    values = smooth(256, 320)
    path = slide(tmp_path / "x.svs", values)
    for level, expected in [(None, values), (1, values[::4, ::4])]:
        got = read(File(path, level))[0]
        assert_within(got, scaled(expected).transpose(2, 0, 1), 0.03, "JPEG keeps numbers about")
    with pytest.raises(ArgumentError, match="'level' must be one that the source has: got 5"):
        read(File(path, 5))


def test_the_size_of_a_slides_pixels_goes_into_the_result(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = slide(tmp_path / "x.svs", smooth(256, 320), None)
    tiling.tile_run(nn.Conv2d(3, 1, 2, 2), File(path, 1), tmp_path / "y.ome.tif", 32, progress=False)
    with tifffile.TiffFile(tmp_path / "y.ome.tif") as file:
        words = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert words["PhysicalSizeXUnit"] == "µm"
    assert_within(words["PhysicalSizeX"], 0.499 * 4 * 2, 1e-12, "float64")


def unreadable(path: Path) -> None:
    """A compression that no decoder has."""
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, numbers(64, 64), compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(65000)


def test_a_codec_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    unreadable(tmp_path / "x.tif")
    with pytest.raises(ArgumentError, match=r"'source' must be a file that can be read: .*65000"):
        read(tmp_path / "x.tif")


@pytest.mark.parametrize("compression", ["lzw", "jpeg", "jpeg2000", "zstd", "deflate"])
def test_codecs_of_tiffs(tmp_path: Path, compression: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    values = smooth(64, 80)
    tifffile.imwrite(
        tmp_path / "x.tif", values, compression=compression, tile=(32, 32), photometric="rgb",
        subsampling=(1, 1) if compression == "jpeg" else None,
    )  # fmt: skip
    assert_within(
        read(tmp_path / "x.tif")[0], scaled(values).transpose(2, 0, 1), 0.03, "JPEG keeps numbers about"
    )


def test_a_stack_of_planes_is_what_the_model_slides_along(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = numbers(5, 12, 10)
    tifffile.imwrite(tmp_path / "z.tif", values, metadata={"axes": "ZYX"}, photometric="minisblack")
    assert_equal_values(read(tmp_path / "z.tif", VOLUMES)[0, 0], values)
    with pytest.raises(ArgumentError, match=r"got axes 'ZYX' .*such as 'NYX' or 'CYX' for planes"):
        read(tmp_path / "z.tif", PLANES)
    assert_equal_values(read(File(tmp_path / "z.tif", axes="NYX"), PLANES)[:, 0], values)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for page in values:
            file.write(page, photometric="minisblack", metadata=None)
    assert_equal_values(read(tmp_path / "pages.tif", VOLUMES)[0, 0], values)
    assert_equal_values(read(tmp_path / "pages.tif")[0], values)


# Volumes.
def nifti(path: Path, values: Values, slope: float = 1.0, inter: float = 0.0) -> Path:
    """``values`` are as they are stored, the first axis fastest."""
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 1.5, -126], [0, 3.0, 0, -72], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, inter)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_is_read_in_its_own_units(tmp_path: Path, suffix: str) -> None:
    values = numbers(7, 6, 5, dtype="i2")
    path = nifti(tmp_path / f"x{suffix}", values)
    assert_equal_values(read(path, VOLUMES)[0, 0], values.T.astype(np.float32))
    assert_equal_values(read(File(path, axes="ZYX"), VOLUMES)[0, 0], values.astype(np.float32))
    four = numbers(7, 6, 5, 3)
    assert_equal_values(read(nifti(tmp_path / f"t{suffix}", four), VOLUMES)[:, 0], four.T)
    assert_equal_values(read(File(tmp_path / f"t{suffix}", axes="XYZC"))[0], four.T)


def test_a_volume_is_scaled_as_its_header_says(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    path = nifti(tmp_path / "x.nii", numbers(7, 6, 5, dtype="i2"), 0.5, -1024.0)
    expected = np.asarray(nibabel.load(path).dataobj).T.astype(np.float32)
    assert expected.min() < 0
    assert_equal_values(read(path, VOLUMES)[0, 0], expected)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_result_lies_where_its_volume_does(tmp_path: Path, suffix: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    path = nifti(tmp_path / "x.nii.gz", numbers(8, 6, 4))
    tiling.tile_run(VOLUMES, path, tmp_path / f"y{suffix}", 3, progress=False)
    source, result = nibabel.load(path), nibabel.load(tmp_path / f"y{suffix}")
    assert_equal_values(result.affine, source.affine)
    assert_equal_values(np.asarray(result.dataobj), np.asarray(source.dataobj))
    tiling.tile_run(nn.AvgPool3d(2), path, tmp_path / f"h{suffix}", 3, progress=False)
    half = nibabel.load(tmp_path / f"h{suffix}")
    assert half.shape == (4, 3, 2)
    assert_equal_values(half.affine @ [0, 0, 0, 1], source.affine @ [0.5, 0.5, 0.5, 1])
    assert_equal_values(half.affine @ [1, 2, 1, 1], source.affine @ [2.5, 4.5, 2.5, 1])
    tiling.tile_run(nn.Conv3d(1, 2, 1), path, tmp_path / f"c{suffix}", 3, progress=False)
    assert read(tmp_path / f"c{suffix}").shape == (1, 2, 4, 6, 8)


# HDF5.
def test_arrays_of_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    values = numbers(2, 12, 10)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("group/raw", data=values, chunks=(1, 8, 8), compression="gzip")
        file["words"] = "no numbers"
    assert_equal_values(read(tmp_path / "x.h5"), values)
    with h5py.File(tmp_path / "x.h5", "a") as file:
        made = file.create_dataset("label", data=values.transpose(1, 2, 0))
        for dimension, name in zip(made.dims, "yxc", strict=True):
            dimension.label = name
    with pytest.raises(ArgumentError, match=r"'dataset' must name an array.*legal: 'group/raw', 'label'"):
        read(tmp_path / "x.h5")
    with pytest.raises(ArgumentError, match="'dataset' must name an array of the source: got 'words'"):
        read(File(tmp_path / "x.h5", dataset="words"))
    assert_equal_values(read(File(tmp_path / "x.h5", dataset="/group/raw")), values)
    assert_equal_values(read(File(tmp_path / "x.h5", dataset="label"))[0], values)
    (tmp_path / "x.hdf5").write_bytes((tmp_path / "x.h5").read_bytes())
    assert_equal_values(read(File(tmp_path / "x.hdf5", dataset="label", axes="YXC"))[0], values)


# Sounds.
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_S8"])
def test_flac_is_read_as_wav_is(tmp_path: Path, subtype: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    values = numbers(3000, 2) * 2 - 1
    soundfile.write(tmp_path / "x.flac", values, 16000, subtype)
    expected, _ = soundfile.read(tmp_path / "x.flac", dtype="float32")
    got = tiling.tile_run(nn.Identity(), tmp_path / "x.flac", tile=700, progress=False)
    assert_equal_values(got[0], expected.T)


def test_flac_is_written_at_the_models_rate(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    values = numbers(3000, 1) * 2 - 1
    soundfile.write(tmp_path / "x.flac", values, 16000, "PCM_24")
    up = nn.ConvTranspose1d(1, 1, 2, 2, bias=False)
    nn.init.ones_(up.weight)
    tiling.tile_run(up, tmp_path / "x.flac", tmp_path / "y.flac", 700, progress=False)
    got, rate = soundfile.read(tmp_path / "y.flac", dtype="float32")
    assert rate == 32000
    assert_within(got[::2], soundfile.read(tmp_path / "x.flac", dtype="float32")[0], 2**-23, "24 bits")
    nn.init.constant_(up.weight, 3)
    with pytest.warns(UserWarning, match="samples lie beyond -1 to 1 and are cut off"):
        tiling.tile_run(up, tmp_path / "x.flac", tmp_path / "z.flac", progress=False)
    with pytest.raises(ArgumentError, match=r"got a \.flac for 9 channels"):
        tiling.tile_run(nn.Conv1d(1, 9, 1), tmp_path / "x.flac", tmp_path / "w.flac", progress=False)


# Half of a file, or less.
def write(path: Path) -> Path:
    values = numbers(20, 30)
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        return nifti(path, numbers(30, 20, 10))
    if name.endswith(".h5"):
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["x"] = numbers(1, 1, 60, 60)
    elif name.endswith(".flac"):
        pytest.importorskip("soundfile").write(path, (numbers(9000) * 2 - 1), 8000, "PCM_16")
    elif name.endswith(".svs"):
        slide(path, smooth(256, 320), None)
    else:
        ngff(path, values[None], named("cyx"))
    return path


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.8])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".h5", ".flac", ".svs"])
def test_half_a_file_is_one_sentence(tmp_path: Path, suffix: str, share: float) -> None:
    path = write(tmp_path / f"x{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArgumentError, match="'source' must be a file that can be read"):
        read(path)
    path.write_bytes(b"X" * 400 + content[400:])
    with pytest.raises(ArgumentError, match="'source' must be a file that can be read"):
        read(path)


def test_packed_words_that_are_no_volume(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    with gzip.open(tmp_path / "x.nii.gz", "wb") as file:
        file.write(b"words" * 100)
    with pytest.raises(ArgumentError, match="'source' must be a file that can be read"):
        read(tmp_path / "x.nii.gz")


def test_an_ome_zarr_that_lacks_a_level(tmp_path: Path) -> None:
    path = write(tmp_path / "x.ome.zarr")
    (path / "scale1" / "image" / "zarr.json").unlink()
    assert read(path).shape == (1, 1, 20, 30)
    with pytest.raises(ArgumentError, match="'source' must be a file that can be read"):
        read(File(path, 1))


# What has no meaning, or no library.
@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".npy", {"level": 1}), (".npy", {"dataset": "x"}), (".png", {"level": 0}), (".wav", {"dataset": "x"})],
)
def test_options_that_a_format_does_not_have(tmp_path: Path, suffix: str, options: Any) -> None:
    pytest.importorskip("PIL")
    pytest.importorskip("scipy")
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, numbers(1, 1, 4, 4))
    else:
        path.write_bytes(b"")
    with pytest.raises(ArgumentError, match=f"'{next(iter(options))}' must not be given for such a file"):
        read(File(path, **options))


@pytest.mark.parametrize(
    ("suffix", "extra"),
    [(".nii", "volumes"), (".nii.gz", "volumes"), (".h5", "volumes"), (".flac", "audio"), (".svs", "tiling"),
     (".ome.zarr", "tiling"), (".jpg", "tiling")],
)  # fmt: skip
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, suffix: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda _: None)
    path = tmp_path / f"x{suffix}"
    path.touch()
    with pytest.raises(UnsupportedError, match=rf"pip install 'outstride\[{extra}\]'"):
        read(path)
    if suffix not in (".h5", ".svs"):
        with pytest.raises(UnsupportedError, match=rf"pip install 'outstride\[{extra}\]'"):
            tiling.tile_run(PLANES, torch.zeros(1, 1, 4, 4), tmp_path / f"y{suffix}", progress=False)
