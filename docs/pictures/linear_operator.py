"""Draw the pictures of the guide to layers as matrices: ``python docs/pictures/linear_operator.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import photograph
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from scipy import linalg
from scipy.sparse.linalg import cg, lsmr

from outstride import ConvOperator, ConvSpec
from outstride.output.files import write_whole

HERE = Path(__file__).resolve().parent
SIDE = 192
NOISE = 0.002
LEVEL = 3e-4
Row = list[tuple[str, np.ndarray]]


def gaussian(size: int, sigma: float) -> np.ndarray:
    """A blur that keeps the brightness: (1, 1, size, size)."""
    row = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / sigma) ** 2)
    row /= row.sum()
    square: np.ndarray = np.outer(row, row)[None, None]
    return square


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(1 / np.mean((picture - truth) ** 2)))


def differences() -> ConvOperator:
    """Each pixel's difference from its right and from its lower neighbour, as a layer."""
    spec = ConvSpec("conv", (2, 2), padding=((0, 1), (0, 1)), padding_mode="replicate")
    return ConvOperator(spec, SIDE, weight=[[[[-1.0, 1], [0, 0]]], [[[-1.0, 0], [1, 0]]]])


def restored(A: ConvOperator, y: np.ndarray) -> np.ndarray:
    """The picture that explains y and is smooth: minimal |A x - y|^2 + LEVEL |D x|^2."""
    D = differences()
    x: np.ndarray = cg(A.T @ A + LEVEL * (D.T @ D), A.T @ y, rtol=1e-6)[0]
    return x


def through(A: ConvOperator, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the layer and a little noise make of a picture, and what the transposed layer makes of that."""
    y = A @ truth + np.random.default_rng(0).normal(0, NOISE, A.shape[0])
    back = A.T @ y
    return y, back * (back @ truth) / (back @ back)  # the brightness that suits it best


def rows() -> list[Row]:
    truth = photograph.grey(SIDE).double().numpy().ravel()
    blur = ConvOperator(
        ConvSpec("conv", (9, 9), padding=4, padding_mode="reflect"), SIDE, weight=gaussian(9, 1.6)
    )
    shrink = ConvOperator(
        ConvSpec("conv", (8, 8), stride=2, padding=3, padding_mode="reflect"), SIDE, weight=gaussian(8, 1.2)
    )

    def named(text: str, picture: np.ndarray) -> tuple[str, np.ndarray]:
        return f"{text}\n{psnr(picture, truth):.1f} dB", picture

    blurred, back = through(blur, truth)
    exact = lsmr(blur, blurred, atol=0, btol=0, maxiter=500)[0]
    first = [
        ("the picture x\n", truth),
        named("blurred, with noise: y", blurred),
        named("transposed layer of y", back),
        named("least squares alone", exact),
        named("least squares, smooth", restored(blur, blurred)),
    ]
    small, back = through(shrink, truth)
    side = shrink.output_shape[1]
    bicubic = F.interpolate(torch.from_numpy(small).view(1, 1, side, side), size=(SIDE, SIDE), mode="bicubic")
    second = [
        ("the picture x\n", truth),
        (f"blurred, every 2nd pixel, noise: y\n{side} x {side}", small),
        named("transposed layer of y", back),
        named("bicubic", bicubic.numpy().ravel()),
        named("least squares, smooth", restored(shrink, small)),
    ]
    return [first, second]


def draw_inverse() -> Figure:
    """The picture, what a layer made of it, and three ways back."""
    pictures = rows()
    figure = Figure(figsize=(12, 5.5), layout="constrained")
    for line, row in zip(figure.subplots(2, 5), pictures, strict=True):
        for ax, (title, values) in zip(line, row, strict=True):
            side = round(values.size**0.5)
            ax.imshow(values.reshape(side, side), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_title(title, fontsize=9)
            ax.axis("off")
    return figure


LAYERS: dict[str, tuple[str, int]] = {
    "Conv2d, kernel 3, padding 1": ("Conv2d(1, 1, 3, padding=1)", 6),
    "stride 2": ("Conv2d(1, 1, 3, stride=2, padding=1)", 6),
    "padding_mode='circular'": ("Conv2d(1, 1, 3, padding=1, padding_mode='circular')", 6),
    "two groups": ("Conv2d(2, 2, 3, padding=1, groups=2)", 4),
    "ConvTranspose2d, kernel 4, stride 2": ("ConvTranspose2d(1, 1, 4, stride=2, padding=1)", 3),
}


def draw_matrices() -> Figure:
    """The matrices of five layers: every weight has a colour of its own."""
    figure = Figure(figsize=(13, 3.1), layout="constrained")
    for ax, (title, (text, size)) in zip(figure.subplots(1, len(LAYERS)), LAYERS.items(), strict=True):
        spec = ConvSpec.parse(text)
        channels = (spec.in_channels or 1, spec.out_channels or 1)
        first, second = channels if spec.kind == "conv_transpose" else channels[::-1]
        shape = (first, second // spec.groups, *spec.kernel_size)
        weight = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
        matrix = ConvOperator(spec, size, weight=weight).to_sparse().toarray()
        ax.imshow(np.where(matrix == 0, np.nan, matrix), cmap="viridis", interpolation="nearest")
        ax.set_title(f"{title}\n{matrix.shape[0]} x {matrix.shape[1]}", fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def draw_spectra() -> Figure:
    """All singular values of layers on 24 x 24."""
    rng = np.random.default_rng(0)
    random = rng.standard_normal((1, 1, 3, 3)) / 3
    square = "conv", (3, 3)
    layers = {
        "blur, sigma 1.6": ConvOperator(ConvSpec("conv", (9, 9), padding=4), 24, weight=gaussian(9, 1.6)),
        "blur, sigma 1.0": ConvOperator(ConvSpec("conv", (9, 9), padding=4), 24, weight=gaussian(9, 1.0)),
        "random 3 x 3": ConvOperator(ConvSpec(*square, padding=1), 24, weight=random),
        "random 3 x 3, 16 channels": ConvOperator(
            ConvSpec(*square, padding=1), 6, weight=rng.standard_normal((16, 16, 3, 3)) / 12
        ),
        "random 4 x 4, stride 2, transposed": ConvOperator(
            ConvSpec("conv_transpose", (4, 4), stride=2, padding=1),
            24,
            weight=rng.standard_normal((1, 1, 4, 4)) / 2,
        ),
    }
    figure = Figure(figsize=(8, 4), layout="constrained")
    ax = figure.subplots()
    for name, operator in layers.items():
        values = linalg.svdvals(operator.to_sparse().toarray())
        ax.semilogy(
            np.arange(len(values)) + 1, values, label=f"{name}: condition {values[0] / values[-1]:.2g}"
        )
    ax.set_xlabel("number of the singular value")
    ax.set_ylabel("singular value")
    ax.legend(fontsize=8)
    ax.grid(alpha=0.3)
    return figure


def main() -> None:
    for name, figure in (
        ("matrices", draw_matrices()),
        ("spectra", draw_spectra()),
        ("inverse", draw_inverse()),
    ):
        path = HERE / f"operator-{name}.png"
        write_whole(path, lambda beside, drawn=figure: drawn.savefig(beside, format="png", dpi=110))
        print(f"saved: {path.name}")  # noqa: T201


if __name__ == "__main__":
    main()
