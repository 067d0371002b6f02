"""The two kinds of convolution layers: what the three of each share, mixed in before torch's class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: F401  # torch.jit.script looks here for the names of torch's source
from torch import Tensor
from torch.nn.modules.utils import _pair, _single, _triple  # noqa: F401  # as well

from outstride.errors import ArgumentError
from outstride.layer.arguments import choice
from outstride.layer.shortening import ALGORITHMS
from outstride.layer.spec import ConvSpec
from outstride.nn.serving import Served, operands

_OUTPUT_PADDING: Any = torch.nn.ConvTranspose1d._output_padding  # noqa: SLF001  # what others override

Ints = int | Sequence[int]
Padding = int | str | Sequence[int | Sequence[int]]


class _Computed(metaclass=Served):
    """A layer computed by this engine: what both kinds share."""

    algorithm = "auto"  # of layers that were pickled before there was another

    if TYPE_CHECKING:  # torch.jit.script cannot read them
        nd: ClassVar[int]
        function: ClassVar[Callable[..., Tensor]]
        stride: tuple[int, ...]
        padding: Any
        dilation: tuple[int, ...]
        groups: int
        padding_mode: Any

    def extra_repr(self) -> str:
        """The arguments as torch prints them, and what torch has no word for."""
        arguments: str = super().extra_repr()  # type: ignore[misc]
        return arguments if self.algorithm == "auto" else f"{arguments}, algorithm={self.algorithm!r}"

    def __prepare_scriptable__(self) -> Any:
        """Refuse what a script cannot say; torch.jit.script asks."""
        return _scriptable(self)


class ServedConv(_Computed):
    """A convolution layer computed by this engine; goes before torch's class among the bases."""

    transposed = False
    serves = "conv"

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
        *,
        algorithm: str = "auto",
    ) -> None:
        choice("algorithm", algorithm, ALGORITHMS)
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
        self.algorithm = algorithm
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
            algorithm=self.algorithm,
        )


class ServedConvTranspose(_Computed):
    """A transposed convolution layer computed by this engine; goes before torch's class among the bases."""

    transposed = True

    if TYPE_CHECKING:  # torch.jit.script cannot read them
        _output_padding: Callable[..., Any]
        kernel_size: tuple[int, ...]
        output_padding: tuple[int, ...]

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
        *,
        algorithm: str = "auto",
    ) -> None:
        choice("algorithm", algorithm, ALGORITHMS)
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
        self.padding_mode, self.algorithm = padding_mode, algorithm
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
            algorithm=self.algorithm,
        )


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


def scripted_as(stock: Any) -> Callable[[Any], Any]:
    """Let torch.jit.script read torch's functions in the place of a class's own."""

    def prepared(cls: Any) -> Any:
        for name in ("forward", "_conv_forward"):
            if not hasattr(stock, name):
                continue
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
