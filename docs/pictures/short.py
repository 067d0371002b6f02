"""Draw the picture of the guide to short algorithms: ``python docs/pictures/short.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from outstride.explanation.raster import png
from outstride.explanation.scene import Frame, Grid, Role, Scene
from outstride.layer.algorithms import F23
from outstride.output.files import write_whole

HERE = Path(__file__).resolve().parent
INPUTS, KERNEL = (1, 2, 3, 5), (2, 4, 6)


def make(folder: Path) -> None:
    """The three matrices of F(2,3) at work on four inputs and a kernel of three."""
    data, weight, result = (np.array(rows, float) for rows in (F23.data, F23.weight, F23.result))
    x, w = np.array(INPUTS, float), np.array(KERNEL, float)
    sums, weights = data @ x, weight @ w
    products = sums * weights
    outputs = result.T @ products
    assert outputs.tolist() == np.convolve(x, w[::-1], "valid").tolist()

    def column(title: str, values: np.ndarray, role: Role) -> Grid:
        return Grid(title, values.reshape(-1, 1), role)

    rows = (
        (
            Grid("data: a row for each product", data, "border"), column("inputs", x, "input"),
            column("sums of inputs", sums, "active"),
        ),
        (
            Grid("weight: a row for each product", weight, "border"), column("kernel", w, "kernel"),
            column("sums of the kernel", weights, "active"),
        ),
        (
            column("one times the other: products", products, "result"),
            Grid("result: a row for each output", result.T, "border"), column("outputs", outputs, "output"),
        ),
    )  # fmt: skip
    captions = (
        "Each sum of inputs is a row of the first matrix times the inputs.",
        "Each sum of the kernel is a row of the second times the kernel, made once for all positions.",
        f"{F23.products} multiplications instead of {F23.outputs * F23.taps}: each output sums products.",
    )
    scenes = [
        Scene("short", str(F23), (Frame(grids, caption),))
        for grids, caption in zip(rows, captions, strict=True)
    ]
    write_whole(folder / "short-matrices.png", lambda beside: beside.write_bytes(png(scenes)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the picture of the guide to short algorithms.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the picture")
    make(parser.parse_args().out)
