"""Transposed convolution by hand, its parameters, its sizes and output_padding."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride import functional, geometry, nn, reference
from outstride.layer.spec import ConvSpec


def trans_conv(X: Tensor, K: Tensor) -> Tensor:
    """The definition: every element of X lays down the kernel, that many times."""
    h, w = K.shape
    Y = torch.zeros(X.shape[0] + h - 1, X.shape[1] + w - 1)
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            Y[i : i + h, j : j + w] += X[i, j] * K
    return Y


def by_hand() -> None:
    """The stamps, and the layer on four axes with padding and stride."""
    X = K = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    print("trans_conv(X, K)", trans_conv(X, K).tolist())
    print("reference.trans_conv", reference.trans_conv(X.numpy(), K.numpy()).tolist())
    X, K = X.reshape(1, 1, 2, 2), K.reshape(1, 1, 2, 2)
    for options in ({}, {"padding": 1}, {"stride": 2}):
        layer = nn.ConvTranspose2d(1, 1, kernel_size=2, bias=False, **options)  # type: ignore[arg-type]
        layer.weight.data = K
        print(
            f"ConvTranspose2d(1, 1, 2{''.join(f', {k}={v}' for k, v in options.items())})", layer(X).tolist()
        )


def there_and_back() -> None:
    """A layer with the channels swapped restores the shape, where the rounding of the size allows it."""
    conv = nn.Conv2d(10, 20, kernel_size=5, padding=2, stride=3)
    tconv = nn.ConvTranspose2d(20, 10, kernel_size=5, padding=2, stride=3)
    for size in (16, 17):
        X = torch.rand(1, 10, size, size)
        print(f"{size} x {size} and back", tuple(tconv(conv(X)).shape), tconv(conv(X)).shape == X.shape)
    X = torch.rand(1, 10, 17, 17)
    print("with output_size", tuple(tconv(conv(X), output_size=X.shape).shape))


def one_axis() -> None:
    """The four one-dimensional examples."""
    x, weight = torch.ones(1, 1, 4), torch.tensor([[[1.0, 2.0, 3.0]]])
    for options in ({"stride": 1}, {"stride": 2}, {"dilation": 2}, {"padding": 1}):
        layer = nn.ConvTranspose1d(1, 1, kernel_size=3, bias=False, **options)  # type: ignore[arg-type]
        layer.weight.data = weight
        print(f"ConvTranspose1d, {options}", layer(x).flatten().tolist())


def output_padding() -> None:
    """It uncovers more of the same output on the high side; it adds no zeros."""
    x, weight = torch.ones(1, 1, 2), torch.tensor([[[1.0, 2.0, 3.0]]])
    for extra in (0, 1):
        found = functional.conv_transpose1d(x, weight, stride=2, padding=1, output_padding=extra)
        print(f"stride 2, padding 1, output_padding {extra}", found.flatten().tolist())
    try:
        nn.ConvTranspose1d(1, 1, 3, stride=2, output_padding=2)
    except ValueError as refusal:
        print("output_padding 2 is refused:", refusal)
    spec = ConvSpec.parse("ConvTranspose2d(1, 1, 4, stride=2, padding=1)")
    print("size of 16 x 20", geometry.output_size(spec, (16, 20)))


def main() -> None:
    """Print every computation."""
    for part in (by_hand, there_and_back, one_axis, output_padding):
        part()


if __name__ == "__main__":
    main()
