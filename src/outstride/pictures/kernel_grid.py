"""The learned kernels of a layer as one picture: a tile for each, as the first layer of AlexNet is shown."""

from __future__ import annotations

import io
import os
from math import ceil, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from outstride.errors import ArgumentError, UnsupportedError
from outstride.layer.arguments import choice, optional_whole
from outstride.output.files import write_whole

Pixels = npt.NDArray[np.uint8]

# Between the tiles lies white, which no grey of a small weight is.
GAP = 255
COLOURS = 3
# A tile of fewer pixels shows nothing to a reader; one of more wastes the page.
TILE_PIXELS = 36
FORMATS = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP"}


class KernelGrid:
    """The picture that ``kernels`` makes: pixels, a file, or shown by a notebook as it is.

    Attributes:
        pixels: (height, width, 3), uint8.
        shown, total: how many kernels the picture shows, and how many there are.
        colour: whether a tile is one kernel over three channels in colour.
        scale: "kernel" or "layer", what black and white stand for.
    """

    def __init__(self, pixels: Pixels, shown: int, total: int, colour: bool, scale: str) -> None:
        self.pixels = pixels
        self.shown, self.total = shown, total
        self.colour, self.scale = colour, scale

    def __repr__(self) -> str:
        height, width = self.pixels.shape[:2]
        kind = "colour" if self.colour else "grey"
        return f"KernelGrid({self.shown} of {self.total} kernels in {kind}, {width} x {height} pixels)"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture to a file, whole or not at all.

        Args:
            path: ends in .png, .gif or .webp.

        Returns:
            The path.

        Raises:
            ArgumentError: another ending, or no such folder.
            UnsupportedError: Pillow is not installed.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     kernels(torch.nn.Conv2d(3, 8, 5)).save(folder + "/kernels.png").name
            'kernels.png'
        """
        path = Path(path)
        if path.suffix.lower() not in FORMATS:
            raise ArgumentError(
                f"'path' must end in the name of a format: got {str(path)!r}; legal: {', '.join(FORMATS)}"
            )
        if not path.absolute().parent.is_dir():
            raise ArgumentError(
                f"'path' must lie in a folder that is there: got {str(path)!r}; "
                f"legal: after making {str(path.parent)!r}"
            )
        encoded = self._encoded(FORMATS[path.suffix.lower()])
        write_whole(path, lambda beside: beside.write_bytes(encoded))
        return path

    def _repr_png_(self) -> bytes:
        return self._encoded("PNG")

    def _encoded(self, name: str) -> bytes:
        try:
            from PIL import Image
        except ImportError:
            raise UnsupportedError(
                "a picture needs Pillow, which is not installed; legal: pip install pillow"
            ) from None
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, format=name)
        return buffer.getvalue()


def kernels(
    layer: Any, *, columns: int | None = None, most: int = 256, scale: Literal["kernel", "layer"] = "kernel"
) -> KernelGrid:
    """Draw the learned kernels of a layer as a grid, one tile each.

    Args:
        layer: a convolution layer, transposed or not, or its weight (O, C, *kernel_size) with one to three
            axes of kernel.
        columns: tiles beside each other, 1 or more; as many as make the grid square where it is None. Where
            a tile is one channel of several, a row holds the channels of one kernel.
        most: kernels to show at most, 1 or more; the first ones are shown.
        scale: "kernel": each tile by itself; "layer": black and white are the same numbers in all tiles.

    Returns:
        A picture. Grey is zero, white the largest magnitude if positive, black if negative; with three
        channels a tile is in colour, each channel by the same rule. A kernel of three axes lies slice beside
        slice.

    Raises:
        ArgumentError: there is nothing to draw: no convolution, no weight, a number that is none.

    Law: pixel = 127.5 + 127.5 * w / max|w|, rounded, and enlarged by a whole factor.

    Example:
        >>> kernels(torch.nn.Conv2d(3, 64, 11, stride=4))
        KernelGrid(64 of 64 kernels in colour, 370 x 370 pixels)

    Source: Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks,
    2012, figure 3.
    """
    for name, number in (("columns", columns), ("most", most)):
        optional_whole(name, number, 1)
    choice("scale", scale, ("kernel", "layer"))
    weight = _weight(layer)
    colour = weight.shape[1] == COLOURS
    flat = _in_planes(weight)
    # (kernels, h, w, colours): a grey tile is one channel of a kernel.
    planes = flat.transpose(0, 2, 3, 1) if colour else flat.reshape(-1, *flat.shape[2:])[..., np.newaxis]
    total = len(planes)
    planes = planes[:most]
    if columns is None:
        channels = weight.shape[1]
        square = ceil(sqrt(len(planes)))
        columns = square if colour or channels == 1 or channels > len(planes) else min(channels, len(planes))
    return KernelGrid(_grid(_grey(planes, scale), columns), len(planes), total, colour, scale)


def _weight(layer: Any) -> npt.NDArray[np.float64]:
    weight: Any = layer if isinstance(layer, (Tensor, np.ndarray)) else getattr(layer, "weight", None)
    if isinstance(weight, torch.nn.parameter.UninitializedParameter):
        raise ArgumentError(
            f"'layer' must know its weights: got {type(layer).__name__} that has seen no input; "
            f"legal: call it once before"
        )
    if not isinstance(weight, (Tensor, np.ndarray)) or weight.ndim not in (3, 4, 5):
        got = f"a weight of shape {tuple(weight.shape)}" if hasattr(weight, "shape") else type(layer).__name__
        raise ArgumentError(
            f"'layer' must be a convolution layer or its weight: got {got}; "
            f"legal: two axes of channels and one to three of kernel"
        )
    if isinstance(weight, Tensor):
        if weight.device.type == "meta":
            raise ArgumentError(f"'layer' must hold numbers: got a {type(layer).__name__} on device 'meta'")
        weight = (weight.detach().abs() if weight.is_complex() else weight.detach()).cpu().double().numpy()
    array = np.asarray(weight, dtype=np.float64)
    if array.size == 0:
        raise ArgumentError(f"'layer' must have a weight to draw: got shape {array.shape}; legal: 1 or more")
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ArgumentError(
            f"'layer' must hold finite weights: got {bad} of {array.size} that are not; legal: finite numbers"
        )
    return array


def _in_planes(weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The weight as (O, C, h, w): a line is a plane of one row, a box its slices beside each other."""
    if weight.ndim == 3:
        return weight[:, :, np.newaxis]
    if weight.ndim == 4:
        return weight
    o, c, depth, h, w = weight.shape
    joined: npt.NDArray[np.float64] = weight.transpose(0, 1, 3, 2, 4).reshape(o, c, h, depth * w)
    return joined


def _grey(planes: npt.NDArray[np.float64], scale: str) -> Pixels:
    axes = (1, 2, 3) if scale == "kernel" else (0, 1, 2, 3)
    largest = np.abs(planes).max(axis=axes, keepdims=True)
    # A kernel of zeros is grey all over.
    shares = np.divide(planes, largest, out=np.zeros_like(planes), where=largest > 0)
    pixels: Pixels = np.rint(127.5 + 127.5 * shares).astype(np.uint8)
    return pixels


def _grid(tiles: Pixels, columns: int) -> Pixels:
    count, h, w = tiles.shape[:3]
    zoom = max(1, ceil(TILE_PIXELS / max(h, w)))
    gap = max(1, zoom // 2)
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    h, w = h * zoom + gap, w * zoom + gap
    rows, columns = ceil(count / columns), min(columns, count)
    sheet = np.full((rows * h + gap, columns * w + gap, COLOURS), GAP, np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * h + gap, place % columns * w + gap
        sheet[top : top + h - gap, left : left + w - gap] = tile
    return sheet
