"""One call of any of the six functions: checked once, remembered, and sent the way its tensors need.

A call is checked once per set of arguments and shapes. Tensors that the engine serves (CPU; float32, float64,
bfloat16, float16) go to its contractions, all others to torch's own functions with equivalent parameters.
"""

from __future__ import annotations

from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.fx import Proxy
from torch.overrides import handle_torch_function

from outstride.engine import borders
from outstride.engine.autograd import contractions
from outstride.engine.dispatch import recording, through_torch
from outstride.engine.dispatch.call import Call, Request, check
from outstride.engine.dispatch.elastic import Elastic
from outstride.engine.dispatch.register import ENGINE_DTYPES
from outstride.engine.launch.bound import Bound
from outstride.engine.launch.kept import OfLayers, keep
from outstride.engine.torch_internals import is_recording, speaks_for_itself, untraced
from outstride.errors import DTypeError

_NARROW = frozenset({torch.bfloat16, torch.float16})
_SERVED_DEVICES = frozenset({"cpu", "meta"})
_MOST_REMEMBERED = 4096
_MOST_FORMS = 7


class _Remembered(NamedTuple):
    """A checked call, the arguments it was checked for, and its bound calls if a contraction is all of it."""

    call: Call
    request: tuple[Any, ...]
    bounds: list[Bound] | None


class _Latest(NamedTuple):
    """The latest bound call with a weight, its arguments, and the calls with them at other sizes."""

    bound: Bound
    request: tuple[Any, ...]
    elastic: Elastic | None


class Kind:
    """One of the six operators and its calls: those checked, those bound, the latest with each weight."""

    def __init__(self, nd: int, transposed: bool) -> None:
        self.nd = nd
        self.transposed = transposed
        #: The public function, told to what stands for a tensor; ``functional`` puts it here.
        self.function: Any = None
        self.contraction = contractions.ConvTranspose if transposed else contractions.Conv
        self.remembered = OfLayers[tuple[Any, ...], _Remembered](_MOST_REMEMBERED)
        self.bounds = OfLayers[tuple[Any, ...], list[Bound]](_MOST_REMEMBERED)
        self.latest: dict[int, _Latest] = {}


CONV = {nd: Kind(nd, False) for nd in (1, 2, 3)}
CONV_TRANSPOSE = {nd: Kind(nd, True) for nd in (1, 2, 3)}


def convolve(
    kind: Kind,
    input: Any,
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
    """Compute one call; the arguments are those of ``outstride.functional``."""
    request = (stride, padding, dilation, groups, output_padding, output_size, padding_mode)
    if is_compiling():
        if speaks_for_itself(input) or speaks_for_itself(weight) or speaks_for_itself(bias):
            return _told(kind, input, weight, bias, request)
        return _carry_out(_checked(kind, input, weight, bias, request), input, weight, bias)
    # 1, 1.0 and True would be one key by value, and only the first is an argument, so arguments are compared
    # by identity; what remembers a call holds the objects, so that an identity stays theirs.
    operands = (input, weight) if bias is None else (input, weight, bias)
    latest = kind.latest.get(id(weight))
    if latest is not None and isinstance(input, Tensor):
        bound, (a, b, c, d, e, f, g), elastic = latest
        if (
            a is stride and b is padding and c is dilation and d is groups and e is output_padding
            and f is output_size and g is padding_mode
        ):  # fmt: skip
            result = bound(*operands)
            if result is None and elastic is not None:
                result = elastic(*operands)
            if result is not None:
                return result  # type: ignore[no-any-return]
    if speaks_for_itself(input) or speaks_for_itself(weight) or speaks_for_itself(bias):
        return _told(kind, input, weight, bias, request)
    if is_recording():
        return _record(kind, input, weight, bias, request)
    try:
        bias_shape = None if bias is None else bias.shape
        key = (input.shape, weight.shape, bias_shape, *map(id, request))
        found = kind.remembered.get(key)
    except (TypeError, AttributeError):  # symbolic sizes, no tensors
        return _carry_out(_checked(kind, input, weight, bias, request), input, weight, bias)
    if found is None:
        found = _remember(kind, key, _checked(kind, input, weight, bias, request), request)
    result = _run_bound(kind, found, *operands)
    return _carry_out(found.call, input, weight, bias) if result is None else result


def _told(kind: Kind, input: Any, weight: Any, bias: Any, request: tuple[Any, ...]) -> Tensor:
    """What stands for a tensor, or runs operators itself, is told of torch's function, which it may know.

    A proxy that ``torch.fx`` traces with is told of ours, so that the traced model stays served.
    """
    operands = [operand for operand in (input, weight, bias) if operand is not None]
    stride, padding, dilation, groups, output_padding, output_size, padding_mode = request
    arguments: tuple[Any, ...] = (stride, padding, dilation, groups)
    if kind.transposed:
        arguments = (stride, padding, output_padding, groups, dilation)
    result: Tensor
    if any(isinstance(operand, Proxy) for operand in operands):
        named = {"padding_mode": padding_mode}
        if kind.transposed:
            named["output_size"] = output_size
        result = handle_torch_function(kind.function, operands, input, weight, bias, *arguments, **named)
        return result
    if through_torch.has(kind.transposed, _named(request)):
        result = through_torch.function(kind.nd, kind.transposed)(input, weight, bias, *arguments)
        return result
    return through_torch.convolve(_checked(kind, input, weight, bias, request), input, weight, bias)


def _remember(kind: Kind, key: tuple[Any, ...], call: Call, request: tuple[Any, ...]) -> _Remembered:
    if not all(map(_is_frozen, request)):
        return _Remembered(call, request, None)
    bounds = None
    if call.batched and not call.bordered:
        alike = (call, *key[:3])  # layers of one form share what is bound
        bounds = kind.bounds.get(alike)
        if bounds is None:
            bounds = kind.bounds.keep((call.geometry, *key[1:3]), alike, [])
    return kind.remembered.keep(key[1:], key, _Remembered(call, request, bounds))


def _run_bound(kind: Kind, remembered: _Remembered, *operands: Tensor) -> Tensor | None:
    """The result by a bound call; None for tensors that must take the way that is open to all."""
    call, request, bounds = remembered
    dtype = operands[0].dtype
    if bounds is None or dtype not in ENGINE_DTYPES or any(tensor.dtype is not dtype for tensor in operands):
        return None
    latest = kind.latest.get(id(operands[1]))
    elastic = None
    if latest is not None and all(map(is_, latest.request, request)):
        elastic = latest.elastic
    for bound in bounds:
        result = bound(*operands)
        if result is not None:
            break
    else:
        made = contractions.bound_call(kind.contraction, call.contracted_size, call.geometry, *operands)
        if made is None:
            return None
        del bounds[:-_MOST_FORMS]
        bounds.append(made)
        elastic = _elastic(kind, remembered, elastic, *operands)
        bound, result = made, made(*operands)
    keep(kind.latest, id(operands[1]), _Latest(bound, request, elastic), _MOST_REMEMBERED)
    return result  # type: ignore[no-any-return]


def _elastic(
    kind: Kind, remembered: _Remembered, elastic: Elastic | None, *operands: Tensor
) -> Elastic | None:
    """The calls at any size, with what this size's call has left ready; None where padding depends on it."""
    call, (*_, output_size, _) = remembered.call, remembered.request
    steps = not call.transposed and any(s > 1 for s in call.stride)
    if output_size is not None or (steps and remembered.request[1] == "same"):
        return None
    if elastic is None or not elastic.recognizes(operands):
        elastic = Elastic(kind.contraction, call, *operands)
    input, weight = operands[:2]
    run = kind.contraction.run(input, weight, call.contracted_size, call.geometry)
    elastic.learn(input, call.contracted_size, run)
    return elastic


def _is_frozen(value: Any) -> bool:
    """Whether a value can never come to say something else under the same identity."""
    return (
        value is None or type(value) in (int, str) or (type(value) is tuple and all(map(_is_frozen, value)))
    )


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


def _record(
    kind: Kind, input: Tensor, weight: Tensor, bias: Tensor | None, request: tuple[Any, ...]
) -> Tensor:
    with untraced():
        call = _checked(kind, input, weight, bias, request)
        kernel = tuple(weight.shape[2:])
    return recording.convolve(call, _named(request), input, weight, bias, kernel)


def _checked(
    kind: Kind, input: Tensor, weight: Tensor, bias: Tensor | None, request: tuple[Any, ...]
) -> Call:
    _check_tensors(input, weight, bias)
    bias_shape = None if bias is None else bias.shape
    return check(kind.nd, kind.transposed, input.shape, weight.shape, bias_shape, _named(request))


def _named(request: tuple[Any, ...]) -> Request:
    stride, padding, dilation, groups, output_padding, output_size, padding_mode = request
    return Request(stride, padding, dilation, groups, output_padding, output_size, padding_mode)


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
        dtype = input.dtype
        if call.bordered:
            if dtype in _NARROW:
                # The border's gradient adds to sums: in float32, so that it is rounded once.
                # The result is the same.
                input, weight, bias = input.float(), weight.float(), None if bias is None else bias.float()
            input = borders.pad(input, call.pairs, call.padding_mode)
        result = contractions.conv(input, weight, bias, *geometry).to(dtype)
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
            result = _add_bias(result, bias, call.nd)
        result = result.to(dtype)
    return result if call.batched else result.squeeze(0)


def _add_bias(result: Tensor, bias: Tensor, nd: int) -> Tensor:
    """Add a bias; one with a gradient by a depthwise convolution with ones, which sums that in one order."""
    if not (torch.is_grad_enabled() and bias.requires_grad):
        return result + bias.reshape(-1, *[1] * nd)
    channels, ones = result.shape[1], (1,) * nd
    weight = torch.ones((channels, 1, *ones), dtype=result.dtype, device=result.device)
    return contractions.conv(result, weight, bias, ones, (0,) * nd, tuple(result.shape[2:]), ones, channels)
