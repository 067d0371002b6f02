"""The pictures of the second tutorial: kernels that are learned."""

from __future__ import annotations

from pathlib import Path

import cells
import numpy as np
import numpy.typing as npt
import photograph
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from outstride import functional, nn, reference

# The photograph of the page: not made smaller, for every number on the page comes from it.
PAGE = (192, 100, 320, 228)
RATES = ((0.01, "#1f6fb4"), (0.03, "#2b8a3e"), (0.034, "#c8372d"))


def descent() -> Figure:
    """The squared error over the weights of a (1, 2) kernel, and the way of three learning rates on it."""
    X = np.ones((6, 8))
    X[:, 2:6] = 0
    Y = reference.corr2d(X, [[1, -1]])
    patches = np.stack([X[:, :-1].ravel(), X[:, 1:].ravel()], axis=1)
    first, second = np.meshgrid(np.linspace(-1.1, 3.1, 120), np.linspace(-3.1, 1.1, 120))
    errors = ((patches @ np.stack([first.ravel(), second.ravel()]) - Y.reshape(-1, 1)) ** 2).sum(0)
    figure = Figure(figsize=(5.2, 4.4), facecolor="white")
    axes = figure.add_axes((0.14, 0.12, 0.84, 0.86))
    axes.contour(
        first,
        second,
        errors.reshape(first.shape),
        levels=np.geomspace(0.2, 150, 14),
        colors="#bbbbbb",
        linewidths=0.8,
    )
    for rate, colour in RATES:
        weight = np.array([1.4, 0.1])
        path = [weight]
        for _ in range(10):
            weight = weight - rate * 2 * patches.T @ (patches @ weight - Y.ravel())
            path.append(weight)
        axes.plot(*np.array(path).T, "o-", color=colour, ms=4, lw=1.2, label=f"lr={rate}")
    axes.plot(1, -1, "*", color="black", ms=14)
    axes.set_xlabel("weight[0]")
    axes.set_ylabel("weight[1]")
    axes.set_xlim(-1.1, 3.1)
    axes.set_ylim(-3.1, 1.1)
    axes.legend(loc="lower right")
    return figure


def gaussian() -> Tensor:
    i = torch.arange(-2.0, 3.0)
    bell = torch.exp(-(i**2) / 2)
    return torch.outer(bell, bell).div(bell.sum() ** 2).view(1, 1, 5, 5)


def sobel() -> Tensor:
    return torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).view(1, 1, 3, 3)


def stages(true: Tensor, picture: Tensor) -> list[tuple[str, Tensor]]:
    """The kernel before learning, on the way, at the end, by least squares, and the true one."""
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 1, true.shape[-1], bias=False)
    answer = functional.conv2d(picture, true)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    shown = [("start", layer.weight.detach().clone())]
    for step in range(1, 301):
        optimizer.zero_grad()
        F.mse_loss(layer(picture), answer).backward()
        optimizer.step()
        if step in (30, 300):
            shown.append((f"step {step}", layer.weight.detach().clone()))
    columns = F.unfold(picture.double(), true.shape[-1])[0].T
    exact = torch.linalg.lstsq(columns, answer.double().view(-1, 1), driver="gelsd").solution
    return [*shown, ("least squares", exact.float().view_as(true)), ("true", true)]


def photo() -> Figure:
    """Each stage with its numbers, and by how much the worst of them is wrong."""
    picture = photograph.grey(128, PAGE)
    figure = Figure(figsize=(9.6, 4.4), facecolor="white")
    for line, (name, true) in enumerate((("Sobel", sobel()), ("Gaussian", gaussian()))):
        limit = float(true.abs().max()) * 1.3
        for column, (stage, weight) in enumerate(stages(true, picture)):
            axes = figure.add_subplot(2, 5, 1 + 5 * line + column)
            _numbers(axes, weight.squeeze().numpy(), limit)
            wrong = float((weight - true).abs().max())
            axes.set_title(stage if stage == "true" else f"{stage}: wrong by {wrong:.2f}", fontsize=9)
            if column == 0:
                axes.set_ylabel(name, fontsize=10)
    figure.subplots_adjust(0.03, 0.02, 0.995, 0.93, wspace=0.06, hspace=0.22)
    return figure


def _numbers(axes: Axes, kernel: npt.NDArray[np.float32], limit: float) -> None:
    axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)
    size = 30 / len(kernel)
    for (i, j), value in np.ndenumerate(kernel):
        ink = "white" if abs(value) > 0.6 * limit else "black"
        axes.text(j, i, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=size, color=ink)
    axes.set_xticks([])
    axes.set_yticks([])


def make(folder: Path) -> None:
    cells.write(descent(), folder / "learning-descent.png")
    cells.write(photo(), folder / "learning-photo.png")
