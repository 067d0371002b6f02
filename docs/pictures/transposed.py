"""The pictures of the third tutorial: transposed convolution by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cells
import numpy as np
import numpy.typing as npt
from cells import Sheet

from outstride import reference

STAMP = np.arange(4).reshape(2, 2)
SHADES = ("#cfe3f7", "#f9cfdd", "#e0d4f5", "#bfe8e3")

Integers = npt.NDArray[np.int64]


def _scatter(X: Integers, K: Integers, stride: int) -> Integers:
    return np.asarray(reference.conv_transpose(X[None, None], K[None, None], stride=stride)[0, 0])


def stamps(stride: int) -> Sheet:
    """What each element of a 2 x 2 input lays on the output, and the sum."""
    total = _scatter(STAMP, STAMP, stride)
    side = total.shape[0]
    sheet = Sheet(side + 1.6, 5.6 + 5 * (side + 0.9))
    middle = 0.3 + side / 2
    sheet.cells(STAMP, middle - 1, 0.2, lambda place: SHADES[2 * place[0] + place[1]])
    sheet.cells(STAMP, middle - 1, 2.9, cells.KERNEL)
    sheet.text("X", side + 0.8, 1.2, size=0.9)
    sheet.text("K", side + 0.8, 3.9, size=0.9)
    sheet.text("→", middle, 5.3, size=1.2)
    left = 5.8
    for number, (i, j) in enumerate(np.ndindex(2, 2)):
        one = np.zeros_like(STAMP)
        one[i, j] = STAMP[i, j]
        laid = {(stride * i + a, stride * j + b) for a, b in np.ndindex(2, 2)}
        around = set(np.ndindex(side, side)) - laid
        sheet.cells(
            _scatter(one, STAMP, stride),
            0.3,
            left,
            cells.where(laid, SHADES[number]),
            blank=around,
        )
        sheet.text(f"{STAMP[i, j]} · K", side + 0.8, left + side / 2, size=0.9)
        left += side + 0.9
        sheet.text("+" if number < 3 else "=", middle, left - 0.45, size=1.2)
    sheet.cells(total, 0.3, left, cells.OUTPUT)
    sheet.text("Y", side + 0.8, left + side / 2, size=0.9)
    return sheet


def line(options: Sequence[tuple[str, int, int]]) -> Sheet:
    """ones(4) under the kernel [1, 2, 3]: every stamp in a row of its own, and their sum."""
    kernel = np.array([1, 2, 3])
    sheet = Sheet(sum(6.6 for _ in options) + 0.1, 13.2)
    top = 0.3
    for title, stride, dilation in options:
        total = reference.conv_transpose(
            np.ones((1, 1, 4), int), kernel[None, None], stride=stride, dilation=dilation
        )[0, 0]
        sheet.text(title, top + 2.5, 0.3, align="left")
        for i in range(4):
            laid = {i * stride + k * dilation: int(value) for k, value in enumerate(kernel)}
            for place, value in laid.items():
                sheet.cells([[value]], top + i, 4 + place, SHADES[i])
        sheet.cells([total], top + 4.3, 4, cells.OUTPUT)
        top += 6.6
    return sheet


def cropping() -> Sheet:
    """Padding cuts the stamped output on both ends; output_padding gives its high end back."""
    kernel = np.array([1, 2, 3])
    whole = reference.conv_transpose(np.ones((1, 1, 2), int), kernel[None, None], stride=2)[0, 0]
    sheet = Sheet(5.6, 13.0)
    rows = (
        ("padding=0", range(5)),
        ("padding=1", range(1, 4)),
        ("padding=1, output_padding=1", range(1, 5)),
    )
    for number, (title, kept) in enumerate(rows):
        top = 0.4 + 1.7 * number
        sheet.text(title, top + 0.5, 0.3, align="left", size=0.9)
        sheet.cells([whole], top, 7.4, cells.where({(0, column) for column in kept}, cells.OUTPUT))
        sheet.frame(top, 7.4 + kept.start, 1, len(kept))
    return sheet


def make(folder: Path) -> None:
    stamps(1).save(folder / "transposed-stamps.png")
    stamps(2).save(folder / "transposed-stride.png")
    line([("stride=1", 1, 1), ("stride=2", 2, 1), ("dilation=2", 1, 2)]).save(folder / "transposed-line.png")
    cropping().save(folder / "transposed-cropping.png")
