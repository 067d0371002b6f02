"""The photograph: read it, hold a region back, draw training patches from the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from outstride.demo.network import shrink
from outstride.errors import ArgumentError

SAMPLE_CREDIT = (
    "Rear Admiral Grace M. Hopper, official portrait, US Navy, public domain (ships with matplotlib)"
)
# The face: neither flag nor medals, on which the network trains, look like it.
SAMPLE_REGION = (168, 132, 360, 324)
LONGEST_SIDE = 1024
LEAST_SIDE_AT_SCALE_1 = 64
PATCH = 32
PYRAMID = (1.0, 0.85, 0.7)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left and top inside, right and bottom outside."""

    left: int
    top: int
    right: int
    bottom: int

    def cut(self, picture: Tensor) -> Tensor:
        return picture[..., self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Photo:
    """A colour picture (1, 3, H, W) in 0 to 1 and the region that training never sees."""

    colour: Tensor
    held_out: Box
    credit: str


def luma(colour: Tensor) -> Tensor:
    """Brightness of a colour picture, ITU-R BT.601: (N, 3, H, W) -> (N, 1, H, W)."""
    weights = colour.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (colour * weights).sum(1, keepdim=True)


def load(path: Path | None, scale: int) -> Photo:
    """Read somebody's own picture, or the sample where no path is given."""
    if path is None:
        from matplotlib import get_data_path

        sample = Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"
        return Photo(_tensor(_open(sample)), Box(*SAMPLE_REGION), SAMPLE_CREDIT)
    picture = _open(path)
    least = LEAST_SIDE_AT_SCALE_1 * scale
    if min(picture.size) < least:
        raise ArgumentError(
            f"'image' must have at least {least} pixels on each side for scale {scale}: "
            f"got {picture.width}x{picture.height}."
        )
    # A long strip keeps its height, or there would be nothing left to train on.
    factor = max(LONGEST_SIDE / max(picture.size), least / min(picture.size))
    if factor < 1:
        width, height = (max(least, round(side * factor)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return Photo(_tensor(picture), _middle(picture.width, picture.height), path.name)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            return _to_rgb(picture)
    except FileNotFoundError:
        raise ArgumentError(f"'image' must be a picture that exists: got {str(path)!r}.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ArgumentError(
            f"'image' must be a picture that Pillow reads: got {str(path)!r} ({error})."
        ) from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        # Pillow's own conversion cuts 16 bits off at 255 instead of scaling them.
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        largest = values.max(initial=1.0)
        top = 65535.0 if picture.mode.startswith("I") and largest > 255 else largest
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB")


def _tensor(picture: Image.Image) -> Tensor:
    values = torch.from_numpy(np.array(picture, dtype=np.float32) / 255)
    return values.permute(2, 0, 1).unsqueeze(0).contiguous()


def _middle(width: int, height: int) -> Box:
    # A multiple of 12 is one of every scale.
    side = min(int(0.3 * min(width, height)), 240) // 12 * 12
    left, top = (width - side) // 2, (height - side) // 2
    return Box(left, top, left + side, top + side)


class Patches:
    """Random aligned pairs of a small and a large patch, none of which touches the held-out region."""

    def __init__(self, photo: Photo, scale: int, seed: int) -> None:
        self.scale = scale
        self._random = np.random.default_rng(seed)
        self._levels: list[tuple[Tensor, Tensor]] = []
        places: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []
        self.side = self._side(photo)
        bright = luma(photo.colour)
        for factor in PYRAMID:
            large, box = self._level(bright, photo.held_out, factor)
            found = self._places(large, box)
            if len(found):
                level = np.full((len(found), 1), len(self._levels))
                places.append(np.concatenate([level, found], axis=1))
                self._levels.append((shrink(large, scale), large))
        self.places = np.concatenate(places)

    def _side(self, photo: Photo) -> int:
        """The small patch's side: the usual one, or what fits beside the held-out region."""
        height, width = photo.colour.shape[-2:]
        box = photo.held_out
        widest = max(box.left, box.top, width - box.right, height - box.bottom)
        return max(1, min(PATCH, (widest - self.margin) // self.scale - 1))

    @property
    def margin(self) -> int:
        """How far the reducing filter reaches, so that a patch knows nothing of the held-out region."""
        return 4 * self.scale

    def _level(self, bright: Tensor, box: Box, factor: float) -> tuple[Tensor, Box]:
        size = [int(side * factor) // self.scale * self.scale for side in bright.shape[-2:]]
        if factor == 1.0:
            return bright[..., : size[0], : size[1]], box
        # Exact ratios per axis, since the sizes are rounded down to whole small pixels.
        down, across = (new / old for new, old in zip(size, bright.shape[-2:], strict=True))
        large = F.interpolate(bright, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        blur = round(4 / factor)
        scaled = Box(
            int(box.left * across) - blur,
            int(box.top * down) - blur,
            int(box.right * across) + blur + 1,
            int(box.bottom * down) + blur + 1,
        )
        return large, scaled

    def _places(self, large: Tensor, box: Box) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Every row and column of the small picture at which a patch may begin."""
        scale, side = self.scale, self.side * self.scale
        rows, columns = (np.arange(0, extent - side + 1, scale) for extent in large.shape[-2:])
        near_row = (rows + side > box.top - self.margin) & (rows < box.bottom + self.margin)
        near_column = (columns + side > box.left - self.margin) & (columns < box.right + self.margin)
        free = ~(near_row[:, None] & near_column[None, :])
        return np.argwhere(free)

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Patches (N, 1, P, P) and (N, 1, P*scale, P*scale), turned and mirrored at random."""
        small: list[Tensor] = []
        large: list[Tensor] = []
        for level, row, column in self._random.choice(self.places, size=batch):
            little, big = self._levels[level]
            turns, mirrored = int(self._random.integers(4)), bool(self._random.integers(2))
            pair = (
                little[0, :, row : row + self.side, column : column + self.side],
                big[
                    0,
                    :,
                    row * self.scale : (row + self.side) * self.scale,
                    column * self.scale : (column + self.side) * self.scale,
                ],
            )
            for patches, patch in zip((small, large), pair, strict=True):
                turned = torch.rot90(patch, turns, (1, 2))
                patches.append(turned.flip(2) if mirrored else turned)
        return torch.stack(small), torch.stack(large)
