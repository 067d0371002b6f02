"""The convolution layers.

Each is torch's class with the engine mixed in before it, so that whatever asks for torch's class
(initialisers, spectral_norm, quantisation, fusion) finds it. What the six share stands once, in two mixins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: F401  # torch.jit.script looks here for the names of torch's source
from torch import Tensor
from torch.nn.modules.utils import _pair, _single, _triple  # noqa: F401  # as well

from outstride import functional
from outstride.errors import ArgumentError
from outstride.layer.spec import ConvSpec
from outstride.nn.serving import Served, operands

_OUTPUT_PADDING: Any = torch.nn.ConvTranspose1d._output_padding  # noqa: SLF001  # what others override

Ints = int | Sequence[int]
Padding = int | str | Sequence[int | Sequence[int]]


class ServedConv(metaclass=Served):
    """A convolution layer computed by this engine; goes before torch's class among the bases."""

    transposed = False

    if TYPE_CHECKING:  # torch.jit.script cannot read them
        nd: ClassVar[int]
        function: ClassVar[Callable[..., Tensor]]
        stride: tuple[int, ...]
        padding: Any
        dilation: tuple[int, ...]
        groups: int
        padding_mode: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Padding = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        ConvSpec(
            "conv",
            kernel_size,
            stride,
            padding,
            dilation,
            0,
            groups,
            padding_mode,
            in_channels,
            out_channels,
            nd=self.nd,
        )
        held = _for_torch(padding) if padding != "same" else 0
        super().__init__(  # type: ignore[call-arg]
            in_channels,
            out_channels,
            kernel_size,
            stride,
            held,
            dilation,
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
        )
        _hold_padding(self, padding)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, C, *size) or (C, *size)."""
        weight, bias = operands(self)
        return self._conv_forward(input, weight, bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.function(
            input,
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            padding_mode=self.padding_mode,
        )

    def __prepare_scriptable__(self) -> Any:
        """Refuse what a script cannot say; torch.jit.script asks."""
        return _scriptable(self)


class ServedConvTranspose(metaclass=Served):
    """A transposed convolution layer computed by this engine; goes before torch's class among the bases."""

    transposed = True

    if TYPE_CHECKING:  # torch.jit.script cannot read them
        nd: ClassVar[int]
        function: ClassVar[Callable[..., Tensor]]
        _output_padding: Callable[..., Any]
        kernel_size: tuple[int, ...]
        stride: tuple[int, ...]
        padding: Any
        output_padding: tuple[int, ...]
        dilation: tuple[int, ...]
        groups: int
        padding_mode: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Padding = 0,
        output_padding: Ints = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Ints = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        ConvSpec(
            "conv_transpose",
            kernel_size,
            stride,
            padding,
            dilation,
            output_padding,
            groups,
            padding_mode,
            in_channels,
            out_channels,
            nd=self.nd,
        )
        super().__init__(  # type: ignore[call-arg]
            in_channels,
            out_channels,
            kernel_size,
            stride,
            0 if isinstance(padding, str) else _for_torch(padding),
            output_padding,
            groups,
            bias,
            dilation,
            "zeros",
            device=device,
            dtype=dtype,
        )
        self.padding_mode = padding_mode
        _hold_padding(self, padding)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Convolve transposed.

        Args:
            input: (N, C, *size) or (C, *size).
            output_size: the output's spatial size or whole shape, among those that the stride leaves open;
                stands in for the layer's ``output_padding``.

        Returns:
            (N, O, *output_size) or (O, *output_size).
        """
        weight, bias = operands(self)
        extra: Any = self.output_padding if output_size is None else 0
        if "_output_padding" in self.__dict__ or type(self)._output_padding is not _OUTPUT_PADDING:  # noqa: SLF001  # its own
            # Somebody's own: torch asks it for both.
            numbers = (self.stride, self.padding, self.kernel_size, self.nd, self.dilation)
            extra, output_size = tuple(self._output_padding(input, output_size, *numbers)), None
        return self.function(
            input,
            weight,
            bias,
            self.stride,
            self.padding,
            extra,
            self.groups,
            self.dilation,
            output_size=output_size,
            padding_mode=self.padding_mode,
        )

    def __prepare_scriptable__(self) -> Any:
        """Refuse what a script cannot say; torch.jit.script asks."""
        return _scriptable(self)


def torch_can(layer: Any) -> bool:
    """Whether torch's own layer has all options of a layer."""
    padding = layer.padding
    if any(isinstance(entry, (tuple, list)) for entry in padding):
        return False
    if layer.transposed:
        return layer.padding_mode == "zeros" and not isinstance(padding, str)
    return padding != "same" or all(step == 1 for step in layer.stride)


def _scriptable(layer: Any) -> Any:
    if not torch_can(layer):
        raise ArgumentError(
            f"'layer' must have torch's options alone where torch.jit.script reads it: got {layer!r}; legal: "
            "padding in numbers and a padding_mode that torch has, or torch.jit.trace, torch.export"
        )
    return layer


def _scripted_as(stock: Any) -> Callable[[Any], Any]:
    """Let torch.jit.script read torch's functions in the place of a class's own."""

    def prepared(cls: Any) -> Any:
        for name in ("forward",) if cls.transposed else ("forward", "_conv_forward"):
            own = getattr(cls, name)
            function: Any = FunctionType(own.__code__, own.__globals__, name, own.__defaults__)
            function.__wrapped__, function.__doc__ = getattr(stock, name), own.__doc__
            setattr(cls, name, function)
        return cls

    return prepared


def _for_torch(padding: Padding) -> Any:
    """The padding that torch's constructor is given: pairs wait outside."""
    if isinstance(padding, (tuple, list)) and any(isinstance(entry, (tuple, list)) for entry in padding):
        return 0
    return padding


def _hold_padding(layer: Any, padding: Padding) -> None:
    """Put back what torch's constructor was not shown."""
    if isinstance(padding, str):
        layer.padding = padding
    elif _for_torch(padding) is not padding:
        layer.padding = tuple(
            tuple(entry) if isinstance(entry, (tuple, list)) else (entry, entry)
            for entry in padding  # type: ignore[union-attr]
        )


@_scripted_as(torch.nn.Conv1d)
class Conv1d(ServedConv, torch.nn.Conv1d):
    """``torch.nn.Conv1d`` computed here: ``Conv2d`` with sizes of one number.

    Example:
        >>> Conv1d(1, 1, 4, stride=2, padding="same")(torch.ones(1, 1, 9)).shape
        torch.Size([1, 1, 5])
    """

    nd = 1
    function = staticmethod(functional.conv1d)


@_scripted_as(torch.nn.Conv2d)
class Conv2d(ServedConv, torch.nn.Conv2d):
    """``torch.nn.Conv2d`` computed here, with "same" padding at any stride and padding per side.

    Args:
        in_channels, out_channels: divisible by ``groups``.
        kernel_size, stride, dilation: 1 or more, one number or one per axis.
        padding: a number, one per axis, one (low, high) pair per axis, "valid" or "same".
        groups, bias, padding_mode, device, dtype: as in torch.

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Law: state_dict, initial values and printed form are those of torch's layer.

    Example:
        >>> Conv2d(3, 64, 3, padding=((0, 1), (1, 0)), stride=2)(torch.ones(1, 3, 32, 32)).shape
        torch.Size([1, 64, 16, 16])
    """

    nd = 2
    function = staticmethod(functional.conv2d)


@_scripted_as(torch.nn.Conv3d)
class Conv3d(ServedConv, torch.nn.Conv3d):
    """``torch.nn.Conv3d`` computed here: ``Conv2d`` with sizes of three numbers.

    Example:
        >>> Conv3d(1, 2, 3, padding="same", stride=2)(torch.ones(1, 1, 5, 5, 5)).shape
        torch.Size([1, 2, 3, 3, 3])
    """

    nd = 3
    function = staticmethod(functional.conv3d)


@_scripted_as(torch.nn.ConvTranspose1d)
class ConvTranspose1d(ServedConvTranspose, torch.nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` computed here: ``ConvTranspose2d`` with sizes of one number.

    Example:
        >>> ConvTranspose1d(1, 1, 16, stride=8, padding=4)(torch.ones(1, 1, 10)).shape
        torch.Size([1, 1, 80])
    """

    nd = 1
    function = staticmethod(functional.conv_transpose1d)


@_scripted_as(torch.nn.ConvTranspose2d)
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

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Law: state_dict, initial values and printed form are those of torch's layer.

    Example:
        >>> ConvTranspose2d(64, 32, 3, stride=2, padding="same")(torch.ones(1, 64, 8, 8)).shape
        torch.Size([1, 32, 16, 16])
    """

    nd = 2
    function = staticmethod(functional.conv_transpose2d)


@_scripted_as(torch.nn.ConvTranspose3d)
class ConvTranspose3d(ServedConvTranspose, torch.nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` computed here: ``ConvTranspose2d`` with sizes of three numbers.

    Example:
        >>> ConvTranspose3d(1, 1, 2, stride=2)(torch.ones(1, 1, 4, 4, 4)).shape
        torch.Size([1, 1, 8, 8, 8])
    """

    nd = 3
    function = staticmethod(functional.conv_transpose3d)


class LazyConv1d(torch.nn.LazyConv1d, Conv1d):  # type: ignore[misc]
    """``Conv1d`` that learns ``in_channels`` from its first input."""

    cls_to_become = Conv1d


class LazyConv2d(torch.nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """``Conv2d`` that learns ``in_channels`` from its first input."""

    cls_to_become = Conv2d


class LazyConv3d(torch.nn.LazyConv3d, Conv3d):  # type: ignore[misc]
    """``Conv3d`` that learns ``in_channels`` from its first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(torch.nn.LazyConvTranspose1d, ConvTranspose1d):  # type: ignore[misc]
    """``ConvTranspose1d`` that learns ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(torch.nn.LazyConvTranspose2d, ConvTranspose2d):  # type: ignore[misc]
    """``ConvTranspose2d`` that learns ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(torch.nn.LazyConvTranspose3d, ConvTranspose3d):  # type: ignore[misc]
    """``ConvTranspose3d`` that learns ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose3d
