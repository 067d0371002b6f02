"""The pictures of the fourth tutorial: the matrix, the zero insertion, and what is not undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cells
import numpy as np
import photograph
import torch
from cells import Sheet
from matplotlib.figure import Figure
from scipy.sparse.linalg import LinearOperator, lsqr

from outstride import functional, reference

SHADES = {0: cells.BORDER, 1: "#cfe3f7", 2: "#f9cfdd", 3: "#e0d4f5", 4: "#bfe8e3"}


def pair() -> Sheet:
    """W of a 2 x 2 kernel on a 3 x 3 input, and its transpose, which is the transposed convolution."""
    K = np.array([[1, 2], [3, 4]])
    W = reference.kernel2matrix(K, (3, 3))
    sheet = Sheet(10.4, 19.0)

    def drawn(matrix: Any, row: float, column: float) -> None:
        zeros = {tuple(place) for place in np.argwhere(matrix == 0)}
        sheet.cells(matrix, row, column, lambda place: SHADES[int(matrix[place])], blank=zeros)

    drawn(K, 3.8, 0.4)
    sheet.text("K", 6.4, 1.4)
    drawn(W, 2.8, 4.0)
    sheet.text("W", 7.4, 8.5)
    drawn(W.T, 0.4, 14.4)
    sheet.text("Wᵀ", 9.9, 16.4)
    return sheet


def insertion() -> Sheet:
    """Zeros between the elements, a border, the kernel turned round: three cases."""
    X = K = np.arange(4).reshape(2, 2)
    sheet = Sheet(12.8, 16.0)
    top = 0.3
    for title, stride, padding in (
        ("stride=1\npadding=0", 1, 0),
        ("stride=1\npadding=1", 1, 1),
        ("stride=2\npadding=0", 2, 0),
    ):
        border = K.shape[0] - 1 - padding
        side = (X.shape[0] - 1) * stride + 1
        spread = np.zeros((side, side), int)
        spread[::stride, ::stride] = X
        padded = np.pad(spread, border)
        given = {(border + i * stride, border + j * stride) for i, j in np.ndindex(2, 2)}
        result = reference.corr2d(padded, K[::-1, ::-1])
        height = len(padded)
        middle = top + height / 2
        sheet.text(title, middle, 0.2, align="left", size=0.8)
        sheet.cells(padded, top, 2.8, cells.where(given, cells.INPUT))
        sheet.text("*", middle, 2.8 + height + 0.4)
        sheet.cells(K[::-1, ::-1], middle - 1, 3.6 + height, cells.KERNEL)
        sheet.text("=", middle, 6.1 + height)
        sheet.cells(result, middle - len(result) / 2, 6.6 + height, cells.OUTPUT)
        top += height + 0.6
    return sheet


def inverse() -> Figure:
    """A photograph blurred and thinned, and what the transposed layer and least squares make of it."""
    X = photograph.grey(128)
    bell = torch.exp(-(torch.arange(-2.0, 3.0) ** 2) / 2)
    K = torch.outer(bell, bell).div(bell.sum() ** 2).view(1, 1, 5, 5)
    Y = functional.conv2d(X, K, stride=2, padding=2)

    def forth(x: Any) -> Any:
        return functional.conv2d(_picture(x, 128), K.double(), stride=2, padding=2).flatten().numpy()

    def back(y: Any) -> Any:
        y = _picture(y, 64)
        return (
            functional.conv_transpose2d(y, K.double(), stride=2, padding=2, output_padding=1)
            .flatten()
            .numpy()
        )

    W = LinearOperator((64 * 64, 128 * 128), matvec=forth, rmatvec=back, dtype=np.float64)
    scattered = torch.from_numpy(back(Y)).view(1, 1, 128, 128)
    scattered = scattered * (X * scattered).sum() / scattered.square().sum()
    solved = _picture(lsqr(W, Y.double().flatten().numpy(), iter_lim=60)[0], 128)
    return photograph.row(
        [
            ("X, 128 × 128", X),
            ("W X, 64 × 64", Y),
            (f"Wᵀ W X, scaled: {decibels(scattered, X):.1f} dB", scattered),
            (f"least squares: {decibels(solved, X):.1f} dB", solved),
        ],
        limits=(0.0, 1.0),
    )


def decibels(found: torch.Tensor, true: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of a picture in 0 to 1."""
    return float(-10 * torch.log10((found - true).square().mean()))


def _picture(values: Any, side: int) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, np.float64)).view(1, 1, side, side)


def make(folder: Path) -> None:
    pair().save(folder / "matrix.png")
    insertion().save(folder / "matrix-insertion.png")
    cells.write(inverse(), folder / "matrix-inverse.png")
