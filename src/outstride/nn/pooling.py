"""The pooling layers: torch's, with "same" padding and padding per side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from outstride import functional
from outstride.layer.spec import ConvSpec

Ints = int | Sequence[int]
Padding = int | str | Sequence[int | Sequence[int]]


class ServedMaxPool:
    """A maximum over windows; goes before torch's class among the bases."""

    nd: ClassVar[int]
    function: ClassVar[Callable[..., Any]]
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    return_indices: bool
    ceil_mode: bool

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        ConvSpec("max_pool", kernel_size, stride, padding, dilation, ceil_mode=ceil_mode, nd=self.nd)
        held = _for_torch(padding)
        arguments: tuple[Any, ...] = (kernel_size, stride, held, dilation, return_indices, ceil_mode)
        super().__init__(*arguments)
        _hold_padding(self, padding)

    def forward(self, input: Tensor) -> Any:
        """Pool (N, C, *size) or (C, *size)."""
        return self.function(
            *(input, self.kernel_size, self.stride, self.padding, self.dilation),
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class ServedAvgPool:
    """A mean over windows; goes before torch's class among the bases."""

    nd: ClassVar[int]
    function: ClassVar[Callable[..., Any]]
    kernel_size: Any
    stride: Any
    padding: Any
    ceil_mode: bool
    count_include_pad: bool

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool | None = None,
        **rest: Any,
    ) -> None:
        spec = ConvSpec(
            "avg_pool",
            kernel_size,
            stride,
            padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=rest.get("divisor_override"),
            nd=self.nd,
        )
        arguments: tuple[Any, ...] = (
            *(kernel_size, stride, _for_torch(padding), ceil_mode),
            spec.count_include_pad,
        )
        super().__init__(*arguments, **rest)
        _hold_padding(self, padding)

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, *size) or (C, *size)."""
        counting = () if self.nd == 1 else (getattr(self, "divisor_override", None),)
        arguments = (input, self.kernel_size, self.stride, self.padding, self.ceil_mode)
        result: Tensor = self.function(*arguments, self.count_include_pad, *counting)
        return result


def _for_torch(padding: Padding) -> Any:
    """The padding that torch's constructor is given: names and pairs wait outside."""
    named = isinstance(padding, str)
    return 0 if named or any(isinstance(entry, (tuple, list)) for entry in _entries(padding)) else padding


def _hold_padding(layer: Any, padding: Padding) -> None:
    """Put back what torch's constructor was not shown."""
    if padding == "same":
        layer.padding = "same"
    elif not isinstance(padding, str) and _for_torch(padding) is not padding:
        layer.padding = tuple(
            tuple(entry) if isinstance(entry, (tuple, list)) else (entry, entry)
            for entry in _entries(padding)
        )


def _entries(padding: Any) -> tuple[Any, ...]:
    return tuple(padding) if isinstance(padding, (tuple, list)) else ()


class MaxPool1d(ServedMaxPool, torch.nn.MaxPool1d):
    """``torch.nn.MaxPool1d`` with "same" padding: ``MaxPool2d`` with sizes of one number."""

    nd = 1
    function = staticmethod(functional.max_pool1d)


class MaxPool2d(ServedMaxPool, torch.nn.MaxPool2d):
    """``torch.nn.MaxPool2d`` with "same" padding: an output of ceil(size / stride), as TensorFlow has it.

    Args:
        kernel_size, stride, dilation, return_indices, ceil_mode: as in torch; stride defaults to kernel_size.
        padding: at most half the window, a number, one per axis or one (low, high) pair per axis; or "valid"
            or "same". Padding never wins over an element.

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Example:
        >>> MaxPool2d((4, 1), stride=(2, 1), padding="same")(torch.ones(1, 1, 9, 1)).shape
        torch.Size([1, 1, 5, 1])
    """

    nd = 2
    function = staticmethod(functional.max_pool2d)


class MaxPool3d(ServedMaxPool, torch.nn.MaxPool3d):
    """``torch.nn.MaxPool3d`` with "same" padding: ``MaxPool2d`` with sizes of three numbers."""

    nd = 3
    function = staticmethod(functional.max_pool3d)


class AvgPool1d(ServedAvgPool, torch.nn.AvgPool1d):
    """``torch.nn.AvgPool1d`` with "same" padding: ``AvgPool2d`` with sizes of one number."""

    nd = 1
    function = staticmethod(functional.avg_pool1d)


class AvgPool2d(ServedAvgPool, torch.nn.AvgPool2d):
    """``torch.nn.AvgPool2d`` with "same" padding: an output of ceil(size / stride).

    Args:
        kernel_size, stride, ceil_mode, divisor_override: as in torch; stride defaults to kernel_size.
        padding: at most half the window, a number, one per axis or one (low, high) pair per axis; or "valid"
            or "same".
        count_include_pad: whether the average counts the padding; by default it does, as in torch, but not
            that of "same", as in TensorFlow.

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Example:
        >>> AvgPool2d(2, padding="same")(torch.ones(1, 1, 3, 3)).sum()
        tensor(4.)
    """

    nd = 2
    function = staticmethod(functional.avg_pool2d)

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool | None = None,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=divisor_override
        )


class AvgPool3d(ServedAvgPool, torch.nn.AvgPool3d):
    """``torch.nn.AvgPool3d`` with "same" padding: ``AvgPool2d`` with sizes of three numbers."""

    nd = 3
    function = staticmethod(functional.avg_pool3d)

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool | None = None,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=divisor_override
        )
