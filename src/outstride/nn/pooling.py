"""The pooling layers: torch's, with "same" padding.

The windows are pooled by torch's kernels; what is added is TensorFlow's border, which torch cannot express
where the two sides differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride import geometry
from outstride.errors import ShapeError
from outstride.spec import ConvSpec

Ints = int | Sequence[int]
Padding = int | Sequence[int] | str
Pairs = tuple[tuple[int, int], ...]

_MAX_POOL: tuple[Any, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVG_POOL: tuple[Any, ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


class SameMaxPool:
    """A maximum over windows, with "same" padding; goes before torch's class among the bases."""

    nd: ClassVar[int]
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    return_indices: bool

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
        held = 0 if isinstance(padding, str) else padding
        arguments: tuple[Any, ...] = (kernel_size, stride, held, dilation, return_indices, ceil_mode)
        super().__init__(*arguments)
        if padding == "same":
            self.padding = "same"

    def forward(self, input: Tensor) -> Any:
        """Pool (N, C, *size) or (C, *size): to ceil(size / stride) with padding "same", else as torch."""
        if self.padding != "same":
            return super().forward(input)  # type: ignore[misc]
        spec = ConvSpec.of(self)
        size = input.shape[-self.nd :]
        pairs = geometry.resolved_padding(spec, size)
        _check_windows(spec, pairs, tuple(size))
        pool = _MAX_POOL[self.nd - 1]
        arguments = (spec.kernel_size, spec.stride)
        lows = _symmetric(spec, pairs)
        if lows is not None:
            return pool(input, *arguments, lows, spec.dilation, return_indices=self.return_indices)
        bordered = F.pad(input, _ends(pairs), value=_least(input.dtype))
        result = pool(bordered, *arguments, 0, spec.dilation, return_indices=self.return_indices)
        if not self.return_indices:
            return result
        values, indices = result
        return values, _without_border(indices, pairs, tuple(size))


class SameAvgPool:
    """An average over windows, with "same" padding; goes before torch's class among the bases."""

    nd: ClassVar[int]
    kernel_size: Any
    stride: Any
    padding: Any
    count_include_pad: bool

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        **rest: Any,
    ) -> None:
        ConvSpec(
            "avg_pool",
            kernel_size,
            stride,
            padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=rest.get("divisor_override"),
            nd=self.nd,
        )
        held = 0 if isinstance(padding, str) else padding
        arguments: tuple[Any, ...] = (kernel_size, stride, held, ceil_mode, count_include_pad)
        super().__init__(*arguments, **rest)
        if padding == "same":
            self.padding = "same"

    def forward(self, input: Tensor) -> Tensor:
        """Pool (N, C, *size) or (C, *size): to ceil(size / stride) with padding "same", else as torch."""
        if self.padding != "same":
            result: Tensor = super().forward(input)  # type: ignore[misc]
            return result
        spec = ConvSpec.of(self)
        pairs = geometry.resolved_padding(spec, input.shape[-self.nd :])
        divisor = spec.divisor_override
        lows = _symmetric(spec, pairs)
        if lows is not None:
            return _average(input, spec, lows, self.count_include_pad, divisor)
        bordered = F.pad(input, _ends(pairs))
        if self.count_include_pad or divisor is not None:
            return _average(bordered, spec, 0, True, divisor)
        # What lies inside is counted by pooling ones.
        inside = torch.ones((1, *input.shape[-self.nd :]), dtype=input.dtype, device=input.device)
        return _total(bordered, spec) / _total(F.pad(inside, _ends(pairs)), spec)


def _average(input: Tensor, spec: ConvSpec, padding: Any, counted: bool, divisor: int | None) -> Tensor:
    pool = _AVG_POOL[spec.nd - 1]
    rest = () if spec.nd == 1 else (divisor,)
    result: Tensor = pool(input, spec.kernel_size, spec.stride, padding, False, counted, *rest)
    return result


def _total(input: Tensor, spec: ConvSpec) -> Tensor:
    if spec.nd == 1:  # torch's one-dimensional average takes no divisor
        kernel, stride = (1, *spec.kernel_size), (1, *spec.stride)
        return F.avg_pool2d(input.unsqueeze(-2), kernel, stride, divisor_override=1).squeeze(-2)
    total: Tensor = _AVG_POOL[spec.nd - 1](input, spec.kernel_size, spec.stride, divisor_override=1)
    return total


def _symmetric(spec: ConvSpec, pairs: Pairs) -> tuple[int, ...] | None:
    """The padding as torch's kernels take it, if they can."""
    fits = all(low == high and 2 * low <= k for (low, high), k in zip(pairs, spec.kernel_size, strict=True))
    return tuple(low for low, _ in pairs) if fits else None


def _ends(pairs: Pairs) -> list[int]:
    return [end for pair in reversed(pairs) for end in pair]


def _least(dtype: torch.dtype) -> float:
    return float("-inf") if dtype.is_floating_point else torch.iinfo(dtype).min


def _without_border(indices: Tensor, pairs: Pairs, size: tuple[int, ...]) -> Tensor:
    """Flat indices into the bordered input as flat indices into the input."""
    result, step = torch.zeros_like(indices), 1
    for (low, high), length in zip(reversed(pairs), reversed(size), strict=True):
        whole = low + length + high
        result = result + (indices % whole - low) * step
        indices, step = indices // whole, step * length
    return result


@lru_cache(maxsize=256)
def _check_windows(spec: ConvSpec, pairs: Pairs, size: tuple[int, ...]) -> None:
    """Refuse a dilated window that would see padding alone: it has no maximum."""
    rows = zip(pairs, size, spec.kernel_size, spec.stride, spec.dilation, strict=True)
    for (low, _), length, k, s, d in rows:
        for start in range(-low, (length + s - 1) // s * s - low, s):
            if not any(0 <= start + tap * d < length for tap in range(k)):
                raise ShapeError(
                    f"'dilation' must leave every window an element of the input with padding='same': got "
                    "dilation="
                    f"{spec.dilation} with kernel_size={spec.kernel_size} for input size {size}; legal: a "
                    "smaller "
                    f"dilation"
                )


class MaxPool1d(SameMaxPool, torch.nn.MaxPool1d):
    """``torch.nn.MaxPool1d`` with "same" padding: ``MaxPool2d`` with sizes of one number."""

    nd = 1


class MaxPool2d(SameMaxPool, torch.nn.MaxPool2d):
    """``torch.nn.MaxPool2d`` with "same" padding: an output of ceil(size / stride), as TensorFlow has it.

    Args:
        kernel_size, stride, dilation, return_indices, ceil_mode: as in torch; stride defaults to kernel_size.
        padding: at most half the window, or "same"; padding never wins over an element.

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Example:
        >>> MaxPool2d((4, 1), stride=(2, 1), padding="same")(torch.ones(1, 1, 9, 1)).shape
        torch.Size([1, 1, 5, 1])
    """

    nd = 2


class MaxPool3d(SameMaxPool, torch.nn.MaxPool3d):
    """``torch.nn.MaxPool3d`` with "same" padding: ``MaxPool2d`` with sizes of three numbers."""

    nd = 3


class AvgPool1d(SameAvgPool, torch.nn.AvgPool1d):
    """``torch.nn.AvgPool1d`` with "same" padding: ``AvgPool2d`` with sizes of one number."""

    nd = 1


class AvgPool2d(SameAvgPool, torch.nn.AvgPool2d):
    """``torch.nn.AvgPool2d`` with "same" padding: an output of ceil(size / stride).

    Args:
        kernel_size, stride, ceil_mode, divisor_override: as in torch; stride defaults to kernel_size.
        padding: at most half the window, or "same".
        count_include_pad: whether the average counts the padding; TensorFlow's "same" does not (False).

    Raises:
        ArgumentError: an argument is outside its range; the sentence says what would be legal.

    Example:
        >>> AvgPool2d(2, padding="same", count_include_pad=False)(torch.ones(1, 1, 3, 3)).sum()
        tensor(4.)
    """

    nd = 2

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=divisor_override
        )


class AvgPool3d(SameAvgPool, torch.nn.AvgPool3d):
    """``torch.nn.AvgPool3d`` with "same" padding: ``AvgPool2d`` with sizes of three numbers."""

    nd = 3

    def __init__(
        self,
        kernel_size: Ints,
        stride: Ints | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override=divisor_override
        )
