"""The pictures of the first tutorial: convolution and pooling by hand."""

from __future__ import annotations

from pathlib import Path

import cells
import numpy as np
import photograph
import torch
from cells import Sheet
from matplotlib.figure import Figure

from outstride import functional, geometry, reference
from outstride.layer.spec import ConvSpec


def steps() -> Sheet:
    """The four positions of a 2 x 2 kernel on a 3 x 3 input, each with its sum."""
    X, K = np.arange(9).reshape(3, 3), np.arange(4).reshape(2, 2)
    Y = reference.corr2d(X, K)
    sheet = Sheet(9.0, 19.6)
    for number, (i, j) in enumerate(np.ndindex(2, 2)):
        top, left = 0.6 + 4.6 * (number // 2), 0.4 + 10 * (number % 2)
        sheet.cells(X, top, left, cells.INPUT)
        sheet.frame(top + i, left + j, 2, 2)
        sheet.text("*", top + 1.5, left + 3.5)
        sheet.cells(K, top + 0.5, left + 4, cells.KERNEL)
        sheet.text("=", top + 1.5, left + 6.4)
        done = {place for n, place in enumerate(np.ndindex(2, 2)) if n <= number}
        hidden = set(np.ndindex(2, 2)) - done
        sheet.cells(Y, top + 0.5, left + 6.8, cells.OUTPUT, blank=hidden)
        sheet.frame(top + 0.5 + i, left + 6.8 + j, 1, 1)
        terms = " + ".join(f"{x}·{k}" for x, k in zip(X[i : i + 2, j : j + 2].flat, K.flat, strict=True))
        sheet.text(f"{terms} = {Y[i, j]}", top + 3.5, left + 4.4, size=0.9)
    return sheet


def windows() -> Sheet:
    """Where the windows of Conv2d(1, 1, (3, 5), padding=(0, 1), stride=(3, 4)) lie on an 8 x 8 input."""
    spec = ConvSpec.parse("Conv2d(1, 1, (3, 5), padding=(0, 1), stride=(3, 4))")
    rows, columns = geometry.output_size(spec, (8, 8))
    sheet = Sheet(9.2, 15.8)
    inside = set(np.ndindex(8, 10)) - {(i, j) for i in range(8) for j in (0, 9)}
    bordered = np.pad(np.ones((8, 8), int), ((0, 0), (1, 1)))
    sheet.cells(
        bordered,
        0.6,
        0.6,
        cells.where(inside, cells.INPUT),
        blank=inside,
    )
    colours = ["#c8372d", "#1f6fb4", "#2b8a3e", "#8a4fbf"]
    for number, (i, j) in enumerate(np.ndindex(rows, columns)):
        sheet.frame(0.66 + 3 * i, 0.66 + 4 * j, 2.88, 4.88, colours[number])
        sheet.text(str(number + 1), 2.1 + 3 * i, 3.1 + 4 * j, color=colours[number], weight="bold", size=1.3)
    sheet.text("→", 4.6, 11.6, size=1.6)
    sheet.cells(np.arange(1, 5).reshape(2, 2), 3.6, 12.6, cells.OUTPUT)
    sheet.text("8 × 8  →  2 × 2", 6.4, 13.6)
    return sheet


def channels() -> Sheet:
    """Two input channels, a kernel for each, one sum."""
    X = np.stack([np.arange(9).reshape(3, 3), np.arange(1, 10).reshape(3, 3)])
    K = np.stack([np.arange(4).reshape(2, 2), np.arange(1, 5).reshape(2, 2)])
    parts = [reference.corr2d(x, k) for x, k in zip(X, K, strict=True)]
    sheet = Sheet(7.6, 15.0)
    for c, (x, k, part) in enumerate(zip(X, K, parts, strict=True)):
        top = 0.4 + 3.8 * c
        sheet.cells(x, top, 0.4, cells.INPUT)
        sheet.text("*", top + 1.5, 3.9)
        sheet.cells(k, top + 0.5, 4.4, cells.KERNEL)
        sheet.text("=", top + 1.5, 6.9)
        sheet.cells(part, top + 0.5, 7.4, cells.OUTPUT)
        sheet.text("+" if c == 0 else "", 3.8, 8.4, size=1.4)
    sheet.text("=", 3.8, 11.2, size=1.4)
    sheet.cells(sum(parts), 2.8, 12.2, cells.OUTPUT)
    first = [part[0, 0] for part in parts]
    sheet.text(f"{first[0]} + {first[1]} = {sum(first)}", 5.4, 13.2, size=0.9)
    return sheet


def pooling() -> Sheet:
    """MaxPool2d(3, stride=2, padding=1) on 0..15: four windows, four maxima."""
    X = np.arange(16).reshape(4, 4)
    best = reference.pool(X[None, None], 3, stride=2, padding=1)[0, 0]
    sheet = Sheet(6.4, 11.2)
    inside = {(i + 1, j + 1) for i, j in np.ndindex(4, 4)}
    border = set(np.ndindex(6, 6)) - inside
    sheet.cells(np.pad(X, 1), 0.2, 0.2, cells.where(inside, cells.INPUT), blank=border)
    colours = ["#c8372d", "#1f6fb4", "#2b8a3e", "#8a4fbf"]
    for number, (i, j) in enumerate(np.ndindex(2, 2)):
        inset = 0.06 * (number + 1)
        side = 3 - 2 * inset
        sheet.frame(0.2 + 2 * i + inset, 0.2 + 2 * j + inset, side, side, colours[number])
    sheet.text("→", 3.2, 7.6, size=1.6)
    sheet.cells(best, 2.2, 8.8, cells.OUTPUT)
    for number, (i, j) in enumerate(np.ndindex(2, 2)):
        sheet.frame(2.2 + i + 0.06, 8.8 + j + 0.06, 0.88, 0.88, colours[number])
    return sheet


def photo() -> Figure:
    """One photograph through an edge kernel, a blur, a stride and a pooling."""
    grey = photograph.grey()
    down = torch.tensor([[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]])
    box = torch.full((9, 9), 1 / 81)
    edges = functional.conv2d(grey, down.view(1, 1, 3, 3), padding=1).abs()
    blur = functional.conv2d(grey, box.view(1, 1, 9, 9), padding=4, padding_mode="replicate")
    pooled = torch.nn.functional.max_pool2d(edges, 8)
    return photograph.row(
        [
            ("X", grey),
            ("|corr2d(X, Sobel)|", edges),
            ("corr2d(X, 9 × 9 / 81)", blur),
            ("MaxPool2d(8) of the edges", pooled),
        ]
    )


def make(folder: Path) -> None:
    for name, sheet in (
        ("convolution-steps", steps()),
        ("convolution-windows", windows()),
        ("convolution-channels", channels()),
        ("pooling", pooling()),
    ):
        sheet.save(folder / f"{name}.png")
    cells.write(photo(), folder / "convolution-photo.png")
