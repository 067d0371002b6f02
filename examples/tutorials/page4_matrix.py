"""Convolution as a matrix, the transposed one as an ordinary one, and why it is not the inverse."""

from __future__ import annotations

import numpy as np
import torch

from outstride import functional, nn, reference
from outstride.convert import to_conv


def kernel2matrix(K: torch.Tensor) -> torch.Tensor:
    """The tutorials' matrix of a 2 x 2 kernel on a 3 x 3 input: the kernel's rows with a gap between."""
    k, W = torch.zeros(5), torch.zeros(4, 9)
    k[:2], k[3:5] = K[0], K[1]
    W[0, :5], W[1, 1:6], W[2, 3:8], W[3, 4:] = k, k, k, k
    return W


def as_a_matrix() -> None:
    """W x is the convolution, W transposed times y the transposed one."""
    X, K = torch.arange(9.0).reshape(3, 3), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    W = kernel2matrix(K)
    print("W", W.int().tolist())
    print(
        "reference.kernel2matrix is the same",
        bool((reference.kernel2matrix(K.numpy(), 3) == W.numpy()).all()),
    )
    Y = functional.conv2d(X.view(1, 1, 3, 3), K.view(1, 1, 2, 2))
    print("W x", (W @ X.reshape(-1)).tolist(), "conv2d", Y.flatten().tolist())
    Z = functional.conv_transpose2d(Y, K.view(1, 1, 2, 2))
    print("W^T y", (W.T @ Y.reshape(-1)).tolist())
    print("conv_transpose2d", Z.flatten().tolist())
    print("4 x 4 input, 3 x 3 kernel", reference.kernel2matrix(np.ones((3, 3)), 4).shape)


def as_a_convolution() -> None:
    """Zeros between the elements, a border, the kernel turned round."""
    torch.manual_seed(0)
    for options in ({}, {"padding": 1}, {"stride": 2, "padding": 1}):
        layer = nn.ConvTranspose2d(2, 3, kernel_size=3, **options)  # type: ignore[arg-type]
        x = torch.randn(1, 2, 4, 4)
        converted = to_conv(layer)
        parts = " -> ".join(name for name, _ in converted.named_children())
        print(f"{options}: {parts}, equal", bool(torch.allclose(converted(x), layer(x), atol=1e-5)))


def not_the_inverse() -> None:
    """The shape comes back, the numbers do not: the least-squares inverse is another matrix."""
    X, K = torch.arange(9.0).reshape(3, 3), torch.arange(4.0).reshape(2, 2)
    Y = reference.corr2d(X.numpy(), K.numpy())
    print("X", X.tolist())
    print("trans_conv(corr2d(X, K), K)", reference.trans_conv(Y, K.numpy()).tolist())
    W = reference.kernel2matrix(K.numpy(), 3)
    print("rank of W", int(np.linalg.matrix_rank(W)), "of", W.shape[1])
    best = np.linalg.pinv(W) @ Y.ravel()
    print("the nearest that can be had", np.round(best.reshape(3, 3), 2).tolist())


def main() -> None:
    """Print every computation."""
    for part in (as_a_matrix, as_a_convolution, not_the_inverse):
        part()


if __name__ == "__main__":
    main()
