"""Learning a kernel from an input and an output: the edge detector of the tutorials."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride import kernels, nn, reference


def edges() -> tuple[Tensor, Tensor]:
    """A picture of two edges, and what the kernel (1, -1) makes of it."""
    X = torch.ones(6, 8)
    X[:, 2:6] = 0
    Y = torch.from_numpy(reference.corr2d(X.numpy(), [[1.0, -1.0]])).float()
    return X, Y


def learn(X: Tensor, Y: Tensor, steps: int = 10, rate: float = 3e-2) -> Tensor:
    """Go down the squared error, printing it every second step."""
    layer = nn.Conv2d(1, 1, kernel_size=(1, 2), bias=False)
    for step in range(steps):
        loss = ((layer(X.view(1, 1, 6, 8)) - Y.view(1, 1, 6, 7)) ** 2).sum()
        layer.zero_grad()
        loss.backward()
        grad = layer.weight.grad
        assert grad is not None
        layer.weight.data -= rate * grad
        if (step + 1) % 2 == 0:
            print(f"step {step + 1}, loss {loss.item():.3f}")
    learned: Tensor = layer.weight.detach().reshape(1, 2)
    return learned


def main() -> None:
    """Print the picture, the descent and the kernel."""
    X, Y = edges()
    print("X, first row", X[0].tolist())
    print("Y, first row", Y[0].tolist())
    print("the same kernel on X turned", float(abs(reference.corr2d(X.T.numpy(), [[1.0, -1.0]])).max()))
    torch.manual_seed(0)
    learned = learn(X, Y)
    print("learned", [round(value, 3) for value in learned[0].tolist()])
    # What a layer has learned is looked at as a picture, a tile for each kernel.
    print("a layer's kernels:", kernels(nn.Conv2d(3, 64, kernel_size=11, stride=4)))


if __name__ == "__main__":
    main()
