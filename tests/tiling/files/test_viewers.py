"""Results that viewers open: levels, names and sizes of axes, bytes by a scale that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import tiling
from outstride.errors import ArgumentError
from outstride.tiling import File
from outstride.tiling.files.writers.pyramid import halved, shapes_of
from outstride.tiling.results import journal
from tests.tiling.models_to_tile import Function
from tests.tolerance import assert_equal_values, assert_within

Values = np.ndarray[Any, Any]
SAME = nn.Identity()


def numbers(*shape: int) -> Values:
    return np.random.default_rng(sum(shape)).random(shape, np.float32)


def make(values: Values, out: Path, model: nn.Module = SAME, tile: int = 256, **options: Any) -> Path:
    made: Path = tiling.tile_run(model, values, out, tile, progress=False, **options)
    return made


def means(values: Values) -> Values:
    """2 x 2 by 2 x 2; at an odd end what is there."""
    wide = np.pad(
        values.astype(np.float64),
        [(0, 0)] * (values.ndim - 2) + [(0, n % 2) for n in values.shape[-2:]],
        "edge",
    )
    four = wide[..., ::2, ::2] + wide[..., 1::2, ::2] + wide[..., ::2, 1::2] + wide[..., 1::2, 1::2]
    return np.asarray(four / 4)


# Levels.
def test_levels_are_halves_until_they_are_small() -> None:
    assert shapes_of((3, 500, 512)) == [(3, 500, 512)]
    assert shapes_of((3, 2051, 90)) == [(3, 2051, 90), (3, 1026, 45), (3, 513, 23), (3, 257, 12)]


@pytest.mark.parametrize("shape", [(4, 6), (5, 6), (5, 7), (1, 1), (1, 2)])
def test_halves_are_means_or_one_of_them(shape: tuple[int, int]) -> None:
    values = numbers(*shape)
    assert_within(halved(values, False), means(values), 1e-6, "float32")
    assert_equal_values(
        halved((values * 255).astype(np.uint8), False), np.rint(means((values * 255).astype(np.uint8)))
    )
    labels = (values * 9).astype(np.int64)
    assert_equal_values(halved(labels, True), labels[::2, ::2])


# OME-TIFF.
def test_an_ome_tiff_has_levels(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = numbers(1, 2, 1301, 700)
    out = make(values, tmp_path / "y.ome.tif")
    with tifffile.TiffFile(out) as file:
        assert file.is_ome
        series = file.series[0]
        assert (series.axes, series.is_pyramidal) == ("CYX", True)
        levels = [level.asarray() for level in series.levels]
    assert_equal_values(levels[0], values[0])
    expected = values[0]
    assert [level.shape for level in levels] == shapes_of((2, 1301, 700))
    for level in levels[1:]:
        expected = means(expected).astype(np.float32)
        assert_within(level, expected, 1e-6, "float32")
    assert_equal_values(tiling.tile_run(SAME, File(out, 2), progress=False)[0], levels[2])


@pytest.mark.parametrize(
    ("model", "dtype"),
    [(lambda x: (x * 9).long(), "int32"), (lambda x: x > 0.5, "uint8"), (lambda x: x.half(), "float32"),
     (lambda x: x.double(), "float64"), (lambda x: (x * 200).byte(), "uint8")],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_numbers_have_a_type_that_ome_knows(tmp_path: Path, model: Any, dtype: str, suffix: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    zarr = pytest.importorskip("zarr")
    values = numbers(1, 1, 600, 40)
    out = make(values, tmp_path / f"y{suffix}", Function(model))
    got = tifffile.imread(out) if suffix == ".ome.tif" else zarr.open_group(out)["0"][...]
    expected = model(torch.from_numpy(values)).numpy()
    assert got.dtype == dtype
    assert_equal_values(
        got.reshape(expected.shape), expected * np.uint8(255) if expected.dtype == bool else expected
    )


def test_classes_have_no_means(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    out = make(numbers(1, 1, 600, 40), tmp_path / "y.ome.zarr", Function(lambda x: (x * 9).long()))
    group = zarr.open_group(out)
    assert_equal_values(group["1"][...], group["0"][:, ::2, ::2])


def test_integers_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    with pytest.raises(ArgumentError, match=r"got integers from .* legal: those of 32 bits"):
        make(numbers(1, 1, 60, 40), tmp_path / "y.ome.tif", Function(lambda x: (x * 1e12).long()))
    assert not list(tmp_path.iterdir())


def test_colours_are_colours(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    values = numbers(1, 3, 600, 530)
    out = make(values, tmp_path / "y.ome.tif", output_range=(0, 1))
    with tifffile.TiffFile(out) as file:
        series = file.series[0]
        assert (file.is_ome, series.axes, series.dtype, file.pages[0].photometric.name) == (
            True,
            "YXS",
            "u1",
            "RGB",
        )
        assert_equal_values(series.asarray(), np.rint(values[0].astype(np.float64) * 255).transpose(1, 2, 0))
        assert len(series.levels) == 2


@pytest.mark.parametrize(
    ("shape", "axes"), [((1, 2, 3, 40, 50), "CZYX"), ((2, 2, 3, 40, 50), "TCZYX"), ((2, 3, 40, 50), "TCYX")]
)
def test_volumes_and_series_have_their_axes(tmp_path: Path, shape: tuple[int, ...], axes: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("zarr")
    values = numbers(*shape)
    nd = 3 if "Z" in axes else 2
    layer = (nn.Conv3d if nd == 3 else nn.Conv2d)(shape[1], shape[1], 1, groups=shape[1], bias=False)
    nn.init.ones_(layer.weight)
    out = make(values, tmp_path / "y.ome.tif", layer, 32)
    with tifffile.TiffFile(out) as file:
        assert (file.is_ome, file.series[0].axes) == (True, axes)
        assert_equal_values(file.series[0].asarray().reshape(shape), values)
    out = make(values, tmp_path / "y.ome.zarr", layer, 32)
    assert_equal_values(tiling.tile_run(layer, out, progress=False), values)


# OME-Zarr.
@pytest.mark.parametrize(("version", "zarr_format"), [(None, 3), ("0.5", 3), ("0.4", 2)])
def test_an_ome_zarr_follows_its_specification(tmp_path: Path, version: str | None, zarr_format: int) -> None:
    zarr = pytest.importorskip("zarr")
    release = "v05" if zarr_format == 3 else "v04"
    models = pytest.importorskip(f"ome_zarr_models.{release}.image")
    values = numbers(1, 2, 1301, 700)
    out = make(values, tmp_path / "y.ome.zarr", ngff_version=version)
    group = zarr.open_group(out, mode="r")
    attributes = dict(group.attrs)
    if zarr_format == 3:
        words = models.Image.from_zarr(group).ome_attributes
    else:  # the class of whole groups is not to be had with every release of pydantic
        words = models.ImageAttrs.model_validate(attributes)
    scales = [level.coordinateTransformations[0].scale for level in words.multiscales[0].datasets]
    assert group.metadata.zarr_format == group["1"].metadata.zarr_format == zarr_format
    assert (out / ("0/0/0/0" if zarr_format == 2 else "0/c/0/0/0")).is_file()
    assert tiling.recheck(SAME, values, out, 3, 256)
    assert_within(np.array(scales[0]), np.ones(3), 1e-12, "float64")
    assert_within(np.array(scales[2]), np.array([1, 1301 / 326, 700 / 175]), 1e-12, "float64")
    levels = [zarr.open_group(out)[str(level)][...] for level in range(3)]
    assert_equal_values(levels[0], values[0])
    assert_within(levels[1], means(values[0]), 1e-6, "float32")
    assert_equal_values(tiling.tile_run(SAME, File(out, 2), progress=False)[0], levels[2])


def test_a_release_of_ome_zarr_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr")
    monkeypatch.setattr(journal, "SECONDS_BETWEEN_NOTES", 0.0)
    values, out = numbers(1, 1, 40, 64), tmp_path / "y.ome.zarr"
    make(values, out, tile=16, only=[((0, 16), (0, 16))], ngff_version="0.4")
    with pytest.raises(ArgumentError, match=r"a result of another shape, type, range or release"):
        make(values, out, tile=16)
    make(values, out, tile=16, ngff_version="0.4")
    assert_equal_values(tiling.tile_run(SAME, out, progress=False), values)
    make(values, out, tile=16, overwrite=True)
    assert (out / "zarr.json").is_file()
    assert not (out / ".zgroup").exists()
    with pytest.raises(
        ArgumentError, match=r"'ngff_version' must be a release of OME-Zarr .*got '0.3'; legal"
    ):
        make(values, tmp_path / "z.ome.zarr", ngff_version="0.3")
    with pytest.raises(ArgumentError, match=r"'ngff_version' must go with an OME-Zarr to make: got 'z.zarr'"):
        make(values, tmp_path / "z.zarr", ngff_version="0.4")
    with pytest.raises(ArgumentError, match="'ngff_version' must go with files to make"):
        tiling.tile_run(SAME, values, ngff_version="0.4", progress=False)


def test_sizes_of_pixels_go_from_a_file_into_the_next(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    tifffile = pytest.importorskip("tifffile")
    metadata = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "x.ome.tif", numbers(64, 80), metadata=metadata)
    out = tiling.tile_run(
        nn.AvgPool2d(2), tmp_path / "x.ome.tif", tmp_path / "y.ome.zarr", 16, progress=False
    )
    image = zarr.open_group(out).attrs["ome"]["multiscales"][0]
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, 1, 0.5]
    assert image["axes"][1:] == [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    tiling.tile_run(SAME, out, tmp_path / "z.ome.tif", 16, progress=False)
    with tifffile.TiffFile(tmp_path / "z.ome.tif") as file:
        words = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (words["PhysicalSizeY"], words["PhysicalSizeX"]) == (1, 0.5)


def test_results_that_ome_has_no_axes_for(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    for suffix in (".ome.tif", ".ome.zarr"):
        with pytest.raises(ArgumentError, match=r"got OME for \(1, 2, 50\)"):
            make(numbers(1, 2, 50), tmp_path / f"y{suffix}", nn.Conv1d(2, 2, 1))
    assert not list(tmp_path.iterdir())


def test_only_an_image_is_replaced_by_one(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    out = make(numbers(1, 1, 30, 40), tmp_path / "y.ome.zarr")
    make(numbers(1, 1, 40, 30), out, overwrite=True)
    zarr.open_group(tmp_path / "other.ome.zarr", mode="w").create_array("one", shape=(3,), dtype="f4")
    with pytest.raises(ArgumentError, match=r"'out' must be a \.ome\.zarr file to be overwritten"):
        make(numbers(1, 1, 30, 40), tmp_path / "other.ome.zarr", overwrite=True)
    with pytest.raises(ArgumentError, match="'out' must be another file than 'source'"):
        tiling.tile_run(SAME, out, out, overwrite=True)


# Bytes.
@pytest.mark.parametrize("suffix", [".npy", ".zarr", ".tif", ".ome.tif", ".ome.zarr", ".png", ".jpg"])
def test_bytes_by_a_scale(tmp_path: Path, suffix: str) -> None:
    for package in ("zarr", "tifffile", "PIL"):
        pytest.importorskip(package)
    values = np.linspace(-3, 5, 64 * 64, dtype=np.float32).reshape(1, 1, 64, 64)
    values[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    with pytest.warns(UserWarning, match="values") as said:
        out = make(values, tmp_path / f"y{suffix}", output_range=(-1, 3))
    expected = np.rint(np.clip((np.nan_to_num(values.astype(np.float64), nan=-1) + 1) / 4, 0, 1) * 255)
    words = [str(one.message) for one in said if issubclass(one.category, UserWarning)]
    assert any("values lie beyond -1 to 3: black or white" in word for word in words)
    assert any("1 values are NaN, drawn black" in word for word in words)
    got = tiling.tile_run(SAME, out, progress=False)
    if suffix in (".npy", ".zarr"):
        assert_equal_values(got, expected)
    else:
        bound = 8 / 255 if suffix == ".jpg" else 1e-6
        assert_within(got * 255, expected, 255 * bound, "JPEG keeps numbers about")


@pytest.mark.parametrize(
    "given", [(1, 0), (0, 0), (0,), (0, 1, 2), (0, float("nan")), (0, float("inf")), ("a", "b")]
)
def test_scales_that_are_none(tmp_path: Path, given: Any) -> None:
    with pytest.raises(ArgumentError, match="'output_range' must be two numbers, the lower one first"):
        make(numbers(1, 1, 4, 4), tmp_path / "y.npy", output_range=given)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".ome.zarr"])
def test_a_scale_of_16_bits(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("tifffile")
    values = np.linspace(-1, 3, 64 * 64, dtype=np.float32).reshape(1, 1, 64, 64)
    out = make(values, tmp_path / f"y{suffix}", output_range=(-1, 3), output_bits=16)
    expected = np.rint((values.astype(np.float64) + 1) / 4 * 65535)
    got = tiling.tile_run(SAME, out, progress=False)
    assert_within(got * (1 if suffix == ".npy" else 65535), expected, 0.01, "read as 0 to 1 in float32")
    assert tiling.recheck(SAME, values, out, output_range=(-1, 3), output_bits=16)
    with pytest.raises(ArgumentError, match=r"'output_bits' must go with 'output_range': got 16 alone"):
        make(values, tmp_path / f"z{suffix}", output_bits=16)
    with pytest.raises(ArgumentError, match=r"'output_bits' must be 8 or 16: got 12"):
        make(values, tmp_path / f"z{suffix}", output_range=(-1, 3), output_bits=12)


def test_colours_of_16_bits_are_no_png(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    with pytest.raises(ArgumentError, match=r"got 16 bits for a .png of 3 channels"):
        make(numbers(1, 3, 8, 8), tmp_path / "y.png", output_range=(0, 1), output_bits=16)


def test_scales_without_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    with pytest.raises(ArgumentError, match="'output_range' must go with files to make"):
        tiling.tile_run(SAME, numbers(1, 1, 4, 4), output_range=(0, 1))
    with pytest.raises(ArgumentError, match=r"got bytes for a \.wav"):
        make(numbers(1, 1, 40), tmp_path / "y.wav", output_range=(0, 1))


# Pictures.
def test_dark_pictures_are_said(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    dark = numbers(1, 1, 8, 8) * np.float32(0.01)
    with pytest.warns(UserWarning, match=r"values from .* look black; output_range=\(.*--output-range"):
        make(dark, tmp_path / "y.png")
    with pytest.warns(UserWarning, match=r"integers from 0 to 3 are kept as they are and look black"):
        make(numbers(1, 1, 8, 8), tmp_path / "z.png", Function(lambda x: (x * 4).long()))


def test_a_jpeg_is_about_the_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    y, x = np.mgrid[:64, :80]
    values = np.stack([y / 64, x / 80, 0.4 + 0 * y]).astype(np.float32)[None]
    out = make(values, tmp_path / "y.jpg")
    assert image.open(out).format == "JPEG"
    assert_within(tiling.tile_run(SAME, out, progress=False), values, 0.05, "JPEG keeps numbers about")
    for shape, text in [
        ((1, 2, 8, 8), "got a .jpg for 2 channels; legal: 1 or 3"),
        ((1, 1, 65536, 1), "got a .jpg for"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            make(numbers(*shape), tmp_path / "z.jpg")


def test_what_is_made_is_kept_in_json(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    out = make(numbers(1, 1, 30, 40), tmp_path / "y.ome.zarr")
    assert json.loads((out / "zarr.json").read_text())["attributes"]["ome"]["version"] == "0.5"
