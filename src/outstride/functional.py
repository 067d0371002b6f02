"""Convolution and transposed convolution as functions, in torch's signatures and beyond them.

One implementation serves all six. A call is checked once per set of arguments and shapes and remembered;
tensors that the engine serves (CPU; float32, float64, bfloat16, float16) go to its contractions, all others
to torch's own functions with equivalent parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from outstride import padding as borders
from outstride.errors import DTypeError
from outstride.ops import contractions, through_torch
from outstride.ops.call import Call, Request, check
from outstride.ops.register import ENGINE_DTYPES
from outstride.ops.torch_internals import is_recording, untraced

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]

Ints = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

_NARROW = frozenset({torch.bfloat16, torch.float16})
_SERVED_DEVICES = frozenset({"cpu", "meta"})
_MOST_REMEMBERED = 4096


class _Kind:
    """One of the six operators, and the calls of it that have been checked."""

    def __init__(self, nd: int, transposed: bool) -> None:
        self.nd = nd
        self.transposed = transposed
        self.contraction = contractions.ConvTranspose if transposed else contractions.Conv
        self.remembered: dict[tuple[Any, ...], tuple[Call, tuple[Any, ...]]] = {}


_CONV = {nd: _Kind(nd, False) for nd in (1, 2, 3)}
_CONV_TRANSPOSE = {nd: _Kind(nd, True) for nd in (1, 2, 3)}


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    """Convolve over one axis: ``conv2d`` with sizes of one number.

    Example:
        >>> conv1d(torch.ones(1, 1, 4), torch.ones(1, 1, 3), padding="same").tolist()
        [[[2.0, 3.0, 3.0, 2.0]]]
    """
    return _convolve(_CONV[1], input, weight, bias, stride, padding, dilation, groups, 0, None, padding_mode)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
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
    return _convolve(_CONV[2], input, weight, bias, stride, padding, dilation, groups, 0, None, padding_mode)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
) -> Tensor:
    """Convolve over three axes: ``conv2d`` with sizes of three numbers.

    Example:
        >>> conv3d(torch.ones(1, 1, 3, 3, 3), torch.ones(1, 1, 2, 2, 2), stride=2).tolist()
        [[[[[8.0]]]]]
    """
    return _convolve(_CONV[3], input, weight, bias, stride, padding, dilation, groups, 0, None, padding_mode)


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    output_size: Sequence[int] | None = None,
    padding_mode: str = "zeros",
) -> Tensor:
    """Convolve transposed over one axis: ``conv_transpose2d`` with sizes of one number.

    Example:
        >>> conv_transpose1d(torch.ones(1, 1, 4), torch.tensor([[[1.0, 2.0, 3.0]]]), stride=2).tolist()
        [[[1.0, 2.0, 4.0, 2.0, 4.0, 2.0, 4.0, 2.0, 3.0]]]
    """
    return _convolve(
        _CONV_TRANSPOSE[1],
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
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    output_size: Sequence[int] | None = None,
    padding_mode: str = "zeros",
) -> Tensor:
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
    return _convolve(
        _CONV_TRANSPOSE[2],
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
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    output_size: Sequence[int] | None = None,
    padding_mode: str = "zeros",
) -> Tensor:
    """Convolve transposed over three axes: ``conv_transpose2d`` with sizes of three numbers.

    Example:
        >>> conv_transpose3d(torch.ones(1, 1, 1, 1, 1), torch.ones(1, 1, 2, 2, 2), padding="same").shape
        torch.Size([1, 1, 1, 1, 1])
    """
    return _convolve(
        _CONV_TRANSPOSE[3],
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
    )


def _convolve(
    kind: _Kind,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    output_padding: Any,
    output_size: Any,
    padding_mode: Any,
) -> Tensor:
    request = (stride, padding, dilation, groups, output_padding, output_size, padding_mode)
    if torch.compiler.is_compiling():
        return _carry_out(_checked(kind, input, weight, bias, request), input, weight, bias)
    if is_recording():
        # A recording is to run where this package is not, and on other sizes: it gets torch's operators.
        with untraced():
            call = _checked(kind, input, weight, bias, request)
        return through_torch.convolve(call, input, weight, bias)
    call = _remembered(kind, input, weight, bias, request)
    if call.is_bare and contractions.is_direct(input, weight, bias):
        dtype = input.dtype
        if dtype in ENGINE_DTYPES and weight.dtype is dtype and (bias is None or bias.dtype is dtype):
            contraction = kind.contraction
            return contractions.apply(contraction, input, weight, bias, call.contracted_size, call.geometry)
    return _carry_out(call, input, weight, bias)


def _carry_out(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The way that is open to every tensor: subclasses, wrappers, other dtypes and devices."""
    _check_tensors(input, weight, bias)
    if torch.is_autocast_enabled("cpu"):
        input, weight, bias = (_autocast(tensor) for tensor in (input, weight, bias))
    if weight.dtype != input.dtype or (bias is not None and bias.dtype != input.dtype):
        raise _mismatch("dtype", [str(t.dtype) for t in (input, weight, bias) if t is not None])
    if not _is_served(input, weight, bias):
        return through_torch.convolve(call, input, weight, bias)
    return _contract(call, input, weight, bias)


def _remembered(
    kind: _Kind, input: Tensor, weight: Tensor, bias: Tensor | None, request: tuple[Any, ...]
) -> Call:
    # 1, 1.0 and True would be one key by value, and only the first is an argument, so the key holds
    # identities; the entry holds the objects, so that an identity stays theirs.
    try:
        bias_shape = None if bias is None else bias.shape
        key = (input.shape, weight.shape, bias_shape, *map(id, request))
        found = kind.remembered.get(key)
    except (TypeError, AttributeError):  # symbolic sizes, no tensors
        return _checked(kind, input, weight, bias, request)
    if found is not None:
        return found[0]
    call = _checked(kind, input, weight, bias, request)
    if all(map(_is_frozen, request)):
        if len(kind.remembered) >= _MOST_REMEMBERED:
            kind.remembered.clear()
        kind.remembered[key] = (call, request)
    return call


def _is_frozen(value: Any) -> bool:
    """Whether a value can never come to say something else under the same identity."""
    return (
        value is None or type(value) in (int, str) or (type(value) is tuple and all(map(_is_frozen, value)))
    )


def _checked(
    kind: _Kind, input: Tensor, weight: Tensor, bias: Tensor | None, request: tuple[Any, ...]
) -> Call:
    _check_tensors(input, weight, bias)
    stride, padding, dilation, groups, output_padding, output_size, padding_mode = request
    bias_shape = None if bias is None else bias.shape
    return check(
        kind.nd,
        kind.transposed,
        input.shape,
        weight.shape,
        bias_shape,
        Request(stride, padding, dilation, groups, output_padding, output_size, padding_mode),
    )


def _check_tensors(input: Any, weight: Any, bias: Any) -> None:
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, (Tensor, type(None)) if name == "bias" else Tensor):
            raise TypeError(f"{name!r} must be a tensor: got {type(tensor).__name__}; legal: torch.Tensor")


def _autocast(tensor: Tensor | None) -> Any:
    """Cast as torch's convolutions are cast under ``torch.autocast("cpu")``: floats, but never float64."""
    if tensor is None or tensor.dtype is torch.float64 or not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.get_autocast_dtype("cpu")) if tensor.device.type == "cpu" else tensor


def _is_served(input: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    for tensor in (input, weight) if bias is None else (input, weight, bias):
        if tensor.device.type not in _SERVED_DEVICES or tensor.layout is not torch.strided:
            return False
        if tensor.device != input.device:
            raise _mismatch("device", [str(t.device) for t in (input, weight, bias) if t is not None])
    return input.dtype in ENGINE_DTYPES


def _mismatch(what: str, got: list[str]) -> DTypeError:
    return DTypeError(
        f"'weight' and 'bias' must have the {what} of 'input': got {', '.join(got)}; legal: {got[0]} for all"
    )


def _contract(call: Call, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Give an unbatched input its batch and a convolution its border; fold a transposed one's border back."""
    if not call.batched:
        input = input.unsqueeze(0)
    geometry = (call.stride, call.padding, call.contracted_size, call.dilation, call.groups)
    if not call.transposed:
        if call.bordered:
            input = borders.pad(input, call.pairs, call.padding_mode)
        result = contractions.conv(input, weight, bias, *geometry)
    elif not call.bordered:
        result = contractions.conv_transpose(input, weight, bias, *geometry)
    else:
        dtype = input.dtype
        if dtype in _NARROW:
            # The fold adds to sums: in float32, so that the result is rounded once.
            input, weight, bias = input.float(), weight.float(), None if bias is None else bias.float()
        full = contractions.conv_transpose(input, weight, None, *geometry)
        result = borders.fold(full, call.pairs, call.padding_mode)
        if bias is not None:
            result = result + bias.reshape(-1, *[1] * call.nd)
        result = result.to(dtype)
    return result if call.batched else result.squeeze(0)
