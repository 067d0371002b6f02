"""Upsampling in networks: sizes of an encoder-decoder, three ways to enlarge, the checkerboard measured."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride import artifacts, geometry, nn


def encoder_decoder() -> None:
    """Down by convolutions, up by transposed ones: every size comes back."""
    down = torch.nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), torch.nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1)
    )
    up = torch.nn.Sequential(
        nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), torch.nn.ReLU(),
        nn.ConvTranspose2d(16, 5, 4, stride=2, padding=1),
    )  # fmt: skip
    x = torch.rand(1, 3, 64, 64)
    print("encoder-decoder", tuple(x.shape), "->", tuple(down(x).shape), "->", tuple(up(down(x)).shape))


def three_ways() -> None:
    """A transposed convolution, unpooling and bilinear enlargement of the same numbers."""
    x = torch.arange(4.0).view(1, 1, 2, 2)
    layer = nn.ConvTranspose2d(1, 1, 2, stride=2, bias=False)
    layer.weight.data = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
    print("transposed convolution", layer(x)[0, 0].tolist())
    pooled, places = nn.MaxPool2d(2, return_indices=True)(torch.arange(16.0).view(1, 1, 4, 4))
    print("unpooling", torch.nn.MaxUnpool2d(2)(pooled, places)[0, 0].tolist())
    print("bilinear", torch.nn.Upsample(scale_factor=2, mode="bilinear")(x)[0, 0].tolist())


def uneven(kernel: int, stride: int, padding: int = 0) -> float:
    """What a layer of equal weights makes of a constant picture, away from the border: rms of the pattern."""
    layer = nn.ConvTranspose2d(1, 1, kernel, stride, padding, bias=False)
    torch.nn.init.ones_(layer.weight)
    with torch.no_grad():
        out: Tensor = layer(torch.ones(1, 1, 48, 48))[..., 12 : 12 + 24 * stride, 12 : 12 + 24 * stride]
    pattern = out - out.mean()
    return float(pattern.square().mean().sqrt() / out.square().mean().sqrt())


def checkerboard() -> None:
    """Where it comes from, that the tutorials' cures do not cure it, and what does."""
    for kernel, stride in ((4, 2), (3, 2), (2, 2)):
        print(f"kernel {kernel}, stride {stride}: uneven {uneven(kernel, stride):.3f}")
    print(f"more padding: {uneven(3, 2, 1):.3f} and {uneven(3, 2, 2):.3f}")
    print(f"a larger stride: kernel 4, stride 3: {uneven(4, 3):.3f}")
    print(f"a smaller kernel: 5, 3: {uneven(5, 2):.3f}, {uneven(3, 2):.3f}")
    torch.manual_seed(0)
    drawn = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
    print(f"even overlap, weights as drawn: {artifacts.ripple(drawn).value:.3f}")
    print(f"ICNR: {artifacts.ripple(artifacts.icnr_(drawn)).value:.3f}")
    print("the best layer for a doubling:", geometry.solve(scale=2)[0].spec)


def main() -> None:
    """Print every computation."""
    for part in (encoder_decoder, three_ways, checkerboard):
        part()


if __name__ == "__main__":
    main()
