"""Pooling as functions: torch's, with "same" padding and padding per side.

The windows are pooled by torch's kernels; what is added is a border whose two sides differ, which torch
cannot express, and sentences that say what would be legal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from outstride import geometry
from outstride.engine.dispatch.recording import same_pair
from outstride.engine.dispatch.shapes import check_rank
from outstride.engine.torch_internals import is_tracing, untraced
from outstride.errors import ArgumentError, ShapeError
from outstride.layer.spec import ConvSpec

Ints = int | Sequence[int]
Padding = int | str | Sequence[int | Sequence[int]]
Pairs = tuple[tuple[int, int], ...]

_MAX_POOL: tuple[Any, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVG_POOL: tuple[Any, ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def max_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the largest element of every window over one axis: ``max_pool2d`` with sizes of one number.

    Example:
        >>> max_pool1d(torch.tensor([[1.0, 5.0, 2.0]]), 2, padding="same").tolist()
        [[5.0, 2.0]]
    """
    return _max(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the largest element of every window over two axes, each channel by itself.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size, stride, dilation: 1 or more, one number or one per axis; stride defaults to kernel_size.
        padding: at most half the window: a number, one per axis or one (low, high) pair per axis; or "valid"
            (none) or "same" (TensorFlow's rule). Padding never wins over an element.
        ceil_mode: whether a last window counts that starts inside the input and ends beyond it.
        return_indices: whether to return the places of the elements too, flat in (H, W).

    Returns:
        (N, C, H', W') or (C, H', W'), each size being
        floor((i + low + high - dilation * (k - 1) - 1) / stride) + 1, with "same" ceil(i / stride); with
        return_indices a tuple with the places.

    Raises:
        ShapeError: sizes or numbers do not fit each other.
        TypeError: an argument is of a type that has no meaning here.

    Example:
        >>> max_pool2d(torch.arange(16.0).view(1, 4, 4), 3, stride=2, padding=1).tolist()
        [[[5.0, 7.0], [13.0, 15.0]]]
    """
    return _max(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Take the largest element of every window over three axes: ``max_pool2d`` with sizes of three numbers.

    Example:
        >>> max_pool3d(torch.arange(8.0).view(1, 1, 2, 2, 2), 2).tolist()
        [[[[[7.0]]]]]
    """
    return _max(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
) -> Tensor:
    """Take the mean of every window over one axis: ``avg_pool2d`` with sizes of one number.

    Example:
        >>> avg_pool1d(torch.tensor([[1.0, 5.0, 2.0]]), 2, padding="same").tolist()
        [[3.0, 2.0]]
    """
    return _avg(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
    divisor_override: int | None = None,
) -> Tensor:
    """Take the mean of every window over two axes, each channel by itself.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size, stride: 1 or more, one number or one per axis; stride defaults to kernel_size.
        padding: at most half the window: a number, one per axis or one (low, high) pair per axis; or "valid"
            (none) or "same" (TensorFlow's rule).
        ceil_mode: whether a last window counts that starts inside the input and ends beyond it.
        count_include_pad: whether the mean counts the padding; by default it does, as in torch, but not that
            of "same", as in TensorFlow.
        divisor_override: what every sum is divided by instead of the count.

    Returns:
        (N, C, H', W') or (C, H', W') of the sizes of ``max_pool2d``.

    Raises:
        ShapeError: sizes or numbers do not fit each other.
        TypeError: an argument is of a type that has no meaning here.

    Example:
        >>> avg_pool2d(torch.arange(9.0).view(1, 3, 3), 2, stride=1).tolist()
        [[[2.0, 3.0], [5.0, 6.0]]]
    """
    return _avg(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool | None = None,
    divisor_override: int | None = None,
) -> Tensor:
    """Take the mean of every window over three axes: ``avg_pool2d`` with sizes of three numbers.

    Example:
        >>> avg_pool3d(torch.arange(8.0).view(1, 1, 2, 2, 2), 2).tolist()
        [[[[[3.5]]]]]
    """
    return _avg(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _max(
    nd: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
    dilation: Ints,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    def spec() -> ConvSpec:
        return _spec("max_pool", nd, input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)

    pool = _MAX_POOL[nd - 1]
    if not _needs_border(padding):
        plain = (input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return _by_torch(pool, plain, spec)
    layer, size, pairs, output_size = _bordered(spec(), input)
    if (lows := _symmetric(layer, pairs)) is not None:
        return pool(input, layer.kernel_size, layer.stride, lows, layer.dilation, ceil_mode, return_indices)
    bordered = F.pad(input, _torch_padding(pairs), value=_lowest(input.dtype))
    rest = (layer.kernel_size, layer.stride, 0, layer.dilation, ceil_mode)
    if not return_indices:
        return _cropped(pool(bordered, *rest), output_size)
    values, indices = pool(bordered, *rest, return_indices=True)
    return _cropped(values, output_size), _cropped(_without_border(indices, pairs, size), output_size)


def _avg(
    nd: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool | None,
    divisor: int | None,
) -> Tensor:
    if count_include_pad is None:
        count_include_pad = padding != "same"

    def spec() -> ConvSpec:
        counting = {"count_include_pad": count_include_pad, "divisor_override": divisor}
        return _spec("avg_pool", nd, input, kernel_size, stride, padding, ceil_mode=ceil_mode, **counting)

    pool, rest = _AVG_POOL[nd - 1], () if nd == 1 else (divisor,)
    if not _needs_border(padding):
        plain = (input, kernel_size, stride, padding, ceil_mode, count_include_pad, *rest)
        result: Tensor = _by_torch(pool, plain, spec)
        return result
    layer, size, pairs, output_size = _bordered(spec(), input)
    if (lows := _symmetric(layer, pairs)) is not None:
        means: Tensor = pool(
            input, layer.kernel_size, layer.stride, lows, ceil_mode, count_include_pad, *rest
        )
        return means
    bordered = F.pad(input, _torch_padding(pairs))
    if count_include_pad or divisor is not None:
        return _cropped(
            pool(bordered, layer.kernel_size, layer.stride, 0, ceil_mode, True, *rest), output_size
        )
    # What lies inside is counted by pooling ones.
    inside = torch.ones((1, *size), dtype=input.dtype, device=input.device)
    counts = _cropped(_sums(F.pad(inside, _torch_padding(pairs)), layer), output_size)
    return _cropped(_sums(bordered, layer), output_size) / counts


def _bordered(spec: ConvSpec, input: Tensor) -> tuple[ConvSpec, Any, Pairs, tuple[int, ...] | None]:
    """The layer, and for this input its size, padding and output size; None where all windows count."""
    size: Any = input.shape[-spec.nd :]
    if is_tracing():
        with untraced():
            numbers = tuple(input.shape[-spec.nd :])
            _check(spec, geometry.resolved_padding(spec, numbers), numbers)
        if spec.padding != "same":
            if spec.ceil_mode:
                raise ArgumentError(
                    "'ceil_mode' must be False with padding per side where torch.jit.trace records: got "
                    f"ceil_mode=True with padding={spec.padding}; legal: ceil_mode=False, or torch.export"
                )
            return spec, size, geometry.resolved_padding(spec, numbers), None
        windows = [d * (k - 1) + 1 for d, k in zip(spec.dilation, spec.kernel_size, strict=True)]
        return spec, size, tuple(map(same_pair, size, spec.stride, windows)), None
    pairs = geometry.resolved_padding(spec, tuple(size))
    output_size = _check(spec, pairs, tuple(size))
    # With "same" every window counts; a symbolic size would be pinned by being looked at.
    return spec, size, pairs, None if spec.padding == "same" else output_size


def _check(spec: ConvSpec, pairs: Pairs, size: tuple[int, ...]) -> tuple[int, ...]:
    """The output size of windows that all see an element."""
    output_size = geometry.output_size(spec, size)
    if spec.kind == "max_pool" and any(d > 1 for d in spec.dilation):
        _check_windows(spec, pairs, size)
    return output_size


def _needs_border(padding: Padding) -> bool:
    """Whether the border is one that torch's kernels do not make."""
    if isinstance(padding, str):
        return True
    return isinstance(padding, (tuple, list)) and any(isinstance(entry, (tuple, list)) for entry in padding)


def _by_torch(pool: Callable[..., Any], arguments: tuple[Any, ...], spec: Callable[[], ConvSpec]) -> Any:
    try:
        return pool(*arguments)
    except RuntimeError:
        # What it says is often too short; where the sizes are at fault, ours is raised in its place.
        layer = spec()
        geometry.output_size(layer, tuple(arguments[0].shape[-layer.nd :]))
        raise


def _spec(kind: Any, nd: int, input: Tensor, *arguments: Any, **options: Any) -> ConvSpec:
    try:
        spec = ConvSpec(kind, *arguments, nd=nd, **options)
    except ArgumentError as error:
        # torch's functions raise RuntimeError for numbers that its layers' constructors would not see.
        raise ShapeError(str(error)) from None
    check_rank(f"{kind}{nd}d", nd, input.shape)
    return spec


def _cropped(result: Tensor, output_size: tuple[int, ...] | None) -> Tensor:
    """Leave out windows that ceil_mode lets start in the border on the high side."""
    if output_size is None:
        return result
    for axis, out in enumerate(output_size, result.dim() - len(output_size)):
        if result.shape[axis] != out:
            result = result.narrow(axis, 0, out)
    return result


def _sums(input: Tensor, spec: ConvSpec) -> Tensor:
    """The sum of every window."""
    if spec.nd == 1:  # torch's one-dimensional average takes no divisor
        kernel, stride = (1, *spec.kernel_size), (1, *spec.stride)
        lifted = F.avg_pool2d(input.unsqueeze(-2), kernel, stride, 0, spec.ceil_mode, divisor_override=1)
        return lifted.squeeze(-2)
    pool = _AVG_POOL[spec.nd - 1]
    total: Tensor = pool(input, spec.kernel_size, spec.stride, 0, spec.ceil_mode, divisor_override=1)
    return total


def _symmetric(spec: ConvSpec, pairs: Pairs) -> tuple[int, ...] | None:
    """The padding as torch's kernels take it, if they can."""
    if any(type(low) is not int for low, _ in pairs):
        return None  # recorded, or a symbol
    fits = all(low == high and 2 * low <= k for (low, high), k in zip(pairs, spec.kernel_size, strict=True))
    return tuple(low for low, _ in pairs) if fits else None


def _torch_padding(pairs: Pairs) -> list[int]:
    """The padding as ``F.pad`` takes it: from the last axis on."""
    return [end for pair in reversed(pairs) for end in pair]


def _lowest(dtype: torch.dtype) -> float:
    """What no maximum takes where there is anything else."""
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
    output_size = geometry.output_size(spec, size)
    rows = zip(pairs, size, output_size, spec.kernel_size, spec.stride, spec.dilation, strict=True)
    for (low, _), length, out, k, s, d in rows:
        for start in range(-low, out * s - low, s):
            if not any(0 <= start + tap * d < length for tap in range(k)):
                raise ShapeError(
                    f"'dilation' must leave every window an element of the input: got "
                    f"dilation={spec.dilation} with kernel_size={spec.kernel_size}, padding={spec.padding} "
                    f"for input size {size}; legal: a smaller dilation"
                )
