"""Learn kernels from pictures: the tutorials' edge detector, then Sobel's and Gauss's from a photograph.

    python examples/learn_kernel.py --out pictures

The layer sees a photograph and what somebody else's filter made of it, and finds the filter. It learns on the
upper half and is judged on the lower. A few seconds on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from scipy.signal import correlate2d
from skimage import data
from torch import Tensor

from outstride import nn, reference
from training import Training, arguments, begin, save

Plane = npt.NDArray[np.float64]
STEPS, QUICK = 40, 8
SOBEL = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])


def gauss(size: int = 5, sigma: float = 1.0) -> Plane:
    """The blur whose weights are a bell of that width, with sum 1."""
    line = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    bell: Plane = np.outer(line, line) / line.sum() ** 2
    return bell


def tutorial() -> None:
    """The picture of two edges: ten steps down the squared error, printed every second."""
    X = torch.ones(6, 8)
    X[:, 2:6] = 0
    Y = torch.from_numpy(reference.corr2d(X.numpy(), [[1.0, -1.0]])).float()
    layer = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    for step in range(10):
        loss = ((layer(X.view(1, 1, 6, 8)) - Y.view(1, 1, 6, 7)) ** 2).sum()
        layer.zero_grad()
        loss.backward()
        assert layer.weight.grad is not None
        layer.weight.data -= 3e-2 * layer.weight.grad
        if (step + 1) % 2 == 0:
            print(f"edges: step {step + 1}, loss {loss.item():.3f}")
    print(f"edges: learned {_rounded(layer.weight.detach().flatten())}, made with [1.0, -1.0]")


@dataclass(frozen=True)
class Learned:
    """One kernel that was learned from a photograph."""

    name: str
    true: Plane
    found: Plane
    losses: list[float]
    target: Plane
    answer: Plane

    @property
    def distance(self) -> float:
        """Largest difference between an element of the kernel and the true one."""
        return float(np.abs(self.found - self.true).max())

    @property
    def psnr_db(self) -> float:
        """Of the answer on the half that was not learned from, the target's range being its peak."""
        error = np.square(self.answer - self.target).mean()
        return float(10 * np.log10(np.ptp(self.target) ** 2 / error))


def learn(name: str, true: Plane, photo: Plane, steps: int, training: Training) -> Learned:
    """Learn one kernel on the upper half of the photograph."""
    upper, lower = np.array_split(photo, 2)
    # SciPy makes the targets, so that the layer learns from something that is not itself.
    X, Y = _tensor(upper), _tensor(correlate2d(upper, true, mode="valid"))
    layer = nn.Conv2d(1, 1, kernel_size=len(true), bias=False, dtype=torch.float64)
    # Neighbouring pixels of a photograph are nearly alike, so the error is a long narrow valley: gradient
    # descent crawls along it, while L-BFGS learns its shape from the gradients it has seen.
    optimiser = torch.optim.LBFGS(
        layer.parameters(), max_iter=5, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def error() -> Tensor:
        optimiser.zero_grad()
        loss: Tensor = (layer(X) - Y).square().mean()
        loss.backward()
        return loss

    def step(_: int) -> float:
        return float(optimiser.step(error).detach())

    losses = training.run(name, steps, step)
    with torch.no_grad():
        answer = layer(_tensor(lower))[0, 0].numpy()
    found = layer.weight.detach()[0, 0].numpy()
    return Learned(name, true, found, losses, correlate2d(lower, true, mode="valid"), answer)


def picture(results: list[Learned], photo: Plane) -> Figure:
    """For each kernel: what it made of the half that was not seen, and the kernel, found and true."""
    figure = Figure(figsize=(15, 2.4 * len(results)), layout="constrained")
    ratios = {"width_ratios": (2, 2, 2, 1, 1)}
    rows = figure.subplots(len(results), 5, squeeze=False, gridspec_kw=ratios)
    for axes, result in zip(rows, results, strict=True):
        shown = {
            "photograph, not learned from": np.array_split(photo, 2)[1],
            f"{result.name}, true": result.target,
            f"learned, {result.psnr_db:.0f} dB": result.answer,
        }
        for ax, (title, values) in zip(axes, shown.items(), strict=False):
            ax.imshow(values, cmap="gray")
            ax.set_title(title)
            ax.set_axis_off()
        most = np.abs(result.true).max()
        for ax, title, kernel in ((axes[3], "true", result.true), (axes[4], "learned", result.found)):
            ax.imshow(kernel, cmap="RdBu", vmin=-most, vmax=most)
            for (i, j), value in np.ndenumerate(kernel):
                ink = "white" if abs(value) > 0.6 * most else "black"
                ax.text(j, i, f"{round(value, 2) + 0.0:.2f}", ha="center", va="center", fontsize=7, color=ink)
            ax.set_title(title)
            ax.set_axis_off()
    return figure


def _tensor(values: Plane) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))[None, None]


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]


def main() -> None:
    """Learn, report and draw."""
    given = arguments("Learn kernels from pictures.", STEPS, QUICK)
    torch.manual_seed(given.seed)
    tutorial()
    photo = data.camera() / 255.0
    training = Training()
    kernels = {"Sobel": SOBEL, "Gauss": gauss()}
    tried = [learn(name, kernel, photo, given.steps, training) for name, kernel in kernels.items()]
    results = [result for result in tried if result.losses]  # after Ctrl-C no other is begun
    for result in results:
        print(f"{result.name}: held-out {result.psnr_db:.1f} dB, kernel within {result.distance:.1e}")
    if results:
        save(picture(results, photo), given.out / "learn_kernel.png")
    training.exit()


if __name__ == "__main__":
    begin(main)
