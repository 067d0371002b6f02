"""How torch's CPU operators lay their results out, where tensors without numbers are laid out otherwise.

The strides of an axis of size 1 hold no element, yet torch reads the memory format from them, and so do the
operators that come later: a map of one image may count as channels_last or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils import _pytree as pytree

from outstride.models.operation import operator_name, parameters_of

aten = torch.ops.aten
_VIEWS = (aten.view.default, aten._unsafe_view.default)  # noqa: SLF001 - an operator's name
ALWAYS = frozenset({aten.native_layer_norm_backward.default})
"""Operators that a tracer lays out otherwise, whatever the sizes: as what they are given."""
_FORMATS = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)


def _contiguous(source: Tensor) -> tuple[int, ...]:
    return torch.empty(source.shape, device="meta").stride()


def _suggested(source: Tensor) -> tuple[int, ...]:
    wanted = suggest_memory_format(source)
    return torch.empty(source.shape, device="meta", memory_format=wanted).stride()


def _as_it_is_or_suggested(source: Tensor) -> tuple[int, ...]:
    for wanted in _FORMATS:
        if source.is_contiguous(memory_format=wanted):
            return torch.empty(source.shape, device="meta", memory_format=wanted).stride()
    return _suggested(source)


def _preserved(source: Tensor) -> tuple[int, ...] | None:
    is_dense = any(source.is_contiguous(memory_format=known) for known in _FORMATS)
    return source.stride() if is_dense else None


_OF_THE_FIRST: dict[str, Callable[[Tensor], tuple[int, ...] | None]] = {
    "aten.native_layer_norm": _contiguous,
    "aten.native_layer_norm_backward": _contiguous,
    "aten._transformer_encoder_layer_fwd": _contiguous,
    "aten.native_group_norm": _suggested,
    "aten.native_batch_norm": _as_it_is_or_suggested,
    "aten._native_batch_norm_legit": _as_it_is_or_suggested,
    "aten._native_batch_norm_legit_no_training": _as_it_is_or_suggested,
    "aten._prelu_kernel": _preserved,
}


def as_torch_lays_it_out(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Any:
    """The result of an operator with the strides that it has on the CPU."""
    first = result[0] if isinstance(result, (tuple, list)) and result else result
    if not isinstance(first, Tensor) or first.dim() == 0:
        return result
    with unset_fake_temporarily():
        strides = _strides(func, args, kwargs, first)
    if strides is None or _are_same(strides, first.stride()):
        return result
    if func in _VIEWS:
        return first.as_strided(first.shape, strides)
    made = torch.empty_strided(first.shape, strides, dtype=first.dtype)
    return made if isinstance(result, Tensor) else (made, *result[1:])


def _strides(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor
) -> tuple[int, ...] | None:
    found = _OF_THE_FIRST.get(operator_name(func))
    if found is not None:
        return found(args[0])
    if func in _VIEWS:
        return _viewed(args[0].shape, args[0].stride(), result.shape)
    formats = any(parameter.name == "memory_format" for parameter in parameters_of(func))
    if torch.Tag.pointwise not in func.tags or formats:
        return None
    operands = [tensor for tensor in pytree.tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
    form = _of_tensors(func)
    if not all(isinstance(n, int) for tensor in operands for n in (*tensor.shape, *tensor.stride())):
        return _beside_others(form, args, operands, result)
    if all(
        operand.shape == result.shape and operand.is_contiguous() for operand in operands
    ):  # what TensorIterator looks for first
        return _contiguous(result)
    given = map(_bare, parameters_of(form), args)
    made = form(*given, **pytree.tree_map_only(Tensor, _empty, dict(kwargs)))
    strides: tuple[int, ...] | None = made.stride() if isinstance(made, Tensor) else None
    return strides


def _viewed(shape: Sequence[Any], strides: Sequence[Any], sizes: Sequence[Any]) -> tuple[Any, ...] | None:
    """The strides of a view of other sizes, which may be symbols (torch's computeStride)."""
    made, axis = [0] * len(sizes), len(sizes)
    count = behind = 1
    step = strides[-1] if shape else 1
    for place in reversed(range(len(shape))):
        behind = behind * shape[place]
        if place and (_is(shape[place - 1], 1) or _is(strides[place - 1], behind * step)):
            continue  # the next axis outwards lies in one row with this one
        while axis and (not _is(count, behind) or _is(sizes[axis - 1], 1)):
            axis -= 1
            made[axis] = count * step
            count = count * sizes[axis]
        if not _is(count, behind):
            return None
        count = behind = 1
        step = strides[place - 1]
    return None if axis else tuple(made)


def _beside_others(
    form: Any, args: Sequence[Any], operands: Sequence[Tensor], result: Tensor
) -> tuple[Any, ...] | None:
    """The strides of a result of symbols where a number, or a tensor of another size, is among the operands.

    Then TensorIterator takes strides as they are, and those of axes of size 1 stay.
    """
    whole = [
        tensor
        for tensor in operands
        if tensor.dim() == result.dim() and _are_same(tensor.shape, result.shape)
    ]
    numbers = [
        given for given, parameter in zip(args, parameters_of(form), strict=False)
        if str(parameter.type) == "Tensor" and not isinstance(given, Tensor)
    ]  # fmt: skip
    if not whole or (len(whole) == len(operands) and not numbers):
        return None
    strides = whole[0].stride()
    is_kept = all(_are_same(tensor.stride(), strides) for tensor in whole) and any(_is(s, 1) for s in strides)
    return strides if is_kept else None


def _are_same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(map(_is, first, second))


def _is(first: Any, second: Any) -> bool:
    """Whether numbers are equal, whatever their symbols are."""
    return statically_known_true(first == second)


def _of_tensors(func: Any) -> Any:
    """The form of an operator on tensors, as which torch computes that on a tensor and a number."""
    packet, parameters = func.overloadpacket, parameters_of(func)
    of_a_number = "Scalar" in packet.overloads() and func is packet.Scalar and parameters[1].name == "other"
    return packet.Tensor if of_a_number else func


def _empty(tensor: Tensor) -> Tensor:
    """The same on torch's device without numbers, whose elementwise operators are torch's own."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _bare(parameter: Any, given: Any) -> Any:
    """An argument on that device, where a number in the place of a tensor is one, too."""
    if isinstance(given, (int, float, complex)) and str(parameter.type) == "Tensor":
        return torch.empty((), device="meta")
    return pytree.tree_map_only(Tensor, _empty, given)


def laid_out(part: Tensor, shape: Sequence[int], strides: Sequence[int]) -> Tensor:
    """A part of a tensor of that shape and strides, its axes in the same order, with gaps where it has some.

    The whole of it gets just these strides.
    """
    made = strides if tuple(part.shape) == tuple(shape) else _alike(part.shape, shape, strides)
    if part.stride() == tuple(made):
        return part
    repeated = [stride == 0 and size > 1 for size, stride in zip(part.shape, made, strict=True)]
    once = part[tuple(slice(0, 1) if again else slice(None) for again in repeated)]
    memory = part.new_empty(1 + sum(max(n - 1, 0) * s for n, s in zip(part.shape, made, strict=True)))
    memory.as_strided(once.shape, made).copy_(once)
    return memory.as_strided(part.shape, made)


def _alike(part: Sequence[int], shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Strides of a part that tell of the same order and the same gaps."""
    made = [0] * len(shape)
    step = reach = 1
    for axis in sorted(range(len(shape)), key=lambda axis: (strides[axis], shape[axis] > 1, -axis)):
        if strides[axis] == 0:
            continue
        if shape[axis] > 1:
            step += strides[axis] != reach
            reach = strides[axis] * shape[axis]
        made[axis] = step
        step *= max(part[axis], 1)
    return made


def in_order(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether a tensor lies in memory without gaps, the last axis innermost."""
    reach = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != reach:
            return False
        reach *= size
    return True


def order_of(shape: Sequence[int], strides: Sequence[int]) -> tuple[list[int], int]:
    """The axes as they lie in memory, and how many elements lie in a row without a gap."""
    order = sorted(range(len(shape)), key=lambda axis: (-strides[axis], axis))
    row = 1
    for axis in reversed(order):
        if shape[axis] > 1:
            if strides[axis] != row:
                break
            row *= shape[axis]
    return order, row
