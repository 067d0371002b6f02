"""Convolution and transposed convolution as functions.

One implementation serves all six. CPU tensors in float32, float64, bfloat16 and float16 are computed by the
engine; for all others torch's own functions are called with equivalent parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from outstride.engine.dispatch.convolve import convolve
from outstride.engine.dispatch.function import CONV, CONV_TRANSPOSE

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

Ints = int | Sequence[int]
Padding = int | str | Sequence[int | Sequence[int]]


def conv1d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    algorithm: str = "auto",
) -> torch.Tensor:
    """Convolve over one axis: ``conv2d`` with sizes of one number.

    Example:
        >>> conv1d(torch.ones(1, 1, 4), torch.ones(1, 1, 3), padding="same").tolist()
        [[[2.0, 3.0, 3.0, 2.0]]]
    """
    return convolve(
        CONV[1], input, weight, bias, stride, padding, dilation, groups, 0, None, padding_mode, algorithm
    )


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    algorithm: str = "auto",
) -> torch.Tensor:
    """Convolve over two axes.

    Args:
        input: (N, C, H, W) or (C, H, W), any strides.
        weight: (O, C/groups, kH, kW) in the dtype and on the device of ``input``.
        bias: (O,) or None.
        stride, dilation: 1 or more, one number or one per axis.
        padding: a number, one per axis, one (low, high) pair per axis, "valid" (none) or "same" (TensorFlow's
            rule at any stride; the odd element goes to the high side).
        groups: 1 or more; divides both channel counts.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        algorithm: "direct" is one chain of multiply-adds for each output; "auto" may take short algorithms,
            which need fewer: the layer alone decides, whatever its sizes. Derivatives take the same. What
            "auto" is, the environment variable OUTSTRIDE_ALGORITHM may say.

    Returns:
        (N, O, H', W') or (O, H', W'), each size being
        floor((i + low + high - dilation * (k - 1) - 1) / stride) + 1, with "same" ceil(i / stride);
        channels_last as soon as input or weight is.

    Raises:
        ShapeError: sizes or numbers do not fit each other.
        DTypeError: the tensors differ in dtype or device.
        TypeError: an argument is of a type that has no meaning here.

    Law: an output element is one sum in one order, whatever the threads, batch, layout or instruction set.

    Example:
        >>> conv2d(torch.arange(9.0).view(1, 1, 3, 3), torch.arange(4.0).view(1, 1, 2, 2)).tolist()
        [[[[19.0, 25.0], [37.0, 43.0]]]]
    """
    return convolve(
        CONV[2], input, weight, bias, stride, padding, dilation, groups, 0, None, padding_mode, algorithm
    )


def conv3d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    algorithm: str = "auto",
) -> torch.Tensor:
    """Convolve over three axes: ``conv2d`` with sizes of three numbers.

    Example:
        >>> conv3d(torch.ones(1, 1, 3, 3, 3), torch.ones(1, 1, 2, 2, 2), stride=2).tolist()
        [[[[[8.0]]]]]
    """
    return convolve(
        CONV[3], input, weight, bias, stride, padding, dilation, groups, 0, None, padding_mode, algorithm
    )


def conv_transpose1d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    output_size: Sequence[int] | None = None,
    padding_mode: str = "zeros",
    algorithm: str = "auto",
) -> torch.Tensor:
    """Convolve transposed over one axis: ``conv_transpose2d`` with sizes of one number.

    Example:
        >>> conv_transpose1d(torch.ones(1, 1, 4), torch.tensor([[[1.0, 2.0, 3.0]]]), stride=2).tolist()
        [[[1.0, 2.0, 4.0, 2.0, 4.0, 2.0, 4.0, 2.0, 3.0]]]
    """
    return convolve(
        CONV_TRANSPOSE[1],
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        output_padding,
        output_size,
        padding_mode,
        algorithm,
    )


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    output_size: Sequence[int] | None = None,
    padding_mode: str = "zeros",
    algorithm: str = "auto",
) -> torch.Tensor:
    """Convolve transposed over two axes: the exact adjoint of ``conv2d`` in its input.

    Args:
        input: (N, C, H, W) or (C, H, W), any strides.
        weight: (C, O/groups, kH, kW) in the dtype and on the device of ``input``.
        bias: (O,) or None.
        stride, dilation: 1 or more, one number or one per axis.
        padding: what is cut off the output: a number, one per axis, one (low, high) pair per axis, "valid"
            (none) or "same" (output = input * stride; the odd element is cut off the high side).
        output_padding: uncovers more of the output on the high side; below stride or below dilation on every
            axis.
        groups: 1 or more; divides both channel counts.
        output_size: instead of ``output_padding``, the size itself, among those the stride leaves open.
        padding_mode: "zeros", or "reflect", "replicate", "circular": the padding is then not cut off but
            added to where ``conv2d`` with that mode reads it from.
        algorithm: as in ``conv2d``.

    Returns:
        (N, O, H', W') or (O, H', W'), each size being
        (i - 1) * stride - low - high + dilation * (k - 1) + output_padding + 1.

    Raises:
        ShapeError: sizes or numbers do not fit each other.
        DTypeError: the tensors differ in dtype or device.
        TypeError: an argument is of a type that has no meaning here.

    Law: <conv2d(x, w), y> = <x, conv_transpose2d(y, w)> for the same arguments, padding_mode included.

    Example:
        >>> x = torch.arange(4.0).view(1, 1, 2, 2)
        >>> conv_transpose2d(x, x).tolist()
        [[[[0.0, 0.0, 1.0], [0.0, 4.0, 6.0], [4.0, 12.0, 9.0]]]]
    """
    return convolve(
        CONV_TRANSPOSE[2],
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        output_padding,
        output_size,
        padding_mode,
        algorithm,
    )


def conv_transpose3d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    output_size: Sequence[int] | None = None,
    padding_mode: str = "zeros",
    algorithm: str = "auto",
) -> torch.Tensor:
    """Convolve transposed over three axes: ``conv_transpose2d`` with sizes of three numbers.

    Example:
        >>> conv_transpose3d(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 1, 2, 2, 2), padding="same").shape
        torch.Size([1, 1, 1, 1, 1])
    """
    return convolve(
        CONV_TRANSPOSE[3],
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        output_padding,
        output_size,
        padding_mode,
        algorithm,
    )


CONV[1].public, CONV[2].public, CONV[3].public = conv1d, conv2d, conv3d
CONV_TRANSPOSE[1].public = conv_transpose1d
CONV_TRANSPOSE[2].public = conv_transpose2d
CONV_TRANSPOSE[3].public = conv_transpose3d
