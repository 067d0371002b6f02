"""Photographs: what is decoded and what is refused, what a layer makes of them, and one pixel in numbers."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest

from outstride import ConvSpec
from outstride.errors import ArgumentError
from tests.tolerance import assert_equal_values, assert_within

pytest.importorskip("PIL")

from PIL import Image

from outstride.studio import developing, photographs
from outstride.studio.kernels import kernel, names
from outstride.studio.photographs import Album

UP, DOWN = "ConvTranspose2d(1, 1, 3, stride=2, padding=1)", "Conv2d(1, 1, 3, padding=1)"


def sent(picture: Image.Image, form: str = "PNG") -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def grey(size: tuple[int, int] = (40, 30), seed: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_pictures_are_decoded_and_kept_by_name(form: str) -> None:
    album = Album()
    found = album.put(sent(grey(), form))
    assert found.grey.shape == (30, 40)
    assert album.get(found.name) is found
    assert 0 <= found.grey.min() < found.grey.max() <= 1


RAMP = np.linspace(0, 255, 40 * 30).reshape(30, 40)


def modes() -> dict[str, tuple[Image.Image, str]]:
    """A ramp of greys as files hold it: with 16 bits, for print, by a palette, with a transparent half."""
    grey = Image.fromarray(RAMP.round().astype(np.uint8))
    clear = Image.merge("LA", (grey, Image.new("L", grey.size, 255)))
    return {
        "16 bits": (Image.fromarray((RAMP * 257).round().astype(np.uint16)), "PNG"),
        "print": (grey.convert("RGB").convert("CMYK"), "JPEG"), "palette": (grey.convert("P"), "GIF"),
        "alpha": (clear, "PNG"), "colour": (grey.convert("RGB"), "WEBP"),
    }  # fmt: skip


@pytest.mark.parametrize("mode", modes())
def test_every_kind_of_picture_has_its_greys(mode: str) -> None:
    found = Album().put(sent(*modes()[mode])).grey
    lossy = 12 if mode in ("print", "colour") else 1
    assert_within(found * 255, RAMP, lossy, "a grey is a whole number, and JPEG and WebP lose some")


def test_what_is_transparent_lies_on_white() -> None:
    logo = Image.new("RGBA", (20, 10), (0, 0, 0, 0))
    logo.paste((0, 0, 0, 255), (0, 0, 10, 10))
    found = Album().put(sent(logo)).grey
    assert (found[0, 0], found[0, -1]) == (0, 1)


def test_of_what_moves_the_first_picture_is_taken() -> None:
    buffer = io.BytesIO()
    first, *others = (Image.new("L", (20, 10), level) for level in (10, 90, 200))
    first.save(buffer, "GIF", save_all=True, append_images=others)
    found = Album().put(base64.b64encode(buffer.getvalue()).decode()).grey
    assert_within(found * 255, np.full((10, 20), 10.0), 1, "a grey is a whole number")


def test_half_a_file_is_refused() -> None:
    whole = base64.b64decode(sent(grey((300, 200))).partition("base64,")[2])
    with pytest.raises(ArgumentError, match="must be a picture that can be read"):
        Album().put(base64.b64encode(whole[: len(whole) // 2]).decode())


def test_large_pictures_are_shrunk_and_the_oldest_forgotten() -> None:
    album = Album()
    first = album.put(sent(grey((900, 450))))
    assert first.grey.shape == (144, 288)
    assert first.shrunk(96).shape == (48, 96)
    for seed in range(8):
        album.put(sent(grey(seed=seed)))
    with pytest.raises(ArgumentError, match="send it again"):
        album.get(first.name)


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 99, b"<svg/>", b"%!PS"]
)
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(ArgumentError, match="legal: PNG"):
        Album().put(base64.b64encode(content).decode())


def test_what_is_too_large_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "MOST_PIXELS", 1000)
    with pytest.raises(ArgumentError, match="few enough pixels"):
        Album().put(sent(grey()))
    with monkeypatch.context() as less:
        less.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # beyond twice as many Pillow opens nothing
        with pytest.raises(ArgumentError, match="few enough pixels"):
            Album().put(sent(grey()))
    monkeypatch.setattr(photographs, "MOST_BYTES", 100)
    with pytest.raises(ArgumentError, match="small file"):
        Album().put(sent(grey()))
    with pytest.raises(ArgumentError, match="base64"):
        Album().put("data:image/png;base64,*")


@pytest.mark.parametrize(
    "text", [UP, DOWN, "Conv2d(1, 1, (3, 5), stride=2)", "ConvTranspose2d(1, 1, 4, stride=3)"]
)
def test_named_kernels_keep_the_brightness(text: str) -> None:
    spec = ConvSpec.parse(text)
    typed = np.arange(1.0, np.prod(spec.kernel_size) + 1).reshape(spec.kernel_size)
    wanted = float(np.prod(spec.stride)) if spec.kind == "conv_transpose" else 1.0
    for name in names(spec):
        total = float(kernel(spec, name, typed).sum())
        signed = name in ("edges", "outline")
        assert_within(total, 0.0 if signed else wanted, 1e-9, "a sum of at most 25 doubles near 1")
    with pytest.raises(ArgumentError, match="'kernel'"):
        kernel(spec, "nothing", typed)


@pytest.mark.parametrize(
    ("text", "name"),
    [(UP, "random"), (DOWN, "edges"), (DOWN, "typed"),
     ("Conv2d(1, 1, 3, padding=1, padding_mode='reflect')", "blur"),
     ("MaxPool2d(3, stride=2, padding=1)", ""), ("AvgPool2d(3, stride=2, padding=1)", "")],
)  # fmt: skip
def test_a_pixel_in_numbers_is_what_the_layer_makes(text: str, name: str) -> None:
    picture = developing.ALBUM.put(sent(grey())).name
    question: dict[str, Any] = {"layer": text, "kernel": name, "picture": picture}
    made = developing.Darkroom(question).developed() * 255
    for at in [(0, 0), (3, 7), (made.shape[0] - 1, made.shape[1] - 1)]:
        found = developing.pixel({**question, "at": list(at)})
        assert_within(
            float(found["value"]), made[at], 0.51 + abs(made[at]) * 5e-3, "what is shown is rounded"
        )
        assert 0 < len(found["cells"]) <= 9


@pytest.mark.parametrize("at", [None, [0], [0, 9999], [-1, 0], ["a", 0], [0.5, 1]])
def test_places_beside_the_picture_are_refused(at: object) -> None:
    with pytest.raises(ArgumentError, match="'at' must be a place"):
        developing.pixel({"layer": DOWN, "at": at})


def test_the_checkerboard_is_seen_and_cured() -> None:
    before = developing.picture({"layer": UP, "kernel": "equal"})
    after = developing.picture({"layer": UP, "kernel": "equal", "cure": True})
    assert (before["picture"], before["can_cure"], before["ripple"]) == ("photograph", True, "43.6%")
    assert after["cured"]
    assert after["ripple"] == "0.0%"
    assert [one["name"] for one in before["others"]] == ["nearest", "bilinear"]
    assert float(after["spectrum"]["share"][:-1]) < 1 < float(before["spectrum"]["share"][:-1])
    assert before["spectrum"]["lines"] == [[-0.5, 0.5], [-0.5, 0.5]]


def test_linear_weights_are_bilinear_interpolation() -> None:
    room = developing.Darkroom({"layer": "ConvTranspose2d(1, 1, 4, stride=2, padding=1)", "kernel": "linear"})
    made = room.developed()
    x = np.asarray(room.x, np.float64)
    expected = (x[3, 3] * 9 + x[3, 4] * 3 + x[4, 3] * 3 + x[4, 4]) / 16
    assert_within(made[7, 7], expected, 1e-12, "a few roundings of numbers below 1")


def test_layers_without_a_picture_are_refused() -> None:
    for text in ("Conv1d(1, 1, 3)", "Conv3d(1, 1, 3)"):
        with pytest.raises(ArgumentError, match="two axes of a picture"):
            developing.picture({"layer": text})


def test_greys_of_signed_results_lie_around_the_middle() -> None:
    flat = Image.fromarray(np.full((20, 20), 90, np.uint8))
    found = developing.picture({"layer": "Conv2d(1, 1, 3)", "kernel": "edges", "file": sent(flat)})
    assert found["signed"]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["output"]["png"].partition(",")[2]))))
    assert_equal_values(shown, np.full(shown.shape, 128))
