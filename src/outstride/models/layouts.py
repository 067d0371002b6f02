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
from torch.utils import _pytree as pytree

from outstride.models.operation import operator_name, parameters_of

aten = torch.ops.aten


def _contiguous(source: Tensor) -> tuple[int, ...]:
    return torch.empty(source.shape, device="meta").stride()


def _suggested(source: Tensor) -> tuple[int, ...]:
    wanted = suggest_memory_format(source)
    return torch.empty(source.shape, device="meta", memory_format=wanted).stride()


def _contiguous_or_suggested(source: Tensor) -> tuple[int, ...]:
    return _contiguous(source) if source.is_contiguous() else _suggested(source)


_NORMS: dict[str, Callable[[Tensor], tuple[int, ...]]] = {
    "aten.native_layer_norm": _contiguous,
    "aten._transformer_encoder_layer_fwd": _contiguous,
    "aten.native_group_norm": _suggested,
    "aten.native_batch_norm": _contiguous_or_suggested,
}


def as_torch_lays_it_out(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> Any:
    """The result of an operator with the strides that it has on the CPU."""
    first = result[0] if isinstance(result, (tuple, list)) and result else result
    if not isinstance(first, Tensor) or first.dim() == 0:
        return result
    with unset_fake_temporarily():
        strides = _strides(func, args, kwargs, first)
    if strides is None or strides == first.stride():
        return result
    if func is aten.view.default:
        return first.as_strided(first.shape, strides)
    made = torch.empty_strided(first.shape, strides, dtype=first.dtype)
    return made if isinstance(result, Tensor) else type(result)((made, *result[1:]))


def _strides(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor
) -> tuple[int, ...] | None:
    norm = _NORMS.get(operator_name(func))
    if norm is not None:
        return norm(args[0])
    formats = any(parameter.name == "memory_format" for parameter in parameters_of(func))
    if func is not aten.view.default and (torch.Tag.pointwise not in func.tags or formats):
        return None
    operands = [tensor for tensor in pytree.tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
    if func is not aten.view.default and all(
        operand.shape == result.shape and operand.is_contiguous() for operand in operands
    ):  # what TensorIterator looks for first
        return _contiguous(result)
    made = func(*pytree.tree_map_only(Tensor, _bare, args), **pytree.tree_map_only(Tensor, _bare, kwargs))
    strides: tuple[int, ...] | None = made.stride() if isinstance(made, Tensor) else None
    return strides


def _bare(tensor: Tensor) -> Tensor:
    """The same on torch's device without numbers, whose views and elementwise operators are torch's own."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


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
