"""Convolution by hand, padding, stride, channels, 1x1 and pooling, as the tutorials compute them."""

from __future__ import annotations

import torch
from torch import Tensor

from outstride import functional, nn, reference


def by_hand() -> None:
    """Two loops, and the layer that does the same."""
    X = torch.arange(9.0).reshape(3, 3)
    K = torch.arange(4.0).reshape(2, 2)
    print("corr2d(X, K)", reference.corr2d(X.numpy(), K.numpy()).tolist())
    print("corr2d(X, K + 1)", reference.corr2d(X.numpy(), K.numpy() + 1).tolist())
    print("functional.conv2d", functional.conv2d(X.view(1, 1, 3, 3), K.view(1, 1, 2, 2)).tolist())


def sizes() -> None:
    """Padding and stride on an 8 x 8 input."""

    def shape(layer: torch.nn.Module) -> tuple[int, ...]:
        return tuple(layer(torch.rand(1, 1, 8, 8)).shape[2:])

    print("kernel 3, padding 1", shape(nn.Conv2d(1, 1, kernel_size=3, padding=1)))
    print("kernel (5, 3), padding (2, 1)", shape(nn.Conv2d(1, 1, kernel_size=(5, 3), padding=(2, 1))))
    print("kernel 3, padding 1, stride 2", shape(nn.Conv2d(1, 1, kernel_size=3, padding=1, stride=2)))
    layer = nn.Conv2d(1, 1, kernel_size=(3, 5), padding=(0, 1), stride=(3, 4))
    print("kernel (3, 5), padding (0, 1), stride (3, 4)", shape(layer))
    print("Conv2d(3, 64, 3, 1, 1)", tuple(nn.Conv2d(3, 64, 3, 1, 1)(torch.randn(1, 3, 32, 32)).shape))


def corr2d_multi_in(X: Tensor, K: Tensor) -> Tensor:
    """Several input channels: one cross-correlation each, all summed."""
    return torch.stack([_corr2d(x, k) for x, k in zip(X, K, strict=True)]).sum(0)


def corr2d_multi_in_out(X: Tensor, K: Tensor) -> Tensor:
    """Several output channels: one kernel with all input channels for each."""
    return torch.stack([corr2d_multi_in(X, k) for k in K])


def corr2d_multi_in_out_1x1(X: Tensor, K: Tensor) -> Tensor:
    """A 1 x 1 kernel: the channels of every pixel times one matrix."""
    channels, h, w = X.shape
    return (K.reshape(K.shape[0], channels) @ X.reshape(channels, h * w)).reshape(-1, h, w)


def _corr2d(X: Tensor, K: Tensor) -> Tensor:
    return torch.from_numpy(reference.corr2d(X.numpy(), K.numpy())).to(X.dtype)


def channels() -> None:
    """Input channels, output channels and both at a single pixel."""
    X = torch.tensor([[[0.0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]])
    K = torch.tensor([[[0.0, 1], [2, 3]], [[1.0, 2], [3, 4]]])
    print("two input channels", corr2d_multi_in(X, K).tolist())
    K = torch.stack((K, K + 1, K + 2))
    print("three output channels", corr2d_multi_in_out(X, K).tolist())
    print("functional.conv2d", functional.conv2d(X[None], K)[0].tolist())
    torch.manual_seed(0)
    X, K = torch.randn(3, 3, 3), torch.randn(2, 3, 1, 1)
    product, slid = corr2d_multi_in_out_1x1(X, K), functional.conv2d(X[None], K)[0]
    print("1 x 1 kernel is a matrix product", bool((product - slid).abs().sum() < 1e-5))


def pooling() -> None:
    """The largest and the mean of every window."""
    X = torch.arange(9.0).reshape(3, 3)
    print("pool2d(X, (2, 2))", reference.pool2d(X.numpy(), (2, 2)).tolist())
    print("pool2d(X, (2, 2), 'avg')", reference.pool2d(X.numpy(), (2, 2), "avg").tolist())
    X = torch.arange(16.0).reshape(1, 1, 4, 4)
    print("MaxPool2d(3)", nn.MaxPool2d(3)(X).tolist())
    print("MaxPool2d(3, padding=1, stride=2)", nn.MaxPool2d(3, padding=1, stride=2)(X).tolist())
    try:
        nn.MaxPool2d((2, 3), padding=(2, 1), stride=(2, 3))
    except ValueError as refusal:
        print("MaxPool2d((2, 3), padding=(2, 1)) is refused:", refusal)
    layer = nn.MaxPool2d((2, 3), padding=(0, 1), stride=(2, 3))
    print("MaxPool2d((2, 3), padding=(0, 1))", layer(X).tolist())
    both = nn.MaxPool2d(3, padding=1, stride=2)(torch.cat((X, X + 1), 1))
    print("each channel by itself", both.tolist())


def main() -> None:
    """Print every computation."""
    for part in (by_hand, sizes, channels, pooling):
        part()


if __name__ == "__main__":
    main()
