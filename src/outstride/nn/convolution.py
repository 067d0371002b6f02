"""The convolution layers.

Each is torch's class with the engine mixed in before it, so that whatever asks for torch's class
(initialisers, spectral_norm, quantisation, fusion) finds it.
"""

from __future__ import annotations

from functools import wraps
from inspect import Parameter, signature
from typing import Any

import torch

from outstride import functional
from outstride.layer.arguments import choice
from outstride.layer.shortening import ALGORITHMS
from outstride.nn.kinds import ServedConv, ServedConvTranspose, scripted_as


@scripted_as(torch.nn.Conv1d)
class Conv1d(ServedConv, torch.nn.Conv1d):
    """``torch.nn.Conv1d`` computed here: ``Conv2d`` with sizes of one number.

    Example:
        >>> Conv1d(1, 1, 4, stride=2, padding="same")(torch.ones(1, 1, 9)).shape
        torch.Size([1, 1, 5])
    """

    nd = 1
    function = staticmethod(functional.conv1d)


@scripted_as(torch.nn.Conv2d)
class Conv2d(ServedConv, torch.nn.Conv2d):
    """``torch.nn.Conv2d`` computed here, with "same" padding at any stride and padding per side.

    Args:
        in_channels, out_channels: divisible by ``groups``.
        kernel_size, stride, dilation: 1 or more, one number or one per axis.
        padding: a number, one per axis, one (low, high) pair per axis, "valid" or "same".
        groups, bias, padding_mode, device, dtype: as in torch.
        algorithm: "auto", or "direct": one chain of multiply-adds for each output and each gradient. An
            attribute, too.

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Law: state_dict, initial values and printed form are those of torch's layer.

    Example:
        >>> Conv2d(3, 64, 3, padding=((0, 1), (1, 0)), stride=2)(torch.ones(1, 3, 32, 32)).shape
        torch.Size([1, 64, 16, 16])
    """

    nd = 2
    function = staticmethod(functional.conv2d)


@scripted_as(torch.nn.Conv3d)
class Conv3d(ServedConv, torch.nn.Conv3d):
    """``torch.nn.Conv3d`` computed here: ``Conv2d`` with sizes of three numbers.

    Example:
        >>> Conv3d(1, 2, 3, padding="same", stride=2)(torch.ones(1, 1, 5, 5, 5)).shape
        torch.Size([1, 2, 3, 3, 3])
    """

    nd = 3
    function = staticmethod(functional.conv3d)


@scripted_as(torch.nn.ConvTranspose1d)
class ConvTranspose1d(ServedConvTranspose, torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` computed here: ``ConvTranspose2d`` with sizes of one number.

    Example:
        >>> ConvTranspose1d(1, 1, 16, stride=8, padding=4)(torch.ones(1, 1, 10)).shape
        torch.Size([1, 1, 80])
    """

    nd = 1
    serves = "conv_transpose1d"
    function = staticmethod(functional.conv_transpose1d)


@scripted_as(torch.nn.ConvTranspose2d)
class ConvTranspose2d(ServedConvTranspose, torch.nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` computed here, with "same" padding, padding per side and padding modes.

    Args:
        in_channels, out_channels: divisible by ``groups``.
        kernel_size, stride, dilation: 1 or more, one number or one per axis.
        padding: a number, one per axis, one (low, high) pair per axis, "valid" or "same" (output =
            input * stride).
        output_padding: below stride or below dilation on every axis.
        padding_mode: "zeros", or "reflect", "replicate", "circular": the exact adjoint of ``Conv2d`` with
            that mode.
        groups, bias, device, dtype: as in torch.
        algorithm: "auto" or "direct", as in ``Conv2d``.

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Law: state_dict, initial values and printed form are those of torch's layer.

    Example:
        >>> ConvTranspose2d(64, 32, 3, stride=2, padding="same")(torch.ones(1, 64, 8, 8)).shape
        torch.Size([1, 32, 16, 16])
    """

    nd = 2
    serves = "conv_transpose2d"
    function = staticmethod(functional.conv_transpose2d)


@scripted_as(torch.nn.ConvTranspose3d)
class ConvTranspose3d(ServedConvTranspose, torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` computed here: ``ConvTranspose2d`` with sizes of three numbers.

    Example:
        >>> ConvTranspose3d(1, 1, 2, stride=2)(torch.ones(1, 1, 4, 4, 4)).shape
        torch.Size([1, 1, 8, 8, 8])
    """

    nd = 3
    serves = "conv_transpose3d"
    function = staticmethod(functional.conv_transpose3d)


def _takes_algorithm(cls: Any) -> Any:
    """Let the constructor of a lazy layer, which is torch's, take the algorithm as well."""
    torchs = cls.__init__
    shown = signature(torchs)

    @wraps(torchs)
    def constructor(self: Any, *arguments: Any, algorithm: str = "auto", **named: Any) -> None:
        choice("algorithm", algorithm, ALGORITHMS)
        torchs(self, *arguments, **named)
        self.algorithm = algorithm

    more = Parameter("algorithm", Parameter.KEYWORD_ONLY, default="auto", annotation="str")
    constructor.__signature__ = shown.replace(parameters=[*shown.parameters.values(), more])  # type: ignore[attr-defined]
    cls.__init__ = constructor
    return cls


@_takes_algorithm
class LazyConv1d(torch.nn.LazyConv1d, Conv1d):  # type: ignore[misc]
    """``Conv1d`` that learns ``in_channels`` from its first input."""

    cls_to_become = Conv1d


@_takes_algorithm
class LazyConv2d(torch.nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """``Conv2d`` that learns ``in_channels`` from its first input."""

    cls_to_become = Conv2d


@_takes_algorithm
class LazyConv3d(torch.nn.LazyConv3d, Conv3d):  # type: ignore[misc]
    """``Conv3d`` that learns ``in_channels`` from its first input."""

    cls_to_become = Conv3d


@_takes_algorithm
class LazyConvTranspose1d(torch.nn.LazyConvTranspose1d, ConvTranspose1d):  # type: ignore[misc]
    """``ConvTranspose1d`` that learns ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose1d


@_takes_algorithm
class LazyConvTranspose2d(torch.nn.LazyConvTranspose2d, ConvTranspose2d):  # type: ignore[misc]
    """``ConvTranspose2d`` that learns ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose2d


@_takes_algorithm
class LazyConvTranspose3d(torch.nn.LazyConvTranspose3d, ConvTranspose3d):  # type: ignore[misc]
    """``ConvTranspose3d`` that learns ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose3d
